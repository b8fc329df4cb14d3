"""`biz.every`: jobs by the clock, in the business's timezone, one run per tick among all processes.

State spaces: "schedule" (key = the job's name: its last tick), "runs" (what ran, the last thousand).
The arithmetic of cron is cronsim's; what a wall time means on the nights when the clock changes is decided
here: one that comes twice runs once, one that is skipped runs at the first instant after.
"""

from __future__ import annotations

import inspect
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import orjson

from . import values, when
from .clock import ManualClock
from .consume.consumer import call
from .errors import InvalidQuery, InvalidTime
from .on import Names, qualified_name
from .query import Lazy
from .unit import UnitOfWork

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Every", "Run", "Schedule"]

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WORDS = {
    "minute": "* * * * *",
    "hour": "0 * * * *",
    "day": "0 0 * * *",
    "week": "0 0 * * 1",
    "month": "0 0 1 * *",
    "quarter": "0 0 1 1,4,7,10 *",
    "year": "0 0 1 1 *",
    "weekday": "0 0 * * 1-5",
    "weekend": "0 0 * * 6,0",
    **{day: f"0 0 * * {(n + 1) % 7}" for n, day in enumerate(_DAYS)},
}
_AT = re.compile(r"(\d{1,2})(?::(\d{2}))?\s*(am|pm)?", re.IGNORECASE)
_FORMS = 'use "9am", "8:30", "17:45", "12:15pm", "noon" or "midnight"'
KEPT = 1_000
ON_TIME = 60_000_000
RETRIES = 3
BACKOFF = 0.1


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job: `scheduled` is its tick; `error` is None if it went well."""

    name: str
    scheduled: datetime
    started: datetime
    finished: datetime
    error: str | None

    @property
    def ok(self) -> bool:
        return self.error is None


class _Cron:
    """Ticks of a cron expression over the wall clock."""

    def __init__(self, expression: str, tz: ZoneInfo) -> None:
        from cronsim import CronSim, CronSimError

        self._expression = expression
        self._tz = tz
        try:
            if len(expression.split()) != 5:
                raise CronSimError("Wrong number of fields")
            CronSim(expression, datetime(2024, 1, 1))
        except CronSimError as error:
            raise InvalidTime(
                f"{expression!r} is no cron expression ({error}): it has five fields, "
                'minute hour day-of-month month day-of-week, like "0 9 * * 1-5"'
            ) from error

    def after(self, us: int) -> int | None:
        """The first tick later than an instant."""
        from cronsim import CronSim

        local = when.to_datetime(us, self._tz).replace(tzinfo=None)
        # In the hour that comes twice the wall clock was already later: look from before the change.
        try:
            for wall in CronSim(self._expression, local - timedelta(hours=3)):
                at = self._instant(wall)
                if at > us:
                    return at
        except StopIteration:
            return None
        return None

    def before(self, us: int) -> int | None:
        """The last tick that is not later than an instant."""
        from cronsim import CronSim

        local = when.to_datetime(us, self._tz).replace(tzinfo=None)
        try:
            for wall in CronSim(self._expression, local + timedelta(hours=3), reverse=True):
                at = self._instant(wall)
                if at <= us:
                    return at
        except StopIteration:
            return None
        return None

    def _instant(self, wall: datetime) -> int:
        aware = wall.replace(tzinfo=self._tz, fold=0)
        at = when.instant(aware, self._tz)
        shown = when.to_datetime(at, self._tz).replace(tzinfo=None)
        if shown == wall:
            return at
        # The clock skipped this wall time: the first instant after the gap.
        low, high = at - 86_400_000_000, at + 86_400_000_000
        for change, _ in when.offsets(self._tz, low, high)[1:]:
            if when.to_datetime(change, self._tz).replace(tzinfo=None) > wall:
                before = when.to_datetime(change - 1, self._tz).replace(tzinfo=None)
                if before < wall:
                    return change
        return at


class _Interval:
    """Ticks each so long, aligned to the clock."""

    def __init__(self, micros: int, tz: ZoneInfo) -> None:
        self._micros = micros
        self._tz = tz

    def _offset(self, us: int) -> int:
        return when.offsets(self._tz, us, us + 1)[0][1]

    def after(self, us: int) -> int:
        offset = self._offset(us)
        at = ((us + offset) // self._micros + 1) * self._micros - offset
        later = self._offset(at)
        if later != offset:
            # The clock changes before that tick: aligned to the clock as it will be then.
            moved = ((us + later) // self._micros + 1) * self._micros - later
            if self._offset(moved) == later:
                return moved
            return -(-(at + later) // self._micros) * self._micros - later
        return at

    def before(self, us: int) -> int:
        offset = self._offset(us)
        at = (us + offset) // self._micros * self._micros - offset
        earlier = self._offset(at)
        if earlier != offset:
            moved = (us + earlier) // self._micros * self._micros - earlier
            if self._offset(moved) == earlier:
                return moved
            return (at + earlier) // self._micros * self._micros - earlier
        return at


class _Job:
    """A registered function and its ticks: a ticker of the consumers."""

    def __init__(
        self, store: Store, name: str, ticks: Any, function: Callable[..., Any], misfire: str, biz: Any
    ) -> None:
        self._store = store
        self.name = f"every:{name}"
        self._job = name
        self._ticks = ticks
        self._function = function
        self._misfire = misfire
        self._biz = biz
        self._last: bytes | None = None
        self._next: int | None = None

    def begin(self, since: int) -> None:
        """The first definition begins there; a known job goes on where it was."""
        with self._store.log.transaction() as tx:
            if tx.get("schedule", self._job) is None:
                tx.put("schedule", self._job, str(since).encode())

    def due(self) -> int | None:
        last = self._store.log.get("schedule", self._job) or b"0"
        if last != self._last:
            self._last, self._next = last, self._ticks.after(int(last))
        return self._next

    def tick(self, now: int) -> None:
        """One run for all the ticks that were missed, or none with misfire="skip"."""
        first = self.due()
        if first is None or first > now:
            return
        tick = max(first, self._ticks.before(now) or first)
        if self._misfire == "skip" and now - tick > ON_TIME:
            with self._store.log.transaction() as tx:
                tx.put("schedule", self._job, str(tick).encode())
            return
        self._run(tick)

    def _run(self, tick: int) -> None:
        started = self._store.now()
        error: Exception | None = None
        for attempt in range(RETRIES + 1):
            if attempt and not isinstance(self._store.clock, ManualClock):
                time.sleep(BACKOFF * 4 ** (attempt - 1))
            unit = UnitOfWork(self._store.log)
            token = unit.enter()
            try:
                call(self._function, *((self._biz,) if _wants_one(self._function) else ()))
            except Exception as raised:  # noqa: BLE001 - whatever a user's function raises
                error = raised
                unit.discard()
                continue
            finally:
                unit.leave(token)
            unit.action(lambda tx: self._record(tx, tick, started, None))
            try:
                self._store.writer.written(len(unit.commit()))
                return
            except Exception as raised:  # noqa: BLE001 - a conflict, say
                error = raised
        with self._store.log.transaction() as tx:
            self._record(tx, tick, started, f"{type(error).__name__}: {error}")

    def _record(self, tx: Any, tick: int, started: int, error: str | None) -> None:
        tx.put("schedule", self._job, str(tick).encode())
        run = {
            "name": self._job,
            "scheduled": tick,
            "started": started,
            "finished": self._store.now(),
            "error": error,
        }
        tx.put("runs", f"{tick:020d}:{self._job}", orjson.dumps(run))
        kept = tx.scan("runs")
        for key, _ in kept[: max(0, len(kept) - KEPT)]:
            tx.delete("runs", key)


def _wants_one(function: Callable[..., Any]) -> bool:
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in found)


@dataclass(frozen=True, slots=True)
class Schedule:
    """`biz.every.day`: a decorator; `.at("9am")` sets the time of day. The options of `__call__` may be given
    with any part of it: `biz.every("15m", name="sync")`, `biz.every.day(misfire="skip").at("9am")`."""

    every: Every
    expression: str | None = None
    interval: int | None = None
    plain: bool = False
    name: str | None = None
    misfire: str = "once"
    since: Any = None

    def at(self, time: str, **options: Any) -> Schedule:
        """At this time of day, in the business's timezone, with the options of `__call__`. Raises InvalidTime."""
        if self.expression is None or not self.plain:
            raise InvalidTime("at() goes with a day: biz.every.day.at('9am'), biz.every.monday.at('8:30')")
        hour, minute = _time_of_day(time)
        fields = self.expression.split()
        if fields[1] == "*":
            raise InvalidTime("at() goes with a day, not with every hour or minute: use biz.every.cron(...)")
        return replace(self, expression=" ".join([str(minute), str(hour), *fields[2:]]))._with(**options)

    def _with(self, *, name: str | None = None, misfire: str | None = None, since: Any = None) -> Schedule:
        """The same with what is given. Raises InvalidQuery, InvalidName."""
        if misfire not in (None, "once", "skip"):
            raise InvalidQuery(f"misfire= is 'once' or 'skip', not {misfire!r}")
        return replace(
            self,
            name=self.name if name is None else values.name(name, "a job"),
            misfire=misfire or self.misfire,
            since=self.since if since is None else since,
        )

    def __call__(
        self,
        function: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        misfire: str | None = None,
        since: Any = None,
    ) -> Any:
        """Register a job, as a decorator with or without arguments.

        Args:
            function: called at each tick, sync or async; with one parameter it gets `biz`.
            name: what its ticks are kept under; else the function's module and qualified name.
            misfire: after downtime "once" (the default) makes up the missed ticks by one run, "skip" by none.
            since: an instant to begin earlier than now.
        """
        found = self._with(name=name, misfire=misfire, since=since)
        if function is None:
            return found
        if not callable(function):
            raise InvalidQuery(f"a job is a function, not {function!r}")
        self.every._register(found, function)
        return function


def _time_of_day(text: Any) -> tuple[int, int]:
    if isinstance(text, str):
        plain = text.strip().lower()
        if plain in ("noon", "midnight"):
            return (12, 0) if plain == "noon" else (0, 0)
        if match := _AT.fullmatch(plain):
            hour, minute, half = int(match[1]), int(match[2] or 0), match[3]
            if half and 1 <= hour <= 12 and minute < 60:
                return hour % 12 + (12 if half == "pm" else 0), minute
            if not half and (match[2] is not None) and hour < 24 and minute < 60:
                return hour, minute
    raise InvalidTime(f"{text!r} is no time of day: {_FORMS}")


class Every:
    """`@biz.every.hour`, `@biz.every.day.at("9am")`, `@biz.every("15m")`, `@biz.every.cron("0 9 * * 1-5")`."""

    def __init__(self, store: Store, biz: Any) -> None:
        self._store = store
        self._biz = biz
        self._names = Names()

    def __call__(self, duration: Any, **options: Any) -> Schedule:
        """Each so long, aligned to the clock, with the options of a `Schedule`. Raises InvalidTime."""
        return Schedule(self, interval=when.exact(duration))._with(**options)

    def cron(self, expression: str, **options: Any) -> Schedule:
        """By a cron expression of five fields, with the options of a `Schedule`. Raises InvalidTime."""
        if not isinstance(expression, str):
            raise InvalidTime(f"cron() takes an expression like '0 9 * * 1-5', not {expression!r}")
        _Cron(expression, self._store.tz)
        return Schedule(self, expression=expression)._with(**options)

    def __getattr__(self, word: str) -> Schedule:
        if word.startswith("_"):
            raise AttributeError(word)
        if word not in _WORDS:
            raise InvalidTime(
                f"biz.every has no {word!r}: use {', '.join(_WORDS)}, biz.every('15m') or biz.every.cron(...)"
            )
        return Schedule(self, expression=_WORDS[word], plain=True)

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *_WORDS})

    def runs(self, name: str | None = None) -> Lazy[list[Run]]:
        """What ran and what failed, the newest first; of all jobs or of one. The last thousand are kept."""
        return Lazy(lambda: self._runs(name), "runs")

    def _runs(self, name: str | None) -> list[Run]:
        found = []
        for _, value in self._store.log.scan("runs"):
            kept = orjson.loads(value)
            if name is None or kept["name"] == name:
                scheduled, started, finished = (
                    when.to_datetime(kept[key]) for key in ("scheduled", "started", "finished")
                )
                found.append(Run(kept["name"], scheduled, started, finished, kept["error"]))
        return found[::-1]

    def _register(self, schedule: Schedule, function: Callable[..., Any]) -> None:
        store, since = self._store, schedule.since
        if schedule.name is None:
            full = qualified_name(function, self._names.taken)
        else:
            full = schedule.name
            when_ = f"each {schedule.interval / 1e6:g} s" if schedule.interval else f"{schedule.expression!r}"
            self._names.claim(full, f"{qualified_name(function, set())} ({when_})")
        if schedule.interval is not None:
            ticks: Any = _Interval(schedule.interval, store.tz)
        else:
            assert schedule.expression is not None
            ticks = _Cron(schedule.expression, store.tz)
        job = _Job(store, full, ticks, function, schedule.misfire, self._biz)
        if since == "start":
            job.begin(0)
        else:
            job.begin(store.now() if since is None else when.instant(since, store.tz))
        store.consumers.tickers(job)

    def __repr__(self) -> str:
        return "biz.every"
