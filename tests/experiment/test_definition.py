"""What a definition takes, what it refuses, and that it lasts."""

from __future__ import annotations

import math

import pytest

from bizcode import (
    AlreadyExists,
    Business,
    InvalidName,
    InvalidQuery,
    InvalidTime,
    InvalidValue,
    NotFound,
    this,
)

TWO = ["control", "value"]


@pytest.mark.parametrize(
    ("error", "options", "said"),
    [
        (InvalidName, {"name": ""}, "an experiment"),
        (InvalidName, {"name": "  "}, "an experiment"),
        (InvalidName, {"name": 7}, "an experiment"),
        (InvalidValue, {"variants": ["only"]}, "2 variants or more"),
        (InvalidValue, {"variants": []}, "2 variants or more"),
        (InvalidValue, {"variants": ["a", "b", "a"]}, "'a' stands twice"),
        (InvalidName, {"variants": ["a", " "]}, "a variant"),
        (InvalidName, {"variants": ["a", None]}, "a variant"),
        (InvalidValue, {"variants": "ab"}, "list of names"),
        (InvalidValue, {"variants": 3}, "list of names"),
        (InvalidValue, {"weights": [1.0, 0.0]}, "'value' must be a number greater than 0"),
        (InvalidValue, {"weights": [1.5, -0.5]}, "greater than 0"),
        (InvalidValue, {"weights": [0.5, 0.4]}, "sum to 0.9"),
        (InvalidValue, {"weights": [0.5, 0.50001]}, "must sum to 1"),
        (InvalidValue, {"weights": [1.0]}, "1 shares for 2 variants"),
        (InvalidValue, {"weights": [0.5, math.nan]}, "greater than 0"),
        (InvalidValue, {"weights": [True, 0.5]}, "greater than 0"),
        (InvalidValue, {"weights": 0.5}, "list of shares"),
        (InvalidTime, {"duration": "soon"}, "no duration"),
        (InvalidTime, {"duration": "0d"}, "longer than zero"),
        (InvalidValue, {"min_sample_size": 0}, "at least 1"),
        (InvalidValue, {"min_sample_size": 10.5}, "at least 1"),
        (InvalidValue, {"min_sample_size": True}, "at least 1"),
        (InvalidQuery, {"audience": "pro"}, "audience="),
        (InvalidQuery, {"audience": {"plan": {"near": 1}}}, "unknown operator"),
        (InvalidQuery, {"goal": 7}, "an experiment's goal is"),
        (InvalidQuery, {"goal": "Purchase"}, "an experiment's goal is"),
        (InvalidValue, {"autostart": "yes"}, "autostart="),
        (InvalidValue, {"direction": "up"}, "direction="),
        (InvalidValue, {"notify": 1}, "notify="),
    ],
)
def test_refuses(biz, error, options, said):
    options = {"name": "x", "variants": TWO, **options}
    with pytest.raises(error, match=said):
        biz.experiment.define(options.pop("name"), options.pop("variants"), **options)
    assert biz.experiment.list().run() == []


def test_refuses_goals_that_are_no_number_per_user(biz):
    purchase = biz.track.Purchase
    for goal in (
        purchase,
        purchase.events(),
        purchase.count().by("plan"),
        purchase.count().since("7d"),
        purchase.count().since("7d").vs("prev"),
        purchase.max("amount"),
        purchase.percentile(100, "amount"),
        biz.measure.mrr.current(),
        biz.track.ratio("Purchase", "Signup").by("plan"),
        biz.track.ratio("Purchase", "Signup").since("7d"),
    ):
        with pytest.raises(InvalidQuery):
            biz.experiment.define("x", TWO, goal=goal)


def test_weights_may_be_off_by_a_millionth(biz):
    biz.experiment.define("x", ["a", "b", "c"], weights=[0.333333, 0.333333, 0.333333])
    assert biz.experiment("x").info().run().weights == (0.333333,) * 3


def test_weights_are_equal_by_default(biz):
    biz.experiment.define("x", ["a", "b", "c", "d"])
    assert biz.experiment("x").info().run().weights == (0.25,) * 4


def test_the_same_again_changes_nothing(biz):
    def define(**more):
        return biz.experiment.define(
            "x",
            TWO,
            goal=biz.track.ratio("Purchase", "PageView:/pricing"),
            audience=this.plan == "pro",
            duration="14d",
            **more,
        )

    define(autostart=True)
    before = biz.experiment("x").info().run()
    define()
    assert biz.experiment("x").info().run() == before
    assert before.status == "running"


@pytest.mark.parametrize(
    "other",
    [
        {"variants": ["control", "other"]},
        {"weights": [0.4, 0.6]},
        {"goal": "sum"},
        {"audience": {"plan": "free"}},
        {"duration": "15d"},
        {"min_sample_size": 10},
        {"direction": "decrease"},
    ],
)
def test_something_else_under_the_name_is_refused(biz, other):
    if "goal" in other:
        other = {"goal": biz.track.Purchase.sum("amount")}
    biz.experiment.define("x", TWO, goal=biz.track.Purchase.count(), audience={"plan": "pro"}, duration="14d")
    options = {
        "variants": TWO,
        "goal": biz.track.Purchase.count(),
        "audience": {"plan": "pro"},
        "duration": "14d",
        **other,
    }
    with pytest.raises(AlreadyExists, match=next(iter(other))):
        biz.experiment.define("x", **options)


def test_functions_are_not_compared_and_come_back_by_defining_again(tmp_path, clock):
    with Business(tmp_path / "b", clock=clock, worker=False) as first:
        first.experiment.define("x", TWO, audience=lambda u: u.plan == "pro", autostart=True)
        variant = first.experiment("x").assign("u1", plan="pro").run()
    with Business(tmp_path / "b", clock=clock, worker=False) as second:
        experiment = second.experiment("x")
        assert experiment.assign("u1").run() == variant
        with pytest.raises(InvalidQuery, match="define the experiment again"):
            experiment.assign("u2", plan="pro").run()
        second.experiment.define("x", TWO, audience=lambda u: u.plan == "free")
        assert experiment.assign("u2", plan="pro").run() is None
        assert experiment.assign("u2", plan="free").run() in TWO


def test_a_stored_goal_and_audience_need_no_second_definition(tmp_path, clock):
    with Business(tmp_path / "b", clock=clock, worker=False) as first:
        first.experiment.define(
            "x",
            TWO,
            goal=first.track.ratio("Purchase", "PageView:/pricing"),
            audience=(this.plan == "pro") | ~this.age.between(10, 20) & this.tags.in_(["a", 1]),
            autostart=True,
        )
    with Business(tmp_path / "b", clock=clock, worker=False) as second:
        experiment = second.experiment("x")
        variant = experiment.assign("u1", plan="pro").run()
        assert variant in TWO
        assert experiment.assign("u2", plan="free", age=15, tags="a").run() is None
        assert experiment.assign("u2", plan="free", age=25, tags=1).run() in TWO
        second.track.Purchase(user_id="u1")
        assert experiment.results().run().variants[variant].conversions == 1


def test_a_goal_with_a_function_is_asked_for_again(tmp_path, clock):
    def goal(biz):
        return biz.track.Purchase.where(lambda e: e.amount > 10).count()

    with Business(tmp_path / "b", clock=clock, worker=False) as first:
        first.experiment.define("x", TWO, goal=goal(first), autostart=True)
        variant = first.experiment("x").assign("u1").run()
        first.track.Purchase(user_id="u1", amount=5)
        first.track.Purchase(user_id="u1", amount=15)
        assert first.experiment("x").results().run().variants[variant].mean == 1
    with Business(tmp_path / "b", clock=clock, worker=False) as second:
        with pytest.raises(InvalidQuery, match="function"):
            second.experiment("x").results().run()
        second.experiment.define("x", TWO, goal=goal(second))
        assert second.experiment("x").results().run().variants[variant].mean == 1


def test_list_is_in_order_of_definition_and_by_status(biz, clock):
    for name in ("z", "a", "m"):
        biz.experiment.define(name, TWO, autostart=name == "a")
        clock.advance("1m")
    assert [info.name for info in biz.experiment.list()] == ["z", "a", "m"]
    assert [info.name for info in biz.experiment.list(status="running")] == ["a"]
    assert [info.name for info in biz.experiment.list(status="draft")] == ["z", "m"]
    with pytest.raises(InvalidValue, match="draft, running, paused, stopped, graduated"):
        biz.experiment.list(status="active")


def test_info_says_what_it_is(biz):
    biz.experiment.define(
        "x",
        TWO,
        goal=biz.track.Purchase.sum("amount"),
        duration="14d",
        min_sample_size=50,
        autostart=True,
        audience=lambda u: True,
    )
    info = biz.experiment("x").info().run()
    assert (info.name, info.status, info.variants, info.weights) == ("x", "running", tuple(TWO), (0.5, 0.5))
    assert (info.goal, info.duration, info.min_sample_size) == (
        "sum of amount of Purchase per user",
        "14d",
        50,
    )
    assert info.started == biz.now()
    assert (info.ends - info.started).days == 14
    assert info.ended is None


def test_an_unknown_name_raises_notfound_and_a_blank_one_invalidname(biz):
    unknown = biz.experiment("nope")
    for ask in (
        unknown.assign("u1").run,
        unknown.info().run,
        unknown.results().run,
        unknown.start,
        unknown.pause,
        unknown.stop,
        lambda: unknown.graduate("a"),
        lambda: unknown.activate("u1"),
        lambda: biz.track.Purchase({"user_id": "u1"}, experiment="nope"),
    ):
        with pytest.raises(NotFound, match="nope"):
            ask()
    with pytest.raises(InvalidName):
        biz.experiment(" ")
    assert biz.track.Purchase.count().run() == 0


def test_power_is_the_pooled_normal_approximation(biz):
    assert biz.experiment.power(baseline=0.1, mde=0.02, alpha=0.05, power=0.8) == 3841
    assert biz.experiment.power(baseline=0.1, mde=0.2, relative=True) == 3841
    assert biz.experiment.power(baseline=0.1, mde=-0.02) < biz.experiment.power(baseline=0.1, mde=0.02)
    for wrong in (
        {"baseline": 0, "mde": 0.1},
        {"baseline": 1.2, "mde": 0.1},
        {"baseline": 0.1, "mde": 0},
        {"baseline": 0.9, "mde": 0.2},
        {"baseline": 0.1, "mde": 0.02, "alpha": 0},
        {"baseline": 0.1, "mde": 0.02, "power": 1},
        {"baseline": "x", "mde": 0.02},
    ):
        with pytest.raises(InvalidValue):
            biz.experiment.power(**wrong)
