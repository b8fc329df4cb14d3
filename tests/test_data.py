# ruff: noqa: PT012 (what happens in a block that ends by an error is what is tested)
"""`biz.data`: a dictionary that lasts, forgets when told, and tells who asks."""

from __future__ import annotations

import threading
from datetime import date
from decimal import Decimal

import pytest
from processes import start, until

from bizcode import Business, InvalidName, InvalidTime, InvalidValue
from bizcode.data import Change


def test_it_is_a_dictionary(biz):
    data = biz.data
    data.set("k", {"a": [1, None]})
    data["d"] = date(2024, 1, 2)
    assert (data.get("k"), data["d"]) == ({"a": [1, None]}, "2024-01-02")
    assert (data.get("nope"), data.get("nope", 7)) == (None, 7)
    assert (data.has("k"), "k" in data, "nope" in data, 7 in data) == (True, True, False, False)
    assert (data.delete("k"), data.delete("k")) == (True, False)
    with pytest.raises(KeyError, match="k"):
        data["k"]
    with pytest.raises(KeyError, match="k"):
        del data["k"]
    data["none"] = None
    assert data.has("none")
    assert data.get("none", 7) is None


def test_it_lasts(tmp_path, clock):
    for n in range(3):
        with Business(tmp_path / "a", clock=clock, worker=False) as biz:
            assert biz.data.get("n", 0) == n
            biz.data["n"] = n + 1


def test_a_value_is_a_copy(biz):
    value = {"a": [1]}
    biz.data["k"] = value
    value["a"].append(2)
    biz.data["k"]["a"].append(3)
    assert biz.data["k"] == {"a": [1]}


def test_ttl_goes_by_the_businesss_clock(biz, clock):
    biz.data.set("k", 1, ttl="1h")
    clock.advance("59m")
    assert biz.data["k"] == 1
    clock.advance("1m")
    assert not biz.data.has("k")
    assert biz.data.get("k", 7) == 7
    assert biz.data.keys().run() == []
    assert biz.data.list().run() == {}
    assert biz.data.delete("k") is False


def test_setting_again_gives_a_new_life(biz, clock):
    for key in ("longer", "for ever"):
        biz.data.set(key, 1, ttl="1h")
    biz.data.set("longer", 2, ttl="3h")
    biz.data.set("for ever", 2)
    clock.advance("2h")
    biz.drain()
    assert biz.data.list().run() == {"for ever": 2, "longer": 2}
    clock.advance("2h")
    biz.drain()
    assert biz.data.list().run() == {"for ever": 2}


def test_what_has_expired_leaves_the_disk(biz, clock):
    biz.data.set("k", "secret", ttl="1h")
    clock.advance("1h")
    biz.drain()
    assert biz.store.log.scan("data") == []
    assert biz.store.log.scan("data-expiry") == []


def test_patterns(biz):
    for key in ("user:1", "user:2", "user:10:x", "userx", "a[1]", "a1", "A1"):
        biz.data[key] = key.upper()
    assert biz.data.keys("user:*").run() == ["user:1", "user:10:x", "user:2"]
    assert biz.data.keys("user:?").run() == ["user:1", "user:2"]
    assert biz.data.list("*x").run() == {"user:10:x": "USER:10:X", "userx": "USERX"}
    assert biz.data.keys("a[1]").run() == ["a[1]"]
    assert biz.data.keys("a1").run() == ["a1"]
    assert biz.data.keys("nope*").run() == []
    assert len(biz.data.keys().run()) == 7


def test_a_watch_is_told_each_change(biz, clock):
    seen = []
    subscription = biz.data.watch(seen.append, "user:*")
    biz.data.set("user:1", 1)
    biz.data.set("other", 1)
    biz.data.set("user:1", 2, ttl="1h")
    biz.data.delete("user:2")
    biz.data.set("user:2", {"a": 1})
    biz.data.delete("user:2")
    biz.drain()
    clock.advance("1h")
    biz.drain()
    biz.drain()
    subscription.unsubscribe()
    biz.data.set("user:1", 9)
    biz.drain()
    assert seen == [
        Change("user:1", None, 1),
        Change("user:1", 1, 2),
        Change("user:2", None, {"a": 1}),
        Change("user:2", {"a": 1}, None),
        Change("user:1", 2, None),
    ]


def test_a_named_watch_goes_on_after_a_restart(tmp_path, clock):
    seen = []
    for n in range(3):
        with Business(tmp_path / "a", clock=clock, worker=False) as biz:
            if n != 1:
                biz.data.watch(lambda change: seen.append(change.after), name="mine")
            biz.data["k"] = n
            biz.drain()
    assert seen == [0, 1, 2]


def test_a_watch_sees_other_processes(tmp_path):
    code = "import sys; from bizcode import Business\nwith Business(sys.argv[1]) as biz: biz.data['k'] = 5"
    seen = []
    with Business(tmp_path / "a") as biz:
        biz.data.watch(seen.append)
        assert start(tmp_path / "a", code=code).wait(30) == 0
        until(lambda: seen)
    assert seen == [Change("k", None, 5)]


def test_a_watch_may_be_async_and_set_in_turn(biz):
    async def double(change):
        biz.data["twice"] = change.after * 2

    biz.data.watch(double, "n")
    biz.data["n"] = 4
    biz.drain()
    assert biz.data["twice"] == 8


def test_changes_in_a_block_are_told_after_its_commit(biz):
    seen = []
    biz.data.watch(seen.append)
    with pytest.raises(RuntimeError), biz.do():
        biz.data["k"] = 1
        raise RuntimeError
    with biz.do():
        biz.data["k"] = 2
        biz.data["k"] = 3
        biz.data.set("t", 1, ttl="1h")
        assert biz.data.keys("*").run() == ["k", "t"]
    biz.drain()
    assert seen == [Change("k", None, 2), Change("k", 2, 3), Change("t", None, 1)]


def test_threads_may_share_it(biz):
    def work(n):
        for i in range(25):
            biz.data[f"{n}:{i}"] = i

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(biz.data.keys().run()) == 100


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda data: data.set("", 1), InvalidName),
        (lambda data: data.set("  ", 1), InvalidName),
        (lambda data: data.set(7, 1), InvalidName),
        (lambda data: data.get(None), InvalidName),
        (lambda data: data.set("k", float("nan")), InvalidValue),
        (lambda data: data.set("k", {"a": [object()]}), InvalidValue),
        (lambda data: data.set("k", b"x"), InvalidValue),
        (lambda data: data.set("k", 1, ttl="soon"), InvalidTime),
        (lambda data: data.set("k", 1, ttl="0s"), InvalidTime),
        (lambda data: data.set("k", 1, ttl="-1h"), InvalidTime),
        (lambda data: data.keys(""), InvalidName),
        (lambda data: data.list(None), InvalidName),
        (lambda data: data.watch(None), InvalidValue),
        (lambda data: data.watch(print, ""), InvalidName),
        (lambda data: data.watch(print, name=" "), InvalidName),
    ],
)
def test_what_cannot_be_is_refused(biz, wrong, error):
    with pytest.raises(error):
        wrong(biz.data)
    assert biz.data.keys().run() == []


def test_the_message_names_the_path(biz):
    with pytest.raises(InvalidValue, match=r"items.*1"):
        biz.data.set("k", {"items": [1, object()]})
    biz.data["money"] = Decimal("1.5")
    assert biz.data["money"] == 1.5
