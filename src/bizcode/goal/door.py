"""`biz.goal`: define, list and follow goals.

A definition and each change of it is a system record ("goal"); what holds now is in the state space
"define:goal". The targets are kept as JSON with it; only a target whose conditions hold a Python function must
be given back by defining the goal again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import orjson

from .. import values, when
from ..awaited import DONE, Awaited, Done
from ..errors import AlreadyExists, Conflict, InvalidQuery, NotFound
from ..query import Lazy
from ..query.selection import check_count
from ..record import SYSTEM
from ..room import Room, within
from ..room import kept as kept_of
from .alert import GoalAlert
from .progress import STATUSES, GoalPoint, Progress, _day_ends, day_of, progress_at
from .reach import Reach, check, evaluate
from .spec import reach_of, spec_of_reach

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["GoalDoor", "GoalInfo", "Goals"]


@dataclass(frozen=True, slots=True)
class GoalInfo:
    """What is known of a goal: `by` is the end of its deadline's day or period, `state` "active" or "archived"."""

    name: str
    owner: str | None
    by: datetime | None
    target: Any
    status: str
    state: str
    defined: datetime


class Goals:
    """`biz.goal.define(...)`, `biz.goal("Q1-revenue").progress()`, `biz.goal.all().progress()`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._targets: dict[str, list[Reach]] = {}

    def define(
        self, name: str, target: Any = None, targets: Any = None, by: Any = None, owner: str | None = None
    ) -> GoalDoor:
        """Set a goal.

        Args:
            name: not blank, unique.
            target: `query.reach(number)`; or targets: several of them.
            by: the deadline: a date, "2024-Q2", "2024-06", "2024", at whose end it falls; None: none.
            owner: whose goal it is.
        Raises:
            AlreadyExists: another goal has that name. InvalidQuery: no target, or one that is none.
            InvalidTime: a deadline that can't be read. One that has passed is missed, or achieved.
        """
        name = values.name(name, "a goal")
        owner = None if owner is None else values.name(owner, "an owner")
        found = self._checked(target, targets)
        deadline = None if by is None else when.deadline(by, self._store.tz)
        made = {
            "labels": [reach.label for reach in found],
            "numbers": [reach.target for reach in found],
            "targets": [spec_of_reach(reach) for reach in found],
            "by": deadline,
            "owner": owner,
            "before": self._before(name, found),
            "state": "active",
            "defined": self._store.now(),
        }

        def step(room: Room) -> None:
            kept = room.get("define:goal", name)
            if kept is None:
                self._write(room, name, made, "defined")
            else:
                known = orjson.loads(kept)
                if any(known[key] != made[key] for key in ("labels", "by", "owner")):
                    raise AlreadyExists(
                        f"the goal {name!r} is defined otherwise already: change it by .update()"
                    )

        within(self._store, step)
        self._targets[name] = found
        return GoalDoor(self, name)

    def _checked(self, target: Any, targets: Any) -> list[Reach]:
        if (target is None) == (targets is None):
            raise InvalidQuery("a goal takes either target= or targets=")
        found = [check(target)] if targets is None else [check(one) for one in targets]
        if not found:
            raise InvalidQuery("a compound goal needs at least one target")
        return found

    def _before(self, name: str, targets: list[Reach]) -> list[Any] | None:
        """Where a new goal's targets stand, for those that are to come down from there. By what is recorded now, not
        by time: what comes later may bear the same instant."""
        if self._store.log.get("define:goal", name) is not None:
            return None
        values = (evaluate(one.query, None) if one.direction == "below" else None for one in targets)
        return [None if value is None else float(value) for value in values]

    def _write(self, room: Room, name: str, made: dict[str, Any], what: str) -> None:
        room.put("define:goal", name, orjson.dumps(made))
        room.append(self._store.writer.draft(SYSTEM, "goal", {"goal": name, "change": what, **made}))

    def _kept(self, name: str, room: Room | None = None) -> dict[str, Any]:
        unit = self._store.unit()
        reader = room.get if room is not None else self._store.log.get if unit is None else unit.peek
        kept = reader("define:goal", name)
        if kept is None:
            known = ", ".join(self._store.log.cached("define:goal")) or "none"
            raise NotFound(f"there is no goal {name!r}; defined are: {known}")
        return orjson.loads(kept)

    def _reaches(self, name: str) -> list[Reach]:
        found = self._known(name)
        if found is None:
            raise NotFound(
                f"the goal {name!r} was defined by another program with a Python function in its target: "
                "define it here too, to give it its target"
            )
        return found

    def _known(self, name: str) -> list[Reach] | None:
        """A goal's targets, None where only the program that defined it has them. Raises NotFound."""
        found = self._targets.get(name)
        if found is None:
            kept = self._kept(name).get("targets", [None])
            restored = [reach_of(spec, self._store.engine) for spec in kept]
            found = [reach for reach in restored if reach is not None]
            if len(found) < len(restored):
                return None
        return found

    def __call__(self, name: str) -> GoalDoor:
        """The goal of that name."""
        return GoalDoor(self, values.name(name, "a goal"))

    def all(self) -> AllGoals:
        """All active goals."""
        return AllGoals(self)

    def list(self, status: str | None = None, owner: str | None = None) -> Lazy[list[GoalInfo]]:
        """The goals, by name; those with a status (or "active", "archived"), or of an owner."""
        if status is not None and status not in (*STATUSES, "active", "archived"):
            raise InvalidQuery(
                f"status is one of {', '.join((*STATUSES, 'active', 'archived'))}, not {status!r}"
            )
        return Lazy(lambda: self._list(status, owner), "goals")

    def _list(self, status: str | None, owner: str | None) -> list[GoalInfo]:
        found = []
        for name, kept in kept_of(self._store, "define:goal").items():
            made = orjson.loads(kept)
            if owner is not None and made["owner"] != owner:
                continue
            stands = self._progress(name).status if self._known(name) is not None else "open"
            if status in ("active", "archived") and made["state"] != status:
                continue
            if status in STATUSES and (stands != status or made["state"] == "archived"):
                continue
            numbers = made["numbers"]
            found.append(
                GoalInfo(
                    name,
                    made["owner"],
                    None if made["by"] is None else when.to_datetime(made["by"], self._store.tz),
                    numbers[0] if len(numbers) == 1 else numbers,
                    stands,
                    made["state"],
                    when.to_datetime(made["defined"]),
                )
            )
        return found

    def progress_of(self, name: str) -> Progress | None:
        """A goal's standing, None where only the program that defined it has its target. Raises NotFound."""
        return None if self._known(name) is None else self._progress(name)

    def _progress(self, name: str, at: int | None = None) -> Progress:
        made = self._kept(name)
        return progress_at(
            self._store, name, self._reaches(name), made["defined"], made["by"], at, made.get("before")
        )


class AllGoals:
    """`biz.goal.all()`."""

    def __init__(self, goals: Goals) -> None:
        self._goals = goals

    def progress(self) -> Lazy[list[Progress]]:
        """The standing of every active goal, by name."""
        goals = self._goals

        def run() -> list[Progress]:
            names = [
                name
                for name, kept in kept_of(goals._store, "define:goal").items()
                if orjson.loads(kept)["state"] == "active"
            ]
            return [goals._progress(name) for name in names if goals._known(name) is not None]

        return Lazy(run, "progress", goals._store.engine)


class GoalDoor(Awaited):
    """One goal."""

    def __init__(self, goals: Goals, name: str) -> None:
        self._goals = goals
        self.name = name

    def progress(self) -> Lazy[Progress]:
        """Where it stands, and where it will be at its deadline."""
        return Lazy(lambda: self._goals._progress(self.name), "progress", self._goals._store.engine)

    def info(self) -> Lazy[GoalInfo]:
        """What is known of it."""

        def run() -> GoalInfo:
            self._goals._kept(self.name)
            return next(info for info in self._goals._list(None, None) if info.name == self.name)

        return Lazy(run, "goal")

    def history(
        self, since: Any = None, limit: int | None = None, *, every: int = 1
    ) -> Lazy[list[GoalPoint]]:
        """One point a day since it was defined, at the day's end (today's: now), rebuilt from the log.

        Args:
            since: only from then on.
            limit: the newest so many.
            every: 7: only each 7th day, counted back from today; a long course is drawn from few points.
        """
        store = self._goals._store
        count = None if limit is None else check_count(limit, "limit")
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InvalidQuery(f"every= is a whole number of days, 1 or more, not {every!r}")
        when.resolve_range(since, None, store.now(), store.tz)

        def run() -> list[GoalPoint]:
            made = self._goals._kept(self.name)
            now = store.now()
            low = when.resolve_range(since, None, now, store.tz).since
            start = made["defined"] if low is None else max(low, made["defined"])
            ends = _day_ends(store, start, now)
            ends = ends[::-every][::-1]
            if count is not None:
                ends = ends[max(0, len(ends) - count) :]
            points = []
            for end in ends:
                found = self._goals._progress(self.name, end)
                points.append(GoalPoint(day_of(end, store), found.current, found.percent, found.status))
            return points

        return Lazy(run, "history", store.engine)

    def update(
        self, target: Any = None, by: Any = None, owner: str | None = None, targets: Any = None
    ) -> GoalDoor:
        """Change its target, deadline or owner; what is not given stays. Raises NotFound."""
        goals = self._goals
        found = None
        if target is not None or targets is not None:
            found = goals._checked(target, targets)
        deadline = None if by is None else when.deadline(by, goals._store.tz)
        if owner is not None:
            values.name(owner, "an owner")

        def step(room: Room) -> None:
            made = goals._kept(self.name, room)
            if found is not None:
                made |= {
                    "before": None,
                    "labels": [r.label for r in found],
                    "numbers": [r.target for r in found],
                    "targets": [spec_of_reach(r) for r in found],
                }
            if by is not None:
                made["by"] = deadline
            if owner is not None:
                made["owner"] = owner
            goals._write(room, self.name, made, "updated")

        within(goals._store, step)
        if found is not None:
            goals._targets[self.name] = found
        return self

    def archive(self) -> GoalDoor:
        """Put it aside: it is kept, but neither listed as active nor watched. Raises Conflict if it is already."""
        return self._turn("active", "archived")

    def reactivate(self) -> GoalDoor:
        """Take it up again. Raises Conflict if it is active."""
        return self._turn("archived", "active")

    def _turn(self, before: str, after: str) -> GoalDoor:
        goals = self._goals

        def step(room: Room) -> None:
            made = goals._kept(self.name, room)
            if made["state"] != before:
                raise Conflict(f"the goal {self.name!r} is {made['state']} already")
            goals._write(room, self.name, {**made, "state": after}, after)

        within(goals._store, step)
        return self

    def delete(self) -> Done:
        """Remove it; the records of it stay. Raises NotFound."""
        goals = self._goals

        def step(room: Room) -> None:
            goals._kept(self.name, room)
            room.put("define:goal", self.name, None)
            for status in STATUSES:
                room.put("goal-status", f"{self.name}:{status}", None)
            room.append(goals._store.writer.draft(SYSTEM, "goal", {"goal": self.name, "change": "deleted"}))

        within(goals._store, step)
        goals._targets.pop(self.name, None)
        for status in STATUSES:
            goals._store.consumers.remove_ticker(f"goal:{self.name}:{status}")
        return DONE

    def alert(self, when: str, notify: Callable[[Progress], Any]) -> GoalAlert:
        """Call notify(progress) when the status becomes `when`, also if it is so at the first look; once per change.
        Raises InvalidQuery for an unknown status, NotFound for an unknown goal."""
        if when not in STATUSES:
            raise InvalidQuery(f"when= is one of {', '.join(STATUSES)}, not {when!r}")
        if not callable(notify):
            raise InvalidQuery(f"notify= is a function of the progress, not {notify!r}")
        self._goals._kept(self.name)
        made = GoalAlert(self._goals, self.name, when, notify)
        self._goals._store.consumers.tickers(made)
        return made

    def __repr__(self) -> str:
        return f"biz.goal({self.name!r})"
