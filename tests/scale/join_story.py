"""A story of joins: random records with retractions, merged ids and idle times, and what can be seen of it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bizcode import Business, ManualClock, this

START = datetime(2024, 1, 1, tzinfo=UTC)


def side(biz: Business, name: str, *keys: str, wait: str = "0s") -> Any:
    return biz.stream.track[name].out_of_order(wait).key_by(*keys)


def named(left: Any, right: Any) -> dict[str, Any] | None:
    """What is made of a pair; of some, nothing."""
    return None if left.v % 11 == 10 else {"l": left.v, "r": right and right.v, "user": left.user}


JOINS: dict[str, Any] = {
    "pairs": lambda b: side(b, "L", "k", wait="2m").join(side(b, "R", "k", wait="5m")).within("3m").on(named),
    "lefts": lambda b: side(b, "L", "k").left_join(side(b, "R", "k", wait="2m")).within("3m").on(named),
    "one stream with itself, by two names": lambda b: side(b, "L", "k", "n.g", wait="2m").filter(this.v != 3)
    .left_join(side(b, "L", "k", "n.g")).within("1m").on(named),
    "late ones": lambda b: side(b, "L", "k").join(side(b, "R", "k").filter(v__gte=9)).within("1m").on(named)
    .lateness("3m"),
    "users and samples": lambda b: side(b, "L", "user_id").left_join(b.stream.measure.load.key_by("host"))
    .within("10m").on(lambda left, load: {"l": left.v, "r": load and load.value, "user": left.user}),
    "windows of pairs": lambda b: side(b, "L", "k", wait="2m").left_join(side(b, "R", "k", wait="2m")).within("3m")
    .on(named).window.tumbling("4m").aggregate(n=b.count(), l=b.sum("l")),
    "sessions of pairs": lambda b: side(b, "L", "k").join(side(b, "R", "k", wait="1m")).within("10m").on(named)
    .window.session("2m").aggregate(n=b.count(), l=b.sum("l")),
}  # fmt: skip


class Story:
    """What comes of some joins, over random records with retractions, merged ids and idle times.

    Args:
        cut: how likely a drain is after a record.
    """

    def __init__(self, seed: int, cut: float, names: list[str]) -> None:
        self._rng = random.Random(seed)
        self._cut, self._names = cut, names
        self._clock = ManualClock(START)
        self._out: dict[str, list[Any]] = {name: [] for name in names}
        self.shown: list[Any] = []

    def told(self, place: Path, engine: str | None, records: int = 120) -> list[Any]:
        """What can be seen at each step."""
        with Business(place, clock=self._clock, worker=False, engine=engine) as biz:
            self._start(biz)
            self._tell(biz, records)
        return self.shown

    def _start(self, biz: Business) -> None:
        for name in self._names:
            out = self._out[name]
            stream = JOINS[name](biz).late(lambda e, out=out: out.append(("late", e.v)))
            stream.to(lambda e, out=out: out.append(tuple(dict(e).items()))).to.track[f"Of {name}"].named(
                name
            ).start()

    def _tell(self, biz: Business, records: int) -> None:
        rng, minute, now, ids, gone = self._rng, 0.0, START, [], set()
        for n in range(records):
            minute += rng.random() * 1.5
            at = START + timedelta(minutes=max(0, minute - rng.choice([0, 0, 0, rng.random() * 8])))
            if (
                rng.random() < 0.7
            ):  # else to the microsecond; whole minutes lie just so far apart as a pair may
                at = at.replace(microsecond=0, second=rng.choice([0, at.second]))
            if rng.random() < 0.2:
                biz.measure.load(n, host=rng.choice("ab"), at=at)
            data = {"k": rng.choice(["a", "b", 1, 1.0, None]), "n": {"g": rng.randrange(2)}, "v": n}
            ids.append(biz.track[rng.choice("LR")]({**data, "user_id": rng.choice("ab")}, at=at).id)
            if rng.random() < 0.2:
                taken = rng.choice(ids[-10:])
                if taken not in gone:
                    gone.add(taken)
                    biz.retract(taken)
            if n == records // 3:
                biz.store.segments.seal()
            if n == records // 2:
                biz.identify("b", "a")
            if rng.random() < self._cut:
                self._look(biz)
            if n in (records // 4, records // 2):
                self._look(biz)
                now = max(now, START + timedelta(minutes=minute + rng.random() * 15))
                self._clock.set(now)
                self._look(biz)
        self._look(biz)
        self._clock.set(START + timedelta(days=3))
        self._look(biz)

    def _look(self, biz: Business) -> None:
        biz.drain()
        events = {
            name: sorted(
                (e.timestamp, repr(sorted(e.data.items()))) for e in biz.track[f"Of {name}"].events()
            )
            for name in self._names
        }
        standing = [(s.name, s.watermark, s.late, s.dead) for s in biz.stream.list().run()]
        self.shown.append(({name: list(out) for name, out in self._out.items()}, events, standing))
