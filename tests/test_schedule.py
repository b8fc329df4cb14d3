"""`biz.every`: when jobs run, how often, and by whom."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from processes import start

from bizcode import AlreadyExists, Business, InvalidName, InvalidQuery, InvalidTime, ManualClock


def ticks(tmp_path, schedule, begin, steps, step="1h", timezone="UTC", **options):
    """When a job ran, in the business's own time, if the clock moves in such steps."""
    clock = ManualClock(begin, timezone=timezone)
    with Business(tmp_path / "a", clock=clock, worker=False, timezone=timezone) as biz:
        schedule(biz.every)(lambda: None, name="job", **options)
        for _ in range(steps):
            clock.advance(step)
            biz.drain()
        return [run.scheduled.astimezone(biz.store.tz).isoformat()[:16] for run in biz.every.runs().run()][
            ::-1
        ]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (lambda every: every.hour, ["2024-01-01T01:00", "2024-01-01T02:00", "2024-01-01T03:00"]),
        (lambda every: every.day, ["2024-01-02T00:00", "2024-01-03T00:00", "2024-01-04T00:00"]),
        (lambda every: every.day.at("9am"), ["2024-01-01T09:00", "2024-01-02T09:00", "2024-01-03T09:00"]),
        (lambda every: every.day.at("12:30pm"), ["2024-01-01T12:30", "2024-01-02T12:30"]),
        (lambda every: every.day.at("midnight"), ["2024-01-02T00:00", "2024-01-03T00:00"]),
        (lambda every: every.monday.at("8:30"), ["2024-01-01T08:30", "2024-01-08T08:30"]),
        (lambda every: every.sunday, ["2024-01-07T00:00", "2024-01-14T00:00"]),
        (lambda every: every.weekday.at("17:45"), [f"2024-01-{d:02}T17:45" for d in (1, 2, 3, 4, 5, 8)]),
        (lambda every: every.week, ["2024-01-08T00:00", "2024-01-15T00:00"]),
        (lambda every: every.month.at("noon"), ["2024-01-01T12:00", "2024-02-01T12:00"]),
        (lambda every: every.quarter, ["2024-04-01T00:00"]),
        (lambda every: every.cron("0 9 * * 1-5"), [f"2024-01-{d:02}T09:00" for d in (1, 2, 3, 4, 5, 8)]),
        (lambda every: every.cron("*/20 0 29 2 *"), [f"2024-02-29T00:{m}" for m in ("00", "20", "40")]),
        (lambda every: every("6h"), ["2024-01-01T06:00", "2024-01-01T12:00"]),
        (lambda every: every("1d"), ["2024-01-02T00:00", "2024-01-03T00:00"]),
    ],
)
def test_words_cron_and_durations(biz, schedule, expected):
    biz.clock.set("2024-01-01T00:00:30")
    schedule(biz.every)(lambda: None, name="job")
    due = []
    for _ in expected:
        (job,) = (t for t in biz.store.consumers._tickers.values() if t.name == "every:job")
        due.append(job.due())
        biz.clock.set(due[-1] / 1e6)
        biz.drain()
    runs = biz.every.runs().run()[::-1]
    assert [run.scheduled.isoformat()[:16] for run in runs] == expected
    assert all(run.ok and run.name == "job" for run in runs)


def test_a_duration_is_aligned_to_the_clock(tmp_path):
    found = ticks(tmp_path, lambda every: every("15m"), "2024-01-01T09:07", 4, "15m")
    assert found == [f"2024-01-01T{t}" for t in ("09:15", "09:30", "09:45", "10:00")]


def test_it_goes_by_the_businesss_own_time(tmp_path):
    clock = ManualClock("2024-06-01T00:00:00")
    with Business(tmp_path / "a", clock=clock, worker=False, timezone="Asia/Kolkata") as biz:
        biz.every.day.at("9am")(lambda: None)
        biz.every("1h")(lambda: None, name="hourly")
        clock.advance("3h")
        clock.advance("30m")
        biz.drain()
        clock.advance("29m")
        biz.drain()
    with Business(tmp_path / "a", clock=clock, worker=False) as biz:
        found = {run.name.rpartition(".")[2]: run.scheduled.isoformat() for run in biz.every.runs().run()}
    assert found == {"<lambda>": "2024-06-01T03:30:00+00:00", "hourly": "2024-06-01T03:30:00+00:00"}


BERLIN = {"timezone": "Europe/Berlin"}


def test_a_wall_time_that_is_skipped_runs_at_the_first_instant_after(tmp_path):
    found = ticks(tmp_path, lambda every: every.day.at("2:30"), "2024-03-30T12:00", 48, **BERLIN)
    assert found == ["2024-03-31T03:00", "2024-04-01T02:30"]


def test_a_wall_time_that_comes_twice_runs_once(tmp_path):
    found = ticks(tmp_path, lambda every: every.day.at("2:30"), "2024-10-26T12:00", 60, "30m", **BERLIN)
    assert found == ["2024-10-27T02:30"]
    found = ticks(tmp_path / "b", lambda every: every.hour, "2024-10-26T23:30", 50, "30m", **BERLIN)
    assert Counter(found) == Counter(f"2024-10-27T{h:02}:00" for h in range(24))


def test_a_duration_runs_through_both_hours(tmp_path):
    found = ticks(tmp_path, lambda every: every("30m"), "2024-10-27T00:00", 12, "30m", **BERLIN)
    assert Counter(found)["2024-10-27T02:00"] == Counter(found)["2024-10-27T02:30"] == 2
    assert len(found) == 12


@pytest.mark.parametrize("begin", ["2024-03-29T12:00", "2024-10-25T12:00"])
def test_a_day_as_a_duration_stays_at_midnight_when_the_clock_changes(tmp_path, begin):
    found = ticks(tmp_path, lambda every: every("1d"), begin, 97, **BERLIN)
    assert [at[11:] for at in found] == ["00:00"] * 4


def test_after_downtime_one_run_makes_up_for_all_or_none(tmp_path):
    clock = ManualClock("2024-01-01T00:30")
    for misfire, expected in (("once", ["2024-01-03T07:00"]), ("skip", [])):
        clock.set("2024-01-01T00:30")
        with Business(tmp_path / misfire, clock=clock, worker=False) as biz:
            biz.every.hour(lambda: None, name="job", misfire=misfire)
        clock.set("2024-01-03T07:20")
        with Business(tmp_path / misfire, clock=clock, worker=False) as biz:
            biz.every.hour(lambda: None, name="job", misfire=misfire)
            biz.drain()
            assert [r.scheduled.isoformat()[:16] for r in biz.every.runs().run()] == expected
            clock.set("2024-01-03T08:00")
            biz.drain()
            assert biz.every.runs().run()[0].scheduled.hour == 8


def test_years_of_missed_ticks_take_no_time(tmp_path):
    clock = ManualClock("2024-01-01")
    with Business(tmp_path / "a", clock=clock, worker=False) as biz:
        biz.every("1s")(lambda: None, name="second")
        biz.every.minute(lambda: None, name="minute", since="2000-01-01")
        clock.advance("3y")
        biz.drain()
        assert {r.name: r.scheduled.isoformat()[:19] for r in biz.every.runs().run()} == {
            "second": "2027-01-01T00:00:00",
            "minute": "2027-01-01T00:00:00",
        }


def test_a_tick_runs_once_among_several(tmp_path):
    clock = ManualClock("2024-01-01T00:30")
    runs = []
    with (
        Business(tmp_path / "a", clock=clock, worker=False) as one,
        Business(tmp_path / "a", clock=clock, worker=False) as two,
    ):
        for n, biz in enumerate((one, two)):
            biz.every.hour(lambda n=n: runs.append(n), name="job")
        clock.advance("1h")
        one.drain()
        two.drain()
        clock.advance("1h")
        two.drain()
        one.drain()
    assert runs == [0, 1]


def test_a_tick_runs_once_among_processes(tmp_path):
    code = """
import sys
from bizcode import Business
from threading import Timer
biz = Business(sys.argv[1])
biz.every("1s")(lambda: biz.track.Ran(by=sys.argv[2]), name="job")
Timer(2.6, lambda: biz.store.consumers._stopping.set()).start()
biz.run()
biz.close()
"""
    processes = [start(tmp_path / "a", n, code=code) for n in range(3)]
    for process in processes:
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0, out
    with Business(tmp_path / "a", worker=False) as biz:
        runs = biz.every.runs("job").run()
        assert len(runs) >= 2
        assert len({run.scheduled for run in runs}) == len(runs) == biz.track.Ran.count().run()


def test_one_that_still_runs_is_not_started_beside_itself(tmp_path):
    clock = ManualClock("2024-01-01T00:30")
    inside, release, running = threading.Event(), threading.Event(), []

    def job():
        running.append(1)
        inside.set()
        assert release.wait(20)

    with (
        Business(tmp_path / "a", clock=clock, worker=False) as one,
        Business(tmp_path / "a", clock=clock, worker=False) as two,
    ):
        for biz in (one, two):
            biz.every.hour(job, name="job")
        clock.advance("1h")
        thread = threading.Thread(target=one.drain)
        thread.start()
        assert inside.wait(20)
        clock.advance("3h")
        two.drain()
        assert running == [1]
        release.set()
        thread.join()
        two.drain()
        assert running == [1, 1]


def test_runs_and_failures_are_kept(biz, clock):
    calls = []

    def job():
        calls.append(1)
        biz.track.Ran()
        if len(calls) <= 5:
            raise RuntimeError("the bank is closed")

    biz.every.hour(job, name="job")
    for _ in range(2):
        clock.advance("1h")
        biz.drain()
    good, bad = biz.every.runs("job").run()
    assert (bad.ok, bad.error) == (False, "RuntimeError: the bank is closed")
    assert (good.ok, good.error) == (True, None)
    assert bad.scheduled < good.scheduled
    assert len(calls) == 6
    assert biz.track.Ran.count().run() == 1
    assert biz.every.runs("other").run() == []


def test_a_job_may_be_async_and_may_take_the_business(biz, clock):
    seen = []

    @biz.every.hour
    async def one(business):
        seen.append(business is biz)

    @biz.every.hour()
    def two(optional=3):
        seen.append(optional)

    clock.advance("1h")
    biz.drain()
    assert sorted(seen, key=str) == [3, True]
    assert {run.name.rpartition(".")[2] for run in biz.every.runs().run()} == {"one", "two"}


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda every: every.fortnight, InvalidTime, "monday"),
        (lambda every: every.day.at("9"), InvalidTime, '"9am"'),
        (lambda every: every.day.at("25:00"), InvalidTime, '"8:30"'),
        (lambda every: every.day.at("13pm"), InvalidTime, '"9am"'),
        (lambda every: every.day.at(9), InvalidTime, '"9am"'),
        (lambda every: every.hour.at("9am"), InvalidTime, "goes with a day"),
        (lambda every: every("15m").at("9am"), InvalidTime, "goes with a day"),
        (lambda every: every(""), InvalidTime, "5m"),
        (lambda every: every("often"), InvalidTime, "5m"),
        (lambda every: every("0s"), InvalidTime, "."),
        (lambda every: every("1mo"), InvalidTime, "."),
        (lambda every: every(None), InvalidTime, "."),
        (lambda every: every.cron(""), InvalidTime, "five fields"),
        (lambda every: every.cron("0 9 * *"), InvalidTime, "five fields"),
        (lambda every: every.cron("0 0 9 * * 1"), InvalidTime, "five fields"),
        (lambda every: every.cron("0 0 30 2 *"), InvalidTime, "day-of-month"),
        (lambda every: every.cron("61 9 * * *"), InvalidTime, "five fields"),
        (lambda every: every.cron(None), InvalidTime, "expression"),
        (lambda every: every.hour(print, misfire="twice"), InvalidQuery, "'once' or 'skip'"),
        (lambda every: every.hour("x"), InvalidQuery, "function"),
        (lambda every: every.hour(print, name=""), InvalidName, "blank"),
        (lambda every: every.hour(print, since="soon"), InvalidTime, "."),
    ],
)
def test_what_cannot_be_is_refused(biz, wrong, error, says):
    with pytest.raises(error, match=says):
        wrong(biz.every)


@pytest.mark.parametrize(
    "schedule",
    [
        lambda every, **options: every("1h", **options),
        lambda every, **options: every("1h")(**options),
        lambda every, **options: every.hour(**options),
        lambda every, **options: every.cron("0 * * * *", **options),
        lambda every, **options: every.day.at("1am", **options),
        lambda every, **options: every.day(**options).at("1am"),
    ],
)
def test_options_may_be_given_with_any_part_of_a_schedule(tmp_path, schedule):
    clock = ManualClock("2024-01-01T00:30")
    for at, runs in (("2024-01-01T00:30", 0), ("2024-01-01T01:30", 0), ("2024-01-02T01:00", 1)):
        clock.set(at)
        with Business(tmp_path / "a", clock=clock, worker=False) as biz:
            schedule(biz.every, name="mine", misfire="skip")(lambda: None)
            biz.drain()
            assert [run.name for run in biz.every.runs().run()] == ["mine"] * runs


@pytest.mark.parametrize("options", [{"misfire": "twice"}, {"misfire": ""}, {"name": " "}])
def test_options_are_looked_at_where_they_are_given(biz, options):
    for schedule in (lambda **o: biz.every("1h", **o), lambda **o: biz.every.day.at("9am", **o)):
        with pytest.raises((InvalidQuery, InvalidName)):
            schedule(**options)


def test_a_name_stands_for_one_job(biz):
    def job(): ...

    biz.every.hour(job, name="job")
    biz.every.hour(job, name="job")
    with pytest.raises(AlreadyExists, match=r"job \('0 \* \* \* \*'\)"):
        biz.every.day(job, name="job")
