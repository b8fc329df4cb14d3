"""What is called, who wins, what is warned of, and how it is shown."""

from __future__ import annotations

import pytest
from scipy import stats

from bizcode import BizError, InvalidQuery
from bizcode.experiment.assignment import Assignment

TWO = ["control", "value"]


def fill(biz, experiment, users, rates, *, goal="Purchase", split=None, prefix="u", value=None):
    """Users of each variant, and how many of them do the goal."""
    name = experiment.name
    split = split or Assignment(name, list(rates), [1 / len(rates)] * len(rates))
    left = dict.fromkeys(rates, users) if isinstance(users, int) else dict(users)
    want = {variant: round(left[variant] * rate) for variant, rate in rates.items()}
    n = 0
    batch = []
    with biz.do():
        while any(left.values()):
            n += 1
            user = f"{prefix}{n}"
            variant = split.variant(user)
            if not left[variant]:
                continue
            left[variant] -= 1
            experiment.assign(user).run()
            if want[variant]:
                want[variant] -= 1
                data = {"user_id": user} if value is None else {"user_id": user, "amount": value(variant, n)}
                batch.append({"event": goal, "data": data})
    biz.track.batch(batch)


def test_without_data_there_are_no_numbers_but_a_sentence(biz, pricing):
    found = pricing.results().run()
    assert (found.winner, found.confidence, found.can_call, found.srm_p_value) == (None, None, False, None)
    assert found.needed_sample_size is None
    for variant in found.variants.values():
        assert (variant.users, variant.conversions, variant.rate, variant.lift) == (0, 0, None, None)
        assert (variant.p_value, variant.p_sequential, variant.chance_to_beat) == (None, None, None)
    assert found.warnings == ["Nobody has been exposed yet, so there is nothing to compare."]


def test_a_draft_says_that_it_was_not_started(biz):
    found = biz.experiment.define("x", TWO, goal=biz.track.Purchase.count()).results().run()
    assert found.status == "draft"
    assert found.warnings == ["It hasn't been started: nobody is assigned yet."]


def test_without_a_goal_only_users_are_counted(biz):
    experiment = biz.experiment.define("x", TWO, autostart=True)
    experiment.assign("u1").run()
    found = experiment.results().run()
    assert sum(variant.users for variant in found.variants.values()) == 1
    assert any("no goal" in warning for warning in found.warnings)


def test_a_clear_difference_is_called_with_its_known_answers(biz, pricing):
    fill(biz, pricing, 400, {"control": 0.1, "value": 0.25})
    found = pricing.results().run()
    control, value = found.variants["control"], found.variants["value"]
    assert (control.users, control.conversions, control.rate) == (400, 40, 0.1)
    assert (value.users, value.conversions, value.rate) == (400, 100, 0.25)
    pooled = 140 / 800
    z = 0.15 / (pooled * (1 - pooled) * 2 / 400) ** 0.5
    assert value.p_value == pytest.approx(2 * stats.norm.sf(z), rel=1e-9)
    assert value.lift == pytest.approx(1.5)
    assert value.lift_ci[0] < 1.5 < value.lift_ci[1]
    assert control.lift is None
    assert control.p_value is None
    assert value.p_sequential > value.p_value
    assert value.chance_to_beat > 0.999
    assert (found.winner, found.can_call) == ("value", True)
    assert found.confidence == pytest.approx(1 - value.p_value)
    assert found.srm_p_value == pytest.approx(1)
    assert found.needed_sample_size == biz.experiment.power(0.1, 0.15)
    assert found.warnings == []


def test_a_worse_variant_is_called_but_does_not_win(biz, pricing):
    fill(biz, pricing, 400, {"control": 0.25, "value": 0.1})
    found = pricing.results().run()
    assert (found.winner, found.can_call) == (None, True)
    assert found.variants["value"].lift == pytest.approx(-0.6)


def test_less_can_be_better(biz):
    experiment = biz.experiment.define(
        "x", TWO, goal=biz.track.Purchase.unique(), direction="decrease", autostart=True
    )
    fill(biz, experiment, 400, {"control": 0.25, "value": 0.1})
    found = experiment.results().run()
    assert found.winner == "value"
    assert found.variants["value"].chance_to_beat > 0.999


def test_too_few_users_are_not_called(biz, pricing):
    fill(biz, pricing, 99, {"control": 0.0, "value": 0.9})
    found = pricing.results().run()
    assert found.variants["value"].p_sequential < 0.001
    assert (found.can_call, found.winner) == (False, None)
    assert found.warnings == [
        "Too few users: control has 99, value has 99; each variant needs 100 before it can be called."
    ]


def test_min_sample_size_says_how_many_are_enough(biz):
    for size, called in ((50, True), (60, False)):
        name = f"x{size}"
        experiment = biz.experiment.define(
            name, TWO, goal=biz.track[name].unique(), min_sample_size=size, autostart=True
        )
        fill(biz, experiment, 59, {"control": 0.1, "value": 0.9}, goal=name)
        assert experiment.results().run().can_call is called


def test_a_dishonest_split_is_not_called(biz, pricing):
    fill(biz, pricing, {"control": 400, "value": 200}, {"control": 0.1, "value": 0.6})
    found = pricing.results().run()
    assert found.srm_p_value == pytest.approx(stats.chisquare([400, 200]).pvalue)
    assert (found.can_call, found.winner) == (False, None)
    assert "control 66.7% instead of 50.0%" in found.warnings[0]


def test_the_planned_end_lets_the_plain_p_value_decide(biz, clock):
    experiment = biz.experiment.define(
        "x", TWO, goal=biz.track.Purchase.unique(), duration="7d", autostart=True
    )
    fill(biz, experiment, 300, {"control": 0.1, "value": 0.16})
    found = experiment.results().run()
    assert found.variants["value"].p_value < 0.05 < found.variants["value"].p_sequential
    assert found.can_call is False
    clock.advance("7d")
    found = experiment.results().run()
    assert (found.status, found.can_call, found.winner) == ("stopped", True, "value")


def test_stopping_early_by_hand_is_no_planned_end(biz, clock):
    experiment = biz.experiment.define(
        "x", TWO, goal=biz.track.Purchase.unique(), duration="7d", autostart=True
    )
    fill(biz, experiment, 300, {"control": 0.1, "value": 0.16})
    experiment.stop()
    assert experiment.results().run().can_call is False


def test_p_values_are_corrected_over_the_variants(biz):
    three = ["control", "a", "b", "c"]
    experiment = biz.experiment.define("x", three, goal=biz.track.Purchase.unique(), autostart=True)
    fill(biz, experiment, 200, {"control": 0.1, "a": 0.2, "b": 0.15, "c": 0.1})
    found = experiment.results().run()

    def plain(successes):
        pooled = (successes + 20) / 400
        return 2 * stats.norm.sf(abs(successes - 20) / 200 / (pooled * (1 - pooled) * 2 / 200) ** 0.5)

    expected = [plain(40) * 3, plain(30) * 2, 1.0]
    assert [found.variants[name].p_value for name in "abc"] == pytest.approx(expected)


def test_means_are_compared_by_welch(biz):
    experiment = biz.experiment.define("x", TWO, goal=biz.track.Purchase.sum("amount"), autostart=True)
    fill(
        biz,
        experiment,
        150,
        {"control": 0.5, "value": 0.8},
        value=lambda variant, n: n % 7 + (3 if variant == "value" else 0),
    )
    found = experiment.results().run()
    split = Assignment("x", TWO, [0.5, 0.5])
    amounts = {variant: [] for variant in TWO}
    for event in biz.track.Purchase.events():
        amounts[split.variant(event.user_id)].append(event.amount)
    samples = [amounts[variant] + [0] * (150 - len(amounts[variant])) for variant in TWO]
    expected = stats.ttest_ind(samples[1], samples[0], equal_var=False).pvalue
    assert found.variants["value"].p_value == pytest.approx(expected, rel=1e-9)
    assert found.variants["value"].rate is None
    assert found.winner == "value"


def test_a_lift_that_fades_is_warned_of(biz, pricing, clock):
    fill(biz, pricing, 300, {"control": 0.1, "value": 0.5}, prefix="early")
    clock.advance("7d")
    fill(biz, pricing, 300, {"control": 0.3, "value": 0.3}, prefix="late")
    found = pricing.results().run()
    assert any("novelty" in warning for warning in found.warnings)
    assert "+400.0%" in found.warnings[-1]


def test_nobody_converting_gives_no_p_value(biz, pricing):
    fill(biz, pricing, 120, {"control": 0.0, "value": 0.0})
    found = pricing.results().run()
    assert found.variants["value"].p_value is None
    assert found.variants["value"].rate == 0
    assert found.warnings == ["Nobody has done what the goal is about yet."]


def test_is_shown_as_a_table_with_intervals(biz, pricing):
    fill(biz, pricing, 400, {"control": 0.1, "value": 0.25})
    text = repr(pricing.results())
    assert text == repr(pricing.results().run())
    assert text.splitlines()[0] == "pricing: running, 0.0 days, users with Purchase"
    assert "25.00%" in text
    assert "+150.0%" in text
    assert text.splitlines()[-1] == "value wins: +150.0% against control."
    assert "|" in text
    assert pricing.results()._repr_html_().startswith("<pre>")


def test_is_a_table_of_variants_for_data_frames(biz, pricing):
    fill(biz, pricing, 120, {"control": 0.1, "value": 0.25})
    table = pricing.results().table()
    assert [row[:3] for row in table.rows] == [("control", 120, 12), ("value", 120, 30)]
    assert table.columns[:4] == ("variant", "users", "conversions", "rate")
    assert pricing.results(by="plan").table().columns[:2] == ("plan", "variant")


def test_an_empty_result_can_be_shown(biz, pricing):
    assert "can't be called yet" in repr(pricing.results())


@pytest.mark.parametrize(("control", "value"), [(0.5, 1.0), (0.5, 0.0), (0.1, 1.0), (0.7, 0.0), (0.3, 1.0)])
def test_a_variant_in_which_all_or_none_did_it_has_results(biz, pricing, control, value):
    fill(biz, pricing, 10, {"control": control, "value": value})
    result = pricing.results().run()
    assert result.variants["value"].rate == value
    assert result.needed_sample_size > 1


def test_plot_shows_the_interval_of_each_lift(biz, pricing):
    pytest.importorskip("altair")
    fill(biz, pricing, 120, {"control": 0.1, "value": 0.25})
    chart = pricing.results().plot().to_dict()
    rows = chart["layer"][1]["data"]["values"] if "data" in chart["layer"][1] else chart["data"]["values"]
    assert [row["name"] for row in rows] == ["value"]
    found = pricing.results().run().variants["value"]
    assert (rows[0]["low"], rows[0]["middle"], rows[0]["high"]) == (
        found.lift_ci[0],
        found.lift,
        found.lift_ci[1],
    )


@pytest.mark.parametrize(("direction", "tone"), [("increase", "#17936b"), ("decrease", "#d6404a")])
def test_plot_paints_what_is_better_green_and_what_is_worse_red(biz, direction, tone):
    pytest.importorskip("altair")
    experiment = biz.experiment.define(
        direction,
        variants=["control", "value"],
        goal=biz.track.Purchase.unique(),
        direction=direction,
        autostart=True,
    )
    fill(biz, experiment, 200, {"control": 0.1, "value": 0.5})
    (row,) = experiment.results().plot().to_dict()["layer"][1]["data"]["values"]
    assert row["tone"] == tone


def test_plot_of_groups_names_each_group_and_variant(biz, pricing):
    pytest.importorskip("altair")
    fill(biz, pricing, 120, {"control": 0.1, "value": 0.25})
    chart = pricing.results(by="plan").plot().to_dict()
    assert [row["name"] for row in chart["layer"][1]["data"]["values"]] == ["(none) · value"]


def test_plot_of_the_days_shows_lifts_and_both_p_values_over_time(biz, clock, pricing):
    pytest.importorskip("altair")
    fill(biz, pricing, 120, {"control": 0.1, "value": 0.25})
    clock.advance("2d")
    question = pricing.results().daily()
    chart = question.plot().to_dict()
    lifts, p_values = chart["vconcat"]
    for drawn in (lifts["layer"][2], p_values["layer"][1], p_values["layer"][2]):
        rows = drawn["data"]["values"]
        found = [day.variants["value"] for day in question.run()]
        assert len(rows) == 3
        assert [row["lift"] for row in rows] == [one.lift for one in found]
        assert [row["p"] for row in rows] == [one.p_value for one in found]
        assert [row["sequential"] for row in rows] == [one.p_sequential for one in found]


@pytest.mark.parametrize("daily", [False, True])
def test_plot_without_users_says_so(biz, pricing, daily):
    pytest.importorskip("altair")
    question = pricing.results()
    with pytest.raises(InvalidQuery, match="no variant has users"):
        (question.daily() if daily else question).plot()


def test_the_days_are_a_table_of_days_and_variants(biz, clock, pricing):
    fill(biz, pricing, 120, {"control": 0.1, "value": 0.25})
    clock.advance("1d")
    table = pricing.results().daily().table()
    assert table.columns[:4] == ("day", "variant", "users", "conversions")
    assert [row[1:3] for row in table.rows] == [("control", 120), ("value", 120)] * 2


def test_plot_without_the_extra_says_how(monkeypatch, biz, pricing):
    import sys

    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(BizError, match=r"bizcode\[plot\]"):
        pricing.results().plot()


@pytest.mark.parametrize(
    "options",
    [{"winsorize": 2.0}, {"winsorize": True}, {"winsorize": 1}, {"by": 7}, {"by": "day"}],
)
def test_refuses_options_that_mean_nothing(biz, pricing, options):
    with pytest.raises(InvalidQuery):
        pricing.results(**options)


def test_refuses_options_that_do_not_fit_the_goal(biz, pricing):
    with pytest.raises(InvalidQuery, match="winsorize"):
        pricing.results(winsorize=0.99).run()
    experiment = biz.experiment.define("x", TWO, goal=biz.track.Purchase.percentile(90, "amount"))
    with pytest.raises(InvalidQuery, match="cuped"):
        experiment.results(cuped=True).run()
    with pytest.raises(InvalidQuery, match="daily"):
        pricing.results(cuped=True).daily()
