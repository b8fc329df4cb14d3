"""Goals: progress, projection, status, alerts, history."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from bizcode import (
    AlreadyExists,
    Business,
    Conflict,
    InvalidName,
    InvalidQuery,
    InvalidTime,
    InvalidValue,
    ManualClock,
    NotFound,
)


@pytest.fixture
def year():
    clock = ManualClock("2024-01-01")
    with Business(":memory:", clock=clock, worker=False) as biz:
        yield biz, clock


def test_a_sum_is_projected_along_its_rate(year):
    biz, clock = year
    biz.goal.define("Q1", target=biz.measure.revenue.sum().reach(91_000), by="2024-Q1", owner="founder")
    for _ in range(30):
        biz.measure.revenue(1000)
        clock.advance("1d")
    p = biz.goal("Q1").progress().run()
    assert (p.current, p.target, p.remaining, p.days_left, p.status) == (
        30_000,
        91_000,
        61_000,
        60,
        "on-track",
    )
    assert p.projected == pytest.approx(91_000)
    assert p.percent == pytest.approx(100 * 30 / 91)
    assert p.on_track


def test_a_level_is_projected_along_the_line_of_least_squares(year):
    biz, clock = year
    biz.goal.define("mrr", target=biz.measure.mrr.reach(50_000), by="2024-06-30")
    days, values = [], []
    for n in range(40):
        value = 10_000 + 137 * n + (n * 7919 % 500)
        biz.measure.mrr(value)
        days.append(n)
        values.append(value)
        clock.advance("1d")
    slope, intercept = np.polyfit(days, values, 1)
    p = biz.goal("mrr").progress().run()
    assert p.projected == pytest.approx(intercept + slope * 182)
    assert p.interval[0] < p.projected < p.interval[1]
    assert p.probability < 0.01
    assert p.status == "off-track"


def test_below_counts_down_from_the_value_at_definition(year):
    biz, clock = year
    biz.measure.churn(0.06)
    clock.advance("1d")
    biz.goal.define("churn", target=biz.measure.churn.reach(0.02, direction="below"))
    clock.advance("1d")
    biz.measure.churn(0.03)
    p = biz.goal("churn").progress().run()
    assert p.percent == pytest.approx(75)
    assert (p.status, p.days_left, p.projected, p.on_track) == ("open", None, None, None)
    biz.measure.churn(0.01)
    p = biz.goal("churn").progress().run()
    assert (p.status, p.achieved, p.percent, p.remaining) == ("achieved", True, 100.0, 0)


def test_below_counts_from_what_was_recorded_before_the_definition_not_at_its_instant(year):
    biz, _ = year
    biz.measure.churn(Decimal("0.06"))
    for _ in range(2):
        biz.goal.define("churn", target=biz.measure.churn.reach(0.02, direction="below"))
        biz.measure.churn(0.04)
    assert biz.goal("churn").progress().run().percent == pytest.approx(50)
    assert biz.goal("churn").history().run()[-1].percent == pytest.approx(50)
    biz.goal("churn").update(target=biz.measure.churn.reach(0.01, direction="below"))
    assert biz.goal("churn").progress().run().percent < 50


def test_a_goal_whose_deadline_has_passed_is_missed_or_achieved(year):
    biz, _ = year
    biz.track.A()
    biz.goal.define("x", target=biz.track.A.count().reach(4), by="2023-Q4")
    biz.goal.define("y", target=biz.track.A.count().reach(1), by="2023-12-31")
    missed, achieved = biz.goal.all().progress().run()
    assert (missed.status, missed.percent, missed.on_track) == ("missed", 25, False)
    assert (achieved.status, achieved.percent, achieved.on_track) == ("achieved", 100, True)
    assert missed.days_left == achieved.days_left < 0
    assert [point.status for point in biz.goal("x").history().run()] == ["missed"]


def test_a_compound_goal_is_as_good_as_its_worst(year):
    biz, _ = year
    targets = [
        biz.measure.mrr.reach(100),
        biz.track.Signup.count().reach(2),
        biz.track.ratio("B", "A").reach(0.5),
    ]
    biz.goal.define("growth", targets=targets, by="2024-Q2")
    biz.measure.mrr(100)
    biz.track.Signup()
    p = biz.goal("growth").progress().run()
    assert (p.current, p.target, len(p.targets)) == (None, None, 3)
    assert p.percent == pytest.approx((100 + 50 + 0) / 3)
    assert not p.achieved


def test_a_missed_deadline(year):
    biz, clock = year
    biz.goal.define("x", target=biz.track.A.count().reach(5), by="2024-01-31")
    clock.set("2024-02-01")
    p = biz.goal("x").progress().run()
    assert (p.status, p.days_left, p.on_track) == ("missed", -1, False)


def test_an_alert_fires_once_per_change_also_at_the_first_look(year):
    biz, clock = year
    got = []
    biz.goal.define("x", target=biz.track.A.count().reach(2))
    biz.goal("x").alert(when="open", notify=lambda p: got.append(p.status))
    biz.goal("x").alert(when="achieved", notify=lambda p: got.append(p.status))
    biz.drain()
    biz.drain()
    assert got == ["open"]
    biz.track.batch([{"event": "A"}] * 2)
    biz.drain()
    clock.advance("5m")
    biz.drain()
    assert got == ["open", "achieved"]


def test_history_has_the_days_when_nothing_ran(year):
    biz, clock = year
    biz.goal.define("x", target=biz.track.A.count().reach(4))
    for at in ("2024-01-01T10:00", "2024-01-03T10:00", "2024-01-03T11:00"):
        biz.track.A({}, at=at)
    clock.set("2024-01-04T12:00")
    points = biz.goal("x").history().run()
    assert [(str(p.date), p.value, p.percent) for p in points] == [
        ("2024-01-01", 1, 25.0),
        ("2024-01-02", 1, 25.0),
        ("2024-01-03", 3, 75.0),
        ("2024-01-04", 3, 75.0),
    ]
    assert len(biz.goal("x").history(limit=2).run()) == 2
    assert biz.goal("x").history(every=2).run() == points[::-2][::-1]
    assert biz.goal("x").history(every=2, limit=1).run() == points[-1:]
    for wrong in (0, -1, 1.5):
        with pytest.raises(InvalidQuery):
            biz.goal("x").history(every=wrong)


def test_list_update_archive_reactivate_delete(year):
    biz, _ = year
    goal = biz.goal.define("x", target=biz.track.A.count().reach(4), owner="me")
    assert biz.goal.define("x", target=biz.track.A.count().reach(4), owner="me").name == "x"
    with pytest.raises(AlreadyExists):
        biz.goal.define("x", target=biz.track.A.count().reach(5), owner="me")
    goal.update(target=biz.track.A.count().reach(0), by="2024-12")
    assert [g.status for g in biz.goal.list(owner="me").run()] == ["achieved"]
    goal.archive()
    assert [g.name for g in biz.goal.list(status="archived").run()] == ["x"]
    assert biz.goal.all().progress().run() == []
    with pytest.raises(Conflict):
        goal.archive()
    goal.reactivate()
    goal.delete()
    with pytest.raises(NotFound):
        goal.progress().run()


def test_refusals(year):
    biz, _ = year
    with pytest.raises(InvalidTime):
        biz.goal.define("x", target=biz.track.A.count().reach(4), by="someday")
    with pytest.raises(InvalidName, match="an owner"):
        biz.goal.define("x", target=biz.track.A.count().reach(4), owner=3)
    with pytest.raises(InvalidQuery):
        biz.goal.define("x", target=5)
    with pytest.raises(InvalidQuery):
        biz.goal.define("x")
    with pytest.raises(InvalidQuery):
        biz.goal.define("x", target=biz.track.A.count().by("plan").reach(4))
    with pytest.raises(InvalidValue):
        biz.track.A.count().reach("many")
    with pytest.raises(NotFound):
        biz.goal("none").progress().run()


def test_what_is_done_to_a_goal_in_a_transaction_is_done_at_its_end_or_not_at_all(year):
    biz, _ = year
    biz.goal.define("kept", target=biz.measure.revenue.sum().reach(100))

    def change(fails):
        biz.goal.define("new", target=biz.measure.revenue.sum().reach(10))
        biz.measure.revenue(10)
        assert biz.goal("new").progress().run().achieved
        biz.goal("kept").archive()
        assert [p.name for p in biz.goal.all().progress()] == ["new"]
        biz.goal("kept").delete()
        with pytest.raises(NotFound):
            biz.goal("kept").progress().run()
        assert not fails, "to be undone"

    with pytest.raises(AssertionError, match="to be undone"), biz.do():
        change(fails=True)
    assert [(goal.name, goal.state) for goal in biz.goal.list()] == [("kept", "active")]
    with pytest.raises(NotFound):
        biz.goal("new").progress().run()
    with biz.do():
        change(fails=False)
    assert [goal.name for goal in biz.goal.list()] == ["new"]


def test_history_goes_back_to_the_definition_however_long_ago(year):
    biz, clock = year
    biz.goal.define("old", target=biz.measure.revenue.sum().reach(100), by="2024-01-10")
    biz.measure.revenue(5)
    clock.set("2025-07-01")
    points = biz.goal("old").history().run()
    assert len(points) == 366 + 181 + 1
    assert str(points[0].date) == "2024-01-01"
    assert {point.value for point in points} == {5}


def test_an_alert_on_a_goal_that_is_not_there_is_refused(year):
    biz, _ = year
    with pytest.raises(NotFound):
        biz.goal("nothing").alert(when="missed", notify=print)
