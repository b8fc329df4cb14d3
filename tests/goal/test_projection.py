"""Projections against numpy's least squares; how often their intervals hold, by simulation."""

from __future__ import annotations

import numpy as np
import pytest

from bizcode import Business, ManualClock

DAY = 86_400


@pytest.mark.parametrize("seed", range(5))
def test_a_level_is_numpys_line_at_the_deadline(seed):
    rng = np.random.default_rng(seed)
    clock = ManualClock("2024-01-01")
    with Business(":memory:", clock=clock, worker=False) as biz:
        biz.goal.define("x", target=biz.measure.x.reach(1e9), by="2024-06-30")
        start = clock.now() / 1e6
        days = np.sort(rng.uniform(0, 50, 30))
        values = rng.normal(100, 5, 30) + rng.normal() * days
        for day, value in zip(days, values, strict=True):
            biz.measure.x(float(value), {}, at=start + day * DAY)
        clock.advance("50d")
        found = biz.goal("x").progress().run()
    design = np.column_stack([np.ones(30), days])
    (intercept, slope), residual, *_ = np.linalg.lstsq(design, values, rcond=None)
    assert found.projected == pytest.approx(intercept + slope * 182, rel=1e-6)
    row = np.array([1, 182.0])
    spread = np.sqrt(residual[0] / 28 * (1 + row @ np.linalg.inv(design.T @ design) @ row))
    from scipy.stats import t

    margin = t.ppf(0.9, 28) * spread
    assert found.interval == pytest.approx((found.projected - margin, found.projected + margin), rel=1e-6)


def test_the_intervals_of_levels_hold_as_often_as_they_say():
    rng = np.random.default_rng(1)
    clock = ManualClock("2024-01-01")
    runs, held, chances, met = 150, 0, [], 0
    with Business(":memory:", clock=clock, worker=False) as biz:
        start = clock.now() / 1e6
        for run in range(runs):
            name = f"m{run}"
            biz.goal.define(name, target=biz.measure[name].reach(140), by="2024-01-31")
        clock.advance("15d")
        for run in range(runs):
            name, slope = f"m{run}", rng.normal(1, 0.3)
            for day in range(15):
                biz.measure[name](100 + slope * day + rng.normal(0, 10), {}, at=start + day * DAY)
            end = 100 + slope * 31 + rng.normal(0, 10)
            found = biz.goal(name).progress().run()
            held += found.interval[0] <= end <= found.interval[1]
            if not found.achieved:
                chances.append(found.probability)
                met += end >= 140
    assert 0.7 <= held / runs <= 0.9
    assert met / len(chances) == pytest.approx(np.mean(chances), abs=0.12)


def test_the_intervals_of_sums_hold_as_often_as_they_say():
    rng = np.random.default_rng(2)
    clock = ManualClock("2024-01-01")
    runs, held = 60, 0
    with Business(":memory:", clock=clock, worker=False) as biz:
        start = clock.now() / 1e6
        for run in range(runs):
            biz.goal.define(f"m{run}", target=biz.measure[f"m{run}"].sum().reach(1e6), by="2024-01-31")
        clock.advance("12d")
        for run in range(runs):
            metric = biz.measure[f"m{run}"]
            for day in range(12):
                metric(rng.normal(100, 30), {}, at=start + (day + 0.5) * DAY)
            found = biz.goal(f"m{run}").progress().run()
            end = found.current + rng.normal(100, 30, 19).sum()
            held += found.interval[0] <= end <= found.interval[1]
    assert 0.65 <= held / runs <= 0.93


def test_a_goal_outlives_its_samples():
    clock = ManualClock("2024-01-01T05:00")
    with Business(":memory:", clock=clock, worker=False) as biz:
        biz.measure.sales.rollup(granularity=["hour", "day"], retention={"raw": "2d"})
        biz.goal.define("x", target=biz.measure.sales.sum().reach(100), by="2024-12-31")
        for _ in range(20):
            clock.advance("1d")
            biz.measure.sales(1)
            biz.drain()
        found = biz.goal("x").progress().run()
        assert (found.current, found.percent) == (20, 20.0)
        assert found.projected == pytest.approx(365, abs=4)
        assert [p.value for p in biz.goal("x").history(limit=3).run()] == [18, 19, 20]


def test_a_level_is_projected_from_its_days_once_its_samples_are_gone():
    clock = ManualClock("2024-01-01T05:00")
    with Business(":memory:", clock=clock, worker=False) as biz:
        biz.measure.mrr.rollup(granularity="hour", aggregates="last", retention={"raw": "2d"})
        biz.goal.define("x", target=biz.measure.mrr.reach(1000), by="2024-12-31")
        for n in range(30):
            biz.measure.mrr(100 + 2 * n)
            biz.drain()
            clock.advance("1d")
        found = biz.goal("x").progress().run()
        assert found.current == 158
        assert found.projected == pytest.approx(100 + 2 * 365, rel=0.02)


def test_another_program_knows_the_targets(tmp_path, clock):
    with Business(tmp_path, clock=clock, worker=False) as biz:
        biz.goal.define(
            "sum", target=biz.measure.x.where(plan="pro").sum().since("year").reach(10), owner="me"
        )
        biz.goal.define("ratio", target=biz.track.ratio("B", "A").reach(0.5))
        biz.goal.define("own", target=biz.track.A.where(lambda e: e.n == 1).count().reach(5))
        biz.measure.x(4, plan="pro")
        biz.track.A()
    with Business(tmp_path, clock=clock, worker=False) as biz:
        assert [(p.name, p.percent) for p in biz.goal.all().progress().run()] == [
            ("ratio", 0.0),
            ("sum", 40.0),
        ]
        assert biz.goal("sum").progress().run().current == 4
        assert [g.name for g in biz.goal.list(status="active").run()] == ["own", "ratio", "sum"]
        biz.goal("sum").update(by="2024-12")
        biz.goal.define("own", target=biz.track.A.where(lambda e: e.n == 1).count().reach(5))
        assert len(biz.goal.all().progress().run()) == 3


def test_progress_draws_itself(tmp_path, clock):
    with Business(":memory:", clock=clock, worker=False) as biz:
        biz.goal.define("x", target=biz.track.A.count().reach(5), by="2024-12-31")
        targets = [biz.track.A.count().reach(5), biz.measure.m.reach(3)]
        biz.goal.define("both", targets=targets, by="2024-12-31")
        biz.track.A()
        biz.goal.all().progress().plot().save(tmp_path / "goals.svg")
        assert "<svg" in (tmp_path / "goals.svg").read_text()


@pytest.mark.parametrize("size", [1e200, 1e300, 1.7e308])
@pytest.mark.parametrize("operation", ["sum", "avg", "current", "median"])
def test_numbers_beyond_what_doubles_add_up_leave_a_goal_readable(operation, size):
    clock = ManualClock("2024-01-01T12:00:00")
    with Business(":memory:", clock=clock, worker=False) as biz:
        target = getattr(biz.measure.x, operation)().reach(1e100)
        biz.goal.define("x", target=target, by="2024-06-30")
        for day in range(8):
            biz.measure.x(size * (1 + day % 2 / 2) if size < 1e308 else size)
            clock.advance("1d")
        found = biz.goal("x").progress().run()
        assert found.achieved
        assert found.projected is None or found.projected > 1e199
        assert len(biz.goal("x").history().run()) == 9
