"""Who is in an experiment."""

from __future__ import annotations

from datetime import date

import pytest

from bizcode import InvalidValue, this

TWO = ["control", "value"]


@pytest.mark.parametrize(
    "audience",
    [
        lambda u: u.plan == "free" and u["age"] >= 18,
        {"plan": "free", "age": {"gte": 18}},
        (this.plan == "free") & (this.age >= 18),
    ],
    ids=["function", "mapping", "this"],
)
def test_all_three_forms_mean_the_same(biz, audience):
    experiment = biz.experiment.define("x", TWO, audience=audience, autostart=True)
    assert experiment.assign("u1", plan="free", age=18).run() in TWO
    assert experiment.assign("u2", {"plan": "free", "age": 30}).run() in TWO
    assert experiment.assign("u3", plan="free", age=17).run() is None
    assert experiment.assign("u4", plan="pro", age=30).run() is None
    assert experiment.assign("u5", plan="free").run() is None
    assert experiment.assign("u6").run() is None


def test_known_properties_come_from_the_users_newest_events(biz, clock):
    experiment = biz.experiment.define("x", TWO, audience=lambda u: u.plan == "pro", autostart=True)
    biz.track.Signup(user_id="u1", plan="free", source="google")
    assert experiment.assign("u1").run() is None
    clock.advance("1h")
    biz.track.Upgrade(user_id="u1", plan="pro")
    assert experiment.assign("u1").run() in TWO
    assert experiment.assign("u2").run() is None


def test_given_properties_win_over_known_ones(biz):
    experiment = biz.experiment.define("x", TWO, audience=this.plan == "pro", autostart=True)
    biz.track.Signup(user_id="u1", plan="free")
    assert experiment.assign("u1", plan="pro").run() in TWO
    biz.track.Signup(user_id="u2", plan="pro")
    assert experiment.assign("u2", plan="free").run() is None


def test_known_properties_are_those_of_the_merged_user(biz):
    experiment = biz.experiment.define("x", TWO, audience=this.plan == "pro", autostart=True)
    biz.track.Signup(user_id="anon", plan="pro")
    biz.identify("anon", "u1")
    assert experiment.assign("u1").run() in TWO


def test_who_was_let_in_stays_in_until_the_properties_say_otherwise(biz):
    experiment = biz.experiment.define("x", TWO, audience=this.plan == "free", autostart=True)
    variant = experiment.assign("u1", plan="free").run()
    assert experiment.assign("u1").run() == variant
    assert experiment.assign("u1", plan="pro").run() is None


def test_a_function_that_meets_a_missing_property_means_no(biz):
    experiment = biz.experiment.define(
        "x", TWO, audience=lambda u: u.created_at > "2024-01-01", autostart=True
    )
    assert experiment.assign("u1", plan="free").run() is None
    assert experiment.assign("u1", created_at=date(2024, 2, 1)).run() in TWO


def test_another_error_in_the_function_is_the_callers(biz):
    experiment = biz.experiment.define("x", TWO, audience=lambda u: len(u.age) > 1, autostart=True)
    with pytest.raises(TypeError):
        experiment.assign("u1", age=1).run()


def test_a_comparison_with_another_type_means_no(biz):
    experiment = biz.experiment.define("x", TWO, audience=lambda u: u.age > 18, autostart=True)
    assert experiment.assign("u1", age="old").run() is None
    assert experiment.assign("u1", age=19).run() in TWO


def test_a_user_outside_is_tracked_without_attribution(biz):
    biz.experiment.define("x", TWO, audience={"plan": "free"}, autostart=True)
    assert biz.track.Purchase({"user_id": "u1", "plan": "pro"}, experiment="x").experiments == {}
    assert biz.track.Purchase({"user_id": "u1", "plan": "free"}, experiment="x").experiments["x"] in TWO
    assert biz.track.Purchase({"plan": "free"}, experiment="x").experiments == {}


@pytest.mark.parametrize("user", ["", "  ", None, True, 1.5, ["u"]])
def test_a_user_is_named_by_text(biz, pricing, user):
    with pytest.raises(InvalidValue, match="user"):
        pricing.assign(user)
    with pytest.raises(InvalidValue, match="user"):
        pricing.activate(user)


def test_properties_that_cannot_be_stored_are_refused(biz, pricing):
    with pytest.raises(InvalidValue, match="score"):
        pricing.assign("u1", score=float("nan"))
