"""Funnels by windows, as another engine is asked, against the same funnels by ASOF joins."""

from __future__ import annotations

import random

import pytest

from bizcode import Business, InvalidQuery, ManualClock
from bizcode.engine import Session, facts
from bizcode.engine.funnel_rows import Rows

MAKE = {
    "plain": lambda f: f,
    "within": lambda f: f.within("5d"),
    "split": lambda f: f.by("plan").within("9d"),
    "last": lambda f: f.by("plan", attribution="last"),
    "second": lambda f: f.by("plan", attribution=2).within("3d"),
    "excluding": lambda f: f.exclude("D"),
    "excluding twice": lambda f: f.exclude("D", after=2, before=3).exclude("A", after=1).within("6d"),
    "holding": lambda f: f.hold("plan"),
    "since": lambda f: f.since("20d").until("3d"),
}


@pytest.fixture(scope="module")
def shop():
    rng = random.Random(7)
    with Business(":memory:", clock=ManualClock("2024-03-01"), worker=False) as biz:
        biz.track.batch(
            {
                "event": rng.choice("AABCD"),
                "user": f"u{rng.randrange(40)}",
                "at": 1_706_600_000 + rng.choice([rng.randrange(30), rng.randrange(30 * 24)]) * 3600,
                "data": {"plan": rng.choice(["pro", "free", None])},
            }
            for _ in range(900)
        )
        yield biz


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("steps", [("A",), ("A", "B"), ("A", "B", "C"), ("A", "A", "B", "C")])
def test_both_ways_agree(shop, monkeypatch, make, steps):
    if (make == "second" and len(steps) < 2) or ("excluding" in make and len(steps) < 3):
        pytest.skip("needs more steps")
    funnel = MAKE[make](shop.track.funnel(list(steps)))
    expected = funnel.run()
    monkeypatch.setattr(Session, "asof", False)
    assert funnel.run() == expected


@pytest.mark.parametrize("make", MAKE)
@pytest.mark.parametrize("steps", [("A", "B"), ("A", "B", "C"), ("A", "A", "B", "C")])
def test_attempts_followed_from_step_1_and_from_step_2_agree(shop, monkeypatch, make, steps):
    if "excluding" in make and len(steps) < 3:
        pytest.skip("needs more steps")
    funnel = MAKE[make](shop.track.funnel(list(steps)))
    found = []
    for counts in ((1, 2), (2, 1)):
        monkeypatch.setattr(Rows, "counts", lambda *_, counts=counts: counts)
        found.append((funnel.run(), [funnel.users(n).run() for n in range(1, len(steps) + 1)]))
    assert found[0] == found[1]


@pytest.mark.parametrize("counts", [(1, 2), (2, 1)])
def test_users_whose_names_share_a_hash_are_told_apart(shop, monkeypatch, counts):
    funnel = shop.track.funnel(["A", "B", "C"]).by("plan").within("9d")
    expected = funnel.run(), funnel.users(3).run()
    monkeypatch.setattr(facts, "HASH", "length(u)")
    engine = shop.store.engine
    monkeypatch.setattr(engine, "facts", facts.Facts(engine.connection.cursor(), engine.schema))
    monkeypatch.setattr(Rows, "counts", lambda *_: counts)
    assert (funnel.run(), funnel.users(3).run()) == expected


@pytest.mark.parametrize("make", [name for name in MAKE if "excluding" not in name])
@pytest.mark.parametrize("second", [None, "A", "C"])
def test_both_ways_agree_on_optional_steps(shop, monkeypatch, make, second):
    more = [] if second is None else [shop.step(second).optional()]
    funnel = MAKE[make](shop.track.funnel(["A", shop.step("B").optional(), *more, "D", "C"]))
    expected = funnel.run()
    if more and funnel.plan.window is not None:
        monkeypatch.setattr(Session, "asof", False)
        with pytest.raises(InvalidQuery, match="two optional steps in a row"):
            funnel.run()
        return
    monkeypatch.setattr(Session, "asof", False)
    assert funnel.run() == expected
