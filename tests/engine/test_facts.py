"""What is remembered of sealed files, and of the users in them and beside them."""

from __future__ import annotations

import pytest

from bizcode.engine import facts


@pytest.fixture(params=[False, True], ids=["unsealed", "sealed"])
def shop(request, biz):
    """A business and what brings its records to where they are read from."""

    def settle():
        if request.param:
            biz.store.segments.seal()

    biz.settle = settle
    return biz


def told_apart(biz, names=None):
    with biz.store.engine.session() as session:
        return session.engine.facts.hash_tells_users_apart(session, names)


def whole_milliseconds(biz, names=None):
    with biz.store.engine.session() as session:
        return session.engine.facts.whole_milliseconds(session, names)


def known(biz):
    engine = biz.store.engine
    return {user for (user,) in engine.connection.execute(f"SELECT u FROM {engine.schema}.names").fetchall()}


def test_users_with_hashes_of_their_own_are_told_apart(shop):
    for n in range(20):
        shop.track.P(user_id=f"u{n % 7}")
    shop.track.P()
    shop.settle()
    assert told_apart(shop)
    assert known(shop) == {f"u{n}" for n in range(7)}


def test_users_that_come_later_are_looked_at_too(shop, monkeypatch):
    monkeypatch.setattr(facts, "HASH", "length(u)")
    shop.track.P(user_id="a")
    shop.settle()
    assert told_apart(shop)
    shop.track.Q(user_id="bb")
    shop.settle()
    assert told_apart(shop)
    shop.track.Q(user_id="b")
    shop.settle()
    assert not told_apart(shop)


def test_the_name_that_merged_ids_count_under_is_looked_at_though_no_record_has_it(shop, monkeypatch):
    monkeypatch.setattr(facts, "HASH", "length(u)")
    shop.track.P(user_id="a")
    shop.track.P(user_id="bb")
    shop.settle()
    assert told_apart(shop)
    shop.identify("bb", "c")
    assert not told_apart(shop)


def test_users_of_what_a_transaction_has_not_committed_are_looked_at(shop, monkeypatch):
    monkeypatch.setattr(facts, "HASH", "length(u)")
    shop.track.P(user_id="a")
    shop.settle()
    with shop.do():
        shop.track.P(user_id="b")
        assert not told_apart(shop)


def test_a_forgotten_user_is_forgotten_here(shop):
    shop.track.P(user_id="a")
    shop.track.P(user_id="b")
    shop.settle()
    assert told_apart(shop)
    shop.forget("a")
    assert told_apart(shop)
    assert known(shop) == {"b"}


def test_more_users_than_are_kept_at_hand_are_not_vouched_for(shop, monkeypatch):
    monkeypatch.setattr(facts, "MOST_NAMES", 3)
    for user in "abcd":
        shop.track.P(user_id=user)
    shop.settle()
    assert not told_apart(shop)
    assert known(shop) == set()


def test_times_are_whole_milliseconds_or_not(shop):
    shop.track.P({}, at=1_700_000_000.123)
    shop.track.Q({}, at=1_700_000_000.123456)
    shop.settle()
    assert whole_milliseconds(shop, ["P"])
    assert not whole_milliseconds(shop, ["P", "Q"])
    assert not whole_milliseconds(shop)
    with shop.do():
        shop.track.P({}, at=1_700_000_000.123456)
        assert not whole_milliseconds(shop, ["P"])


def test_a_file_is_asked_once(shop):
    shop.track.P({"user_id": "a"}, at=1_700_000_000)
    shop.store.segments.seal()
    assert told_apart(shop)
    assert whole_milliseconds(shop)
    for segment in shop.store.segments.catalog().segments:
        shop.store.segments.place.local(segment.file).unlink()
    assert told_apart(shop)
    assert whole_milliseconds(shop)


def test_a_moment_that_began_earlier_is_looked_at_too(biz, monkeypatch):
    monkeypatch.setattr(facts, "HASH", "length(u)")
    biz.track.P(user_id="a")
    engine = biz.store.engine
    with engine.session() as before:
        biz.store.segments.seal()
        biz.track.Q(user_id="bb")
        assert told_apart(biz, ["Q"])
        assert told_apart(biz, ["P"])
        assert engine.facts.hash_tells_users_apart(before, ["P"])
    assert known(biz) == {"a", "bb"}


def test_users_of_a_moment_that_began_earlier_are_looked_at_though_later_rows_were(biz, monkeypatch):
    monkeypatch.setattr(facts, "HASH", "length(u)")
    biz.track.P(user_id="a")
    biz.track.P(user_id="b")
    engine = biz.store.engine
    with engine.session() as before:
        biz.store.segments.seal()
        biz.track.Q(user_id="cc")
        assert told_apart(biz, ["Q"])
        assert not engine.facts.hash_tells_users_apart(before, ["P"])


def test_users_once_found_to_share_a_hash_share_it_whatever_comes_later(shop, monkeypatch):
    monkeypatch.setattr(facts, "HASH", "length(u)")
    shop.track.P(user_id="a")
    shop.track.P(user_id="b")
    shop.settle()
    shop.track.Q(user_id="cc")
    shop.settle()
    shop.track.R(user_id="ddd")
    assert not told_apart(shop)
    assert not told_apart(shop)
