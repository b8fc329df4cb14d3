"""Ordered funnels, all options at once, against the contract's words as a walk over each user's events: at any scale
of time, before 1970 and centuries apart, sealed or not, merged, retracted, or not committed yet."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import mean, median

import pytest

from bizcode import Business, ManualClock

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICRO = timedelta(microseconds=1)
YEAR = 365 * 86_400 * 10**6
SCALES = [
    (1, 1_700_000_000_123_456),
    (1_000, 0),
    (3_600 * 10**6, -(10**15)),
    (YEAR, 1_700_000_000_123_000),
    (100 * YEAR, (datetime(1000, 1, 1, tzinfo=UTC) - EPOCH) // MICRO),
]
NAMES = ["AABBCCDX", "AAAAAAABCX", "ABBBBBBCCCX", "AAB"]


@dataclass
class Asked:
    steps: list[tuple[str, bool]]
    """Name, and whether it is optional."""
    window: int | None
    since: int | None
    until: int | None
    hold: bool
    excluded: list[tuple[str, int, int]] = field(default_factory=list)

    def attempt(self, events: list[dict], at: int) -> dict[int, dict]:
        """The steps that are taken from a step-1 event on."""
        first = events[at]
        rest = [e for e in events[at:] if not self.hold or e["cart"] == first["cart"]]
        taken, last, stops = {1: first}, 0, {}

        def following(name: str) -> int | None:
            return next((n for n in range(last + 1, len(rest)) if rest[n]["name"] == name), None)

        for n, (name, optional) in enumerate(self.steps, 1):
            found = 0 if n == 1 else following(name)
            ends = [stops.get(x) for x in self.excluded if x[1] < n <= x[2]]
            met = (
                found is not None
                and (self.window is None or rest[found]["t"] - first["t"] <= self.window)
                and all(end is None or found < end for end in ends)
            )
            if met and optional:
                required = next((other for other, may in self.steps[n:] if not may), None)
                next_one = None if required is None else following(required)
                met = next_one is None or found < next_one
            if met:
                taken[n], last = rest[found], found
                stops |= {x: following(x[0]) for x in self.excluded if x[1] == n}
            elif not optional:
                break
        return taken

    def best(self, events: list[dict]) -> dict[int, dict] | None:
        found = [
            self.attempt(events, at)
            for at, e in enumerate(events)
            if e["name"] == self.steps[0][0]
            and (self.since is None or e["t"] >= self.since)
            and (self.until is None or e["t"] < self.until)
            and not (self.hold and e["cart"] is None)
        ]
        return max(found, key=lambda a: (sum(not self.steps[n - 1][1] for n in a), len(a)), default=None)

    def waits(self, attempt: dict[int, dict], n: int, now: int) -> bool:
        optional = self.steps[n - 1][1]
        before = next(m for m in range(n - 1, 0, -1) if not self.steps[m - 1][1])
        passed = n in attempt or (optional and max(attempt) > n)
        open_ = self.window is not None and attempt[1]["t"] + self.window >= now
        return before in attempt and not passed and open_


class World:
    def __init__(self, seed: int, path) -> None:
        rng = self.rng = random.Random(seed)
        self.unit, self.base = SCALES[seed % len(SCALES)]
        self.span = rng.choice([3, 8, 20])
        self.now = self.base + self.unit * rng.randrange(self.span // 2, self.span + 3)
        self.whole = seed >= len(SCALES)
        self.names = NAMES[seed % len(NAMES)]
        self.biz = Business(path, clock=ManualClock(EPOCH + self.now * MICRO), worker=False)
        self.events: list[dict] = []
        for _ in range(12):
            self.write(30)
            if rng.random() < 0.25:
                self.biz.store.segments.seal()
        for event in rng.sample(self.events, 5):
            self.biz.retract(event["id"])
            self.events.remove(event)
        self.merged = {"u0": "u1", "u2": "new"}
        for alias, user in self.merged.items():
            self.biz.identify(alias, user)

    def write(self, count: int) -> None:
        rng = self.rng
        drafts = []
        for _ in range(count):
            at = self.base + self.unit * rng.randrange(self.span)
            at += 0 if self.whole else rng.choice([0] * 30 + [1, 500])
            data = {
                "user_id": f"u{rng.randrange(50)}",
                "p": rng.choice("xyz"),
                "cart": rng.choice([1, 2, None]),
            }
            drafts.append({"event": rng.choice(self.names), "at": EPOCH + at * MICRO, "data": data})
        for draft, event in zip(drafts, self.biz.track.batch(drafts), strict=True):
            t = (draft["at"] - EPOCH) // MICRO
            self.events.append({"name": event.type, "t": t, "id": event.id, **draft["data"]})

    def by_user(self) -> dict[str, list[dict]]:
        found: dict[str, list[dict]] = {}
        for e in sorted(self.events, key=lambda e: e["t"]):  # of equals in the order of the log
            found.setdefault(self.merged.get(e["user_id"], e["user_id"]), []).append(e)
        return found

    def some(self, optional: bool) -> Asked:
        rng, unit = self.rng, self.unit
        count = rng.choice([1, 2, 2, 3, 3, 4])
        steps = [
            (rng.choice(self.names + "AB"), optional and n > 0 and rng.random() < 0.4) for n in range(count)
        ]
        window = rng.choice(
            [None, 1, max(1, unit - 1), unit * 2 + rng.choice([-1, 1]), unit * 5, unit * self.span, 1_000]
        )
        since = rng.choice([None, None, self.base + unit * rng.randrange(self.span) + rng.choice([-1, 0, 1])])
        until = rng.choice([None, None, (since or self.base) + unit * rng.randrange(1, self.span)])
        asked = Asked(steps, window and min(window, 900 * YEAR), since, until, rng.random() < 0.2)
        while count > 1 and rng.random() < 0.5:
            after = rng.randrange(1, count)
            asked.excluded.append((rng.choice("XXXA"), after, rng.randrange(after + 1, count + 1)))
        return asked

    def query(self, asked: Asked):
        steps = [self.biz.step(name) for name, _ in asked.steps]
        pairs = zip(steps, asked.steps, strict=True)
        query = self.biz.track.funnel([step.optional() if may else step for step, (_, may) in pairs])
        if asked.window is not None:
            query = query.within(asked.window * MICRO)
        if asked.since is not None:
            query = query.since(EPOCH + asked.since * MICRO)
        if asked.until is not None:
            query = query.until(EPOCH + asked.until * MICRO)
        for name, after, before in asked.excluded:
            query = query.exclude(name, after=after, before=before)
        return query.hold("cart") if asked.hold else query


def micros(times: list[int], of) -> int | None:
    return round(of(times)) if times else None


def check(world: World, asked: Asked) -> None:
    query, now, count = world.query(asked), world.now, len(asked.steps)
    found = {user: asked.best(events) for user, events in world.by_user().items()}
    users = {user: attempt for user, attempt in found.items() if attempt}
    funnel = query.run()
    for n, step in enumerate(funnel.steps, 1):
        reached = {user for user, attempt in users.items() if n in attempt}
        waiting = {user for user, a in users.items() if n > 1 and asked.waits(a, n, now)}
        assert (step.count, step.in_progress) == (len(reached), len(waiting)), (asked, n)
        times = [a[n]["t"] - a[max(m for m in a if m < n)]["t"] for a in users.values() if n > 1 and n in a]
        for told, expected in (
            (step.avg_time, micros(times, mean)),
            (step.median_time, micros(times, median)),
        ):
            assert (told is None) == (expected is None), (asked, n)
            assert told is None or abs(told // MICRO - expected) <= max(1, expected * 1e-12), (asked, n)
        if n == count:
            assert query.users(n).run() == sorted(reached), asked
            assert query.in_progress(n).run() == sorted(waiting), asked
            assert n == 1 or query.dropped(n).run() == sorted(set(users) - reached - waiting), asked
    attribution = world.rng.choice(["first", "last", count])
    groups: dict = {}
    for attempt in users.values():
        at = {"first": 1, "last": max(attempt)}.get(attribution, attribution)
        groups.setdefault(attempt[at]["p"] if at in attempt else None, []).append(attempt)
    split = query.by("p", attribution=attribution).run()
    assert {key: [step.count for step in part] for key, part in split.items()} == {
        key: [sum(n in a for a in attempts) for n in range(1, count + 1)] for key, attempts in groups.items()
    }, (asked, attribution)


@pytest.mark.parametrize("seed", range(len(SCALES) * 2))
def test_ordered_funnels_are_what_a_walk_over_each_users_events_finds(tmp_path, seed):
    world = World(seed, tmp_path / "store")
    with world.biz as biz:
        for n in range(4):
            check(world, world.some(optional=n > 1))
        with biz.do():
            world.write(40)
            for n in range(3):
                check(world, world.some(optional=n > 1))


@pytest.mark.parametrize("firsts", [20, 1])
def test_a_window_ends_to_the_microsecond_however_far_apart_other_events_are(biz, firsts):
    """Over so long a time events are placed by the millisecond, where all of them fall on one."""
    biz.track.batch({"event": "A", "data": {"user_id": "far"}, "at": "0001-01-02"} for _ in range(firsts))
    biz.track.batch(
        {"event": "B", "data": {"user_id": "far"}, "at": "9999-12-30"} for _ in range(21 - firsts)
    )
    biz.track.A({"user_id": "u"}, at="2024-03-01T00:00")
    biz.track.B({"user_id": "u"}, at="2024-03-01T01:00")
    funnel = biz.track.funnel(["A", "B"])
    assert funnel.within(timedelta(hours=1)).users(2).run() == ["u"]
    assert funnel.within(timedelta(hours=1) - MICRO).users(2).run() == []
