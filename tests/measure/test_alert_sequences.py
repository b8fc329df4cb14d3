"""Whole sequences of incidents over random series with gaps, against a naive machine with every option."""

from __future__ import annotations

import random

import pytest


class Naive:
    """Minute by minute: what is told, by the words of the contract."""

    def __init__(self, for_, keep, every, resolve_below):
        self.for_, self.keep, self.every = for_, keep, every
        self.resolve_below = resolve_below
        self.since = self.firing = self.cleared = self.told = None

    def step(self, minute, value):
        said = []
        if value is None:
            return said
        if not self.firing:
            self.since = (minute if self.since is None else self.since) if value > 90 else None
            if self.since is not None and minute - self.since >= self.for_:
                self.firing, self.told = True, minute
                said.append("fire")
            return said
        limit = 90 if self.resolve_below is None else self.resolve_below
        over = value <= 90 if self.resolve_below is None else value < limit
        if not over:
            self.cleared = None
            if self.every is not None and minute - self.told >= self.every:
                self.told = minute
                said.append("fire")
            return said
        self.cleared = minute if self.cleared is None else self.cleared
        if minute - self.cleared >= self.keep:
            self.firing = self.since = self.cleared = self.told = None
            said.append("resolve")
        return said


@pytest.mark.parametrize("seed", range(10))
def test_every_option_over_a_random_series(biz, clock, seed):
    rng = random.Random(seed)
    for_, keep = rng.choice([0, 3, 10]), rng.choice([0, 4])
    every, below = rng.choice([None, 7]), rng.choice([None, 80])
    said = []
    options = dict(above=90, notify=lambda e: said.append("fire"), resolve=lambda e: said.append("resolve"))
    options |= {"for_": f"{for_}m"} if for_ else {}
    options |= {"keep_firing_for": f"{keep}m"} if keep else {}
    options |= {"every": f"{every}m"} if every else {}
    options |= {"resolve_below": below} if below else {}
    alert = biz.measure.cpu.alert(name="hot", **options)
    machine, value = Naive(for_, keep, every, below), None
    for minute in range(150):
        if rng.random() < (0.02 if 60 < minute < 80 else 0.4):
            value = rng.choice([50, 79, 85, 90, 91, 99])
            biz.measure.cpu(value)
        expected = machine.step(minute, value)
        biz.drain()
        assert said == expected, (minute, options)
        said.clear()
        state = "firing" if machine.firing else "pending" if machine.since is not None else "ok"
        assert alert.state == state, minute
        clock.advance("1m")


@pytest.mark.parametrize("seed", range(6))
def test_tags_are_watched_apart_as_if_alone(biz, clock, seed):
    rng = random.Random(seed)
    said = {"a": [], "b": []}
    biz.measure.cpu.alert(
        name="hot",
        above=90,
        for_="2m",
        by="host",
        notify=lambda e: said[e.tags["host"]].append("fire"),
        resolve=lambda e: said[e.tags["host"]].append("resolve"),
    )
    machines = {host: Naive(2, 0, None, None) for host in said}
    values = dict.fromkeys(said)
    expected = {host: [] for host in said}
    for minute in range(80):
        for host in said:
            if rng.random() < 0.3:
                values[host] = rng.choice([50, 91, 99])
                biz.measure.cpu(values[host], host=host)
            expected[host] += machines[host].step(minute, values[host])
        biz.drain()
        clock.advance("1m")
    assert said == expected


@pytest.mark.parametrize("seed", range(6))
def test_what_is_told_does_not_depend_on_when_it_is_looked_at(tmp_path, seed):
    """Samples decide, at their own times: drained each minute or now and then, the incidents are the same."""
    from bizcode import Business, ManualClock

    def told(every, path):
        rng, found = random.Random(seed), []
        clock = ManualClock("2024-01-01")
        with Business(path, clock=clock, worker=False) as biz:
            biz.measure.cpu.alert(
                name="hot",
                above=90,
                for_="3m",
                notify=lambda e: found.append(("fire", e.since)),
                resolve=lambda e: found.append(("resolve",)),
            )
            for minute in range(100):
                if rng.random() < 0.4:
                    biz.measure.cpu(rng.choice([50, 95]))
                if minute % every == 0:
                    biz.drain()
                clock.advance("1m")
            biz.drain()
        return found

    assert told(1, tmp_path / "a") == told(17, tmp_path / "b")


def test_silence_of_one_set_of_tags_fires_for_it_alone(biz, clock):
    fired, back = [], []
    biz.measure.beat.alert(
        name="silent",
        absent="10m",
        by="host",
        notify=lambda e: fired.append(e.tags),
        resolve=lambda e: back.append(e.tags),
    )
    for minute in range(30):
        biz.measure.beat(1, host="a")
        if minute < 5 or minute > 20:
            biz.measure.beat(1, host="b")
        biz.drain()
        clock.advance("1m")
    assert (fired, back) == ([{"host": "b"}], [{"host": "b"}])


def test_the_worker_looks_at_queries_and_goals_by_the_systems_clock(tmp_path):
    import threading

    from bizcode import Business

    fired, reached = threading.Event(), threading.Event()
    with Business(tmp_path) as biz:
        biz.track.A.count().alert(name="many", above=2, notify=lambda e: fired.set())
        biz.goal.define("three", target=biz.track.A.count().reach(3))
        biz.goal("three").alert(when="achieved", notify=lambda p: reached.set())
        for _ in range(3):
            biz.track.A()
        assert fired.wait(20)
        assert reached.wait(20)


def test_dead_letters_of_alerts_and_goals_are_told_again_when_asked(biz, clock):
    told, broken = [], [True]

    def notify(event):
        if broken[0]:
            raise OSError("down")
        told.append(type(event).__name__)

    biz.measure.cpu.alert(name="hot", above=90, notify=notify)
    biz.goal.define("x", target=biz.measure.cpu.reach(1))
    biz.goal("x").alert(when="achieved", notify=notify)
    biz.measure.cpu(95)
    biz.drain()
    letters = biz.dead_letters.list().run()
    assert [letter.consumer for letter in letters] == ["alert:hot", "goal:x:achieved"]
    broken[0] = False
    for letter in letters:
        biz.dead_letters.retry(letter)
    biz.drain()
    assert (sorted(told), biz.dead_letters.list().run()) == (["AlertEvent", "Progress"], [])
    biz.drain()
    assert len(told) == 2
