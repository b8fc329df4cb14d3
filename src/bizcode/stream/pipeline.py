"""A pipeline: an immutable description until it is started, subscribed to or run."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import orjson

from .. import when
from ..awaited import Awaited
from ..consume import Subscription
from ..errors import AlreadyExists, InvalidName, InvalidQuery
from ..plan.aggregation import Aggregation
from ..plan.condition import And, conditions
from ..query import Lazy
from ..query.reach import describe
from .columns import columnar
from .compiled import on_spark
from .feed import Feed, can_be_fed
from .options import Options, of_join
from .running import distribute, follow, halt, over_history
from .sinks import value_field
from .steps import (
    Aggregate,
    Buffer,
    Enrich,
    Filter,
    FlatMap,
    Join,
    KeyBy,
    Map,
    Reduce,
    Sink,
    Throttle,
    Window,
)
from .windows import make

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Pipeline"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Pipeline(Awaited):
    """Made by `biz.stream...`; every step returns another. Nothing runs before `start`, `subscribe`, `for_each`
    or `run`."""

    store: Store
    biz: Any
    source: Any
    steps: tuple[Any, ...] = ()
    options: Options = field(default_factory=Options)
    name: str | None = None
    pending: Window | None = None

    @property
    def effective(self) -> Options:
        """Its options; of a join with what its sides say."""
        source = self.source
        if not isinstance(source, Join):
            return self.options
        return of_join(self.options, source.left.effective, source.right.effective)

    def _then(self, step: Any) -> Pipeline:
        if self.pending is not None:
            raise InvalidQuery("after a window comes aggregate(...) or reduce(...)")
        return replace(self, steps=(*self.steps, step))

    # elements

    def filter(self, *given: Any, **properties: Any) -> Pipeline:
        """Only elements that meet the conditions, as in `where`."""
        found = conditions(given, properties, self.store.tz)
        return self._then(Filter(found if found != And() else And()))

    def map(self, fn: Callable[[Any], Any]) -> Pipeline:
        """What fn makes of each element; None leaves it out."""
        return self._then(Map(_function(fn, "map")))

    def flat_map(self, fn: Callable[[Any], Any]) -> Pipeline:
        """Each of what fn gives for an element."""
        return self._then(FlatMap(_function(fn, "flat_map")))

    def enrich(self, fn: Callable[[Any, Any], Any]) -> Pipeline:
        """What fn(element, biz) makes of each element; sync or async."""
        return self._then(Enrich(_function(fn, "enrich")))

    def key_by(self, *parts: Any) -> Pipeline:
        """The key of each element: fields' names, or functions."""
        if not parts or not all((isinstance(part, str) and part) or callable(part) for part in parts):
            raise InvalidQuery("key_by() takes names of fields, or functions of the element")
        return self._then(KeyBy(parts))

    @property
    def keyed(self) -> bool:
        """Whether its elements have a key."""
        return isinstance(self.source, Join) or any(isinstance(step, KeyBy) for step in self.steps)

    @property
    def window(self) -> _Windows:
        """`.window.tumbling("1h")`, `.window.sliding("1h", "5m")`, `.window.session("30m")`."""
        return _Windows(self)

    def aggregate(self, **compute: Aggregation) -> Pipeline:
        """Aggregations by name, of each window (without one: running, after each element)."""
        if not compute:
            raise InvalidQuery("aggregate() takes at least one aggregation, like orders=biz.count()")
        for name, made in compute.items():
            if name in ("key", "window_start", "window_end"):
                raise InvalidQuery(f"every result has a {name} of its own: call the aggregation another name")
            if not isinstance(made, Aggregation):
                raise InvalidQuery(f"aggregate() takes biz.count(), biz.sum('x'), ..., not {name}={made!r}")
        return replace(self, pending=None, steps=(*self.steps, Aggregate(compute, self.pending)))

    def reduce(self, fn: Callable[[Any, Any], Any], initial: Any = None) -> Pipeline:
        """Fold the elements of each window, in event time: fn(state, element) gives the next state."""
        return replace(
            self, pending=None, steps=(*self.steps, Reduce(_function(fn, "reduce"), initial, self.pending))
        )

    # two

    def join(self, other: Pipeline) -> _Join:
        """Pairs of elements of one key: `.within("10m").on(lambda o, p: ...)`."""
        return _Join(self, _keyed(other), "inner")

    def left_join(self, other: Pipeline) -> _Join:
        """As join, and elements of the left without a match, with None."""
        return _Join(self, _keyed(other), "left")

    def co_group(self, other: Pipeline) -> _Join:
        """One result per key and cluster of elements chained by the bound: (lefts, rights)."""
        return _Join(self, _keyed(other), "group")

    # flow

    def throttle(self, each: Any) -> Pipeline:
        """At most one element per key in so long, the first."""
        return self._then(Throttle(when.exact(each)))

    def buffer(self, size: int, overflow: str = "drop_oldest") -> Pipeline:
        """Bound what waits for a slow function: "drop_oldest", "drop_newest" or "block"."""
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise InvalidQuery(f"buffer() takes a whole number of at least 1, not {size!r}")
        if overflow not in ("drop_oldest", "drop_newest", "block"):
            raise InvalidQuery(f"overflow is 'drop_oldest', 'drop_newest' or 'block', not {overflow!r}")
        return self._then(Buffer(size, overflow))

    def retry(self, times: int = 3, backoff: Any = "1s") -> Pipeline:
        """How often a function that raises is called again."""
        if isinstance(times, bool) or not isinstance(times, int) or times < 0:
            raise InvalidQuery(f"retry() takes a whole number of at least 0, not {times!r}")
        return self._option(retries=times, backoff=when.exact(backoff))

    def on_error(self, fn: Callable[[BaseException, Any], Any]) -> Pipeline:
        """fn(error, element) after the last retry, in place of the dead letters."""
        return self._option(on_error=_function(fn, "on_error"))

    def dead_letter(self) -> Pipeline:
        """What fails goes to the dead letters, as the stream's own: `biz.dead_letters.list(consumer="<name>")`."""
        return self._option(on_error=None)

    def late(self, fn: Callable[[Any], Any]) -> Pipeline:
        """fn(element) for what comes after its windows are closed for good."""
        return self._option(late=_function(fn, "late"))

    def lateness(self, allowed: Any) -> Pipeline:
        """How long after its end a window is still corrected."""
        return self._option(lateness=when.exact(allowed, zero_ok=True))

    def out_of_order(self, bound: Any) -> Pipeline:
        """By how much the watermark stays behind the highest timestamp seen."""
        return self._option(out_of_order=when.exact(bound, zero_ok=True))

    def idle(self, after: Any) -> Pipeline:
        """After so long without anything new the watermark follows the clock."""
        return self._option(idle=when.exact(after))

    def _option(self, **changes: Any) -> Pipeline:
        return replace(self, options=replace(self.options, **changes))

    def named(self, name: str) -> Pipeline:
        """Give it a name: under it position and state are kept."""
        if not isinstance(name, str) or not name.strip():
            raise InvalidName(f"a stream is named by text that is not blank, not {name!r}")
        return replace(self, name=name)

    @property
    def to(self) -> Any:
        """Sinks: `.to.track.X`, `.to.measure.m`, `.to.view.v`, `.to.Customer("id").notify`, `.to(fn)`."""
        from .to import To

        return To(self)

    # running it

    def _text(self) -> list[str]:
        """What it is, a line per step; functions by their names."""
        source = self.source
        if isinstance(source, Join):
            first = [
                f"{source.kind} join within {source.within}",
                *source.left._text(),
                *source.right._text(),
            ]
        else:
            first = [f"from {source.text}"]
        options = self.options
        return [
            *first,
            *map(describe, self.steps),
            f"{options.out_of_order} {options.lateness} {options.idle}",
        ]

    def _check(self) -> None:
        if self.pending is not None:
            raise InvalidQuery("after a window comes aggregate(...) or reduce(...)")
        for step in self.steps:
            if isinstance(step, Sink) and step.kind == "measure":
                value_field(self, step)

    def _full_name(self) -> str:
        name = self.name
        if name is None:
            sink = next(
                (step for step in reversed(self.steps) if isinstance(step, Sink) and step.kind != "function"),
                None,
            )
            name = (
                None
                if sink is None
                else f"{sink.kind}.{sink.name}"
                if sink.type is None
                else f"{sink.type}.{sink.name}"
            )
        if name is None:
            raise InvalidQuery("start() needs a name: .named('hourly-revenue').start()")
        return name

    def start(self, reset: bool = False, since: Any = None, engine: str | None = None) -> Pipeline:
        """Run from now on, durably: stopped, or after a crash, it goes on where it was.

        Args:
            reset: begin anew, also where another pipeline has run under the name. The result of a window takes
                the place of that window's former one in track and measure.
            since: "start" or an instant to begin earlier.
            engine: "spark" has Spark keep the windows, or both sides of a join, "embedded" keeps them in this process; None: as the
                business was opened.
        Raises:
            InvalidQuery: no name, a sink that can't work, or a step that Spark can't be given. AlreadyExists:
            another pipeline has that name; the message says what differs. StorageError: Spark can't be reached.
        """
        self._check()
        name = self._full_name()
        if since not in (None, "now", "start"):
            self.store.engine.range_start(since)
        spark = on_spark(self, engine)
        text = self._text()
        with self.store.log.transaction() as tx:
            kept = tx.get("define:stream", name)
            before = {} if kept is None else orjson.loads(kept)
            known = before.get("text")
            kind = "embedded" if spark is None else "spark"
            if before.get("engine", "embedded") != kind and known is not None and not reset:
                raise AlreadyExists(
                    f"the state of the stream {name!r} is kept by the engine {before.get('engine', 'embedded')!r}, "
                    f"not {kind!r}: name it by start(engine=...), or begin anew by start(reset=True)"
                )
            if known is not None and known != text and not reset:
                was = [_readable(line) for line in known if line not in text]
                now = [_readable(line) for line in text if line not in known]
                raise AlreadyExists(
                    f"the stream {name!r} ran as another pipeline: was {was}, is {now}; start(reset=True) begins anew"
                )
            if reset:
                tx.clear(f"stream:{name}")
                tx.delete("consumer", f"stream:{name}")
            views = [step.name for step in self.steps if isinstance(step, Sink) and step.kind == "view"]
            generation = before.get("generation", 0) + (reset and kept is not None)
            definition = {
                "text": text,
                "state": "running",
                "views": views,
                "generation": generation,
                "engine": kind,
            }
            tx.put("define:stream", name, orjson.dumps(definition))
        if spark is None:
            follow(self, name, since, durable=True)
        else:
            distribute(self, name, since, *spark)
        return replace(self, name=name)

    def stop(self) -> Pipeline:
        """Stop in this process; position and state are kept."""
        name = self._full_name()
        consumers = self.store.consumers
        halt(consumers, f"stream:{name}")
        with self.store.log.transaction() as tx:
            kept = tx.get("define:stream", name)
            if kept is not None:
                tx.put("define:stream", name, orjson.dumps({**orjson.loads(kept), "state": "stopped"}))
        return self

    def subscribe(self, fn: Callable[[Any], Any]) -> Subscription:
        """Call fn with each result from now on, while this process lives; named, durably."""
        _function(fn, "subscribe")
        self._check()
        name = self.name or f"subscription-{uuid.uuid4().hex[:12]}"
        made = replace(self, steps=(*self.steps, Sink("function", "subscribe", function=fn)))
        follow(made, name, None, durable=self.name is not None)
        consumers = self.store.consumers

        def end() -> None:
            consumers.unregister(f"stream:{name}")
            consumers.remove_ticker(f"stream:{name}")

        return Subscription(name, end)

    def for_each(self, fn: Callable[[Any], Any]) -> Subscription:
        """The same as subscribe."""
        return self.subscribe(fn)

    def run(self, since: Any = None) -> Lazy[list[Any]]:
        """The same pipeline over history, to the end, as a bounded query: the final results, sinks left out.

        Args:
            since: only records from then on; None or "start": all.
        """
        self._check()
        return Lazy(lambda: over_history(self, since), "stream", self.store.engine)

    @property
    def fed(self) -> bool:
        """Whether what it gives can be kept up to date by `feed`."""
        return can_be_fed(self)

    def feed(self, came: Any, went: Any, again: Any) -> Feed:
        """What it gives of everything there is, kept up to date; see Feed. For views."""
        self._check()
        return Feed(self, came, went, again)

    def explain(self) -> str:
        """The steps, and how each runs: "columns" in ranges of the log at once, "elements" one by one."""
        plan = columnar(self)
        lines = [self._text()[0]]
        for n, step in enumerate(self.steps):
            how = "columns" if plan is not None and n <= plan.stage else "elements"
            lines.append(f"{describe(step)}  [{how}]")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Pipeline({' > '.join(type(step).__name__ for step in self.steps)})"


def _readable(line: str) -> str:
    """A line of a definition; its last one holds the options of time."""
    parts = line.split()
    if len(parts) != 3 or not all(part.isdigit() for part in parts):
        return line
    names = ("out_of_order", "lateness", "idle")
    return ", ".join(
        f"{name} {timedelta(microseconds=int(us))}" for name, us in zip(names, parts, strict=True)
    )


def _keyed(side: Any) -> Pipeline:
    if not isinstance(side, Pipeline) or not side.keyed:
        raise InvalidQuery("both sides of a join need a key: .key_by('order_id')")
    return side


def _parts(side: Pipeline) -> int | None:
    """How many parts its key has, None if that isn't known."""
    last = next((step for step in reversed(side.steps) if isinstance(step, KeyBy)), None)
    return None if last is None else len(last.parts)


def _function(fn: Any, what: str) -> Any:
    if not callable(fn):
        raise InvalidQuery(f"{what}() takes a function, not {fn!r}")
    return fn


@dataclass(frozen=True, slots=True)
class _Windows:
    pipeline: Pipeline

    def tumbling(self, size: Any) -> Pipeline:
        """Windows side by side, aligned to the epoch in UTC; days and longer to the business's calendar."""
        return replace(self.pipeline, pending=make("tumbling", size))

    def sliding(self, size: Any, slide: Any) -> Pipeline:
        """Overlapping windows, one beginning each `slide`."""
        return replace(self.pipeline, pending=make("sliding", size, slide))

    def session(self, gap: Any) -> Pipeline:
        """Elements less than the gap apart."""
        return replace(self.pipeline, pending=make("session", gap))


@dataclass(frozen=True, slots=True)
class _Join:
    left: Pipeline
    right: Pipeline
    kind: str
    bound: int | None = None

    def within(self, bound: Any) -> _Join | Pipeline:
        """Both timestamps at most so far apart, either way, the bound included."""
        made = replace(self, bound=when.exact(bound))
        return made._made(None) if self.kind == "group" else made

    def on(self, function: Callable[..., Any]) -> Pipeline:
        """What to make of each pair (of a cluster: of the two lists)."""
        return self._made(_function(function, "on"))

    def _made(self, function: Callable[..., Any] | None) -> Pipeline:
        if self.bound is None:
            raise InvalidQuery("a join needs a bound of time: .within('10m')")
        left, right = _keyed(self.left), _keyed(self.right)
        parts = _parts(left), _parts(right)
        if None not in parts and parts[0] != parts[1]:
            raise InvalidQuery(
                f"the keys of a join's sides are compared whole: they can't have {parts[0]} and {parts[1]} parts"
            )
        join = Join(left, right, self.kind, self.bound, function)
        return (_Grouped if function is None else Pipeline)(left.store, left.biz, join)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise InvalidQuery(f"before .{name} a join says .within('10m').on(lambda left, right: ...)")


class _Grouped(Pipeline):
    """A co_group as it is, of (lefts, rights): `on` says what to make of them."""

    __slots__ = ()

    def on(self, function: Callable[[list[Any], list[Any]], Any]) -> Pipeline:
        """What to make of the two lists. Raises InvalidQuery after another step."""
        if self.steps:
            raise InvalidQuery("on(...) comes right after within(...)")
        join = replace(self.source, function=_function(function, "on"))
        return Pipeline(self.store, self.biz, join, options=self.options, name=self.name)
