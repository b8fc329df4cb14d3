"""Read models across entities: a function of each event that keeps values under keys.

State spaces: "projection:<name>:<generation>" (the values), "define:projection" (what it follows, and which
generation readers see).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from .. import values
from ..consume import Consumer, Pattern
from ..consume.lease import lease
from ..errors import AlreadyExists, Conflict, InvalidName, InvalidQuery, NotFound
from ..query import Lazy
from ..record import ENTITY, EVENT, MEASURE, Stored
from ..unit import UnitOfWork, current

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Projection", "Projections", "Writes"]


def _follows(on: Iterable[str]) -> Pattern:
    patterns = []
    for text in on:
        type, mark, event = text.partition(".") if isinstance(text, str) else ("", "", "")
        if not mark or not type or not event:
            raise InvalidQuery(
                f"a projection follows events like 'Order.created', 'Order.*' or '*.created', not {text!r}"
            )
        patterns.append((type, event))

    def test(row: Stored) -> bool:
        for type, event in patterns:
            if type in ("track", "measure"):
                kind = EVENT if type == "track" else MEASURE
                if row.kind == kind and event in ("*", row.name):
                    return True
                continue
            found, _, name = row.name.partition(".")
            if row.kind == ENTITY and type in ("*", found) and event in ("*", name):
                return True
        return False

    if not patterns:
        raise InvalidQuery("a projection follows at least one event: on=['Order.*']")
    kinds = {EVENT if t == "track" else MEASURE if t == "measure" else ENTITY for t, _ in patterns}
    return Pattern(frozenset(kinds), None, test)


@dataclass(frozen=True, slots=True)
class Writes:
    """`p`: what a projection's function writes with; all of it commits with the event's position."""

    store: Store
    space: str

    def _unit(self) -> UnitOfWork:
        unit = current(self.store.log)
        if unit is None:
            raise InvalidQuery("a projection is written only by its function, while that is called")
        return unit

    def get(self, key: str) -> Any:
        """The value under a key, None if missing."""
        kept = self._unit().peek(self.space, _key(key))
        return None if kept is None else orjson.loads(kept)

    def set(self, key: str, value: Any) -> None:
        """Keep a value under a key. Raises InvalidValue for what can't be stored."""
        self._unit().put(self.space, _key(key), orjson.dumps(values.plain(value, self.store.tz, str(key))))

    def upsert(self, key: str, function: Callable[[Any], Any]) -> None:
        """Keep what function gives for the present value; it gets None for a missing key."""
        self.set(key, function(self.get(key)))

    def delete(self, key: str) -> bool:
        """Take a key away; True if it was there."""
        unit = self._unit()
        there = unit.peek(self.space, _key(key)) is not None
        unit.put(self.space, _key(key), None)
        return there


def _key(key: Any) -> str:
    if not isinstance(key, str) or not key:
        raise InvalidName(f"a projection's key is text that is not empty, not {key!r}")
    return key


class Projection:
    """`biz.projection("OrdersByCustomer")`: read it, rebuild it."""

    def __init__(self, store: Store, name: str) -> None:
        self._store = store
        self.name = name
        self._function: Callable[[Any, Writes], Any] | None = None
        self._pattern: Pattern | None = None

    def _definition(self) -> dict[str, Any]:
        kept = self._store.log.get("define:projection", self.name)
        if kept is None:
            raise NotFound(
                f"there is no projection {self.name!r}: define it with @biz.projection({self.name!r}, on=[...])"
            )
        return orjson.loads(kept)

    def _space(self) -> str:
        return f"projection:{self.name}:{self._definition()['generation']}"

    def get(self, key: str) -> Lazy[Any]:
        """The value under a key, None if missing. Where its function is registered in this process, it is as
        fresh as the log; else as fresh as the process that has it."""
        return Lazy(lambda: self._get(key), "value")

    def _catch_up(self) -> None:
        consumers = self._store.consumers
        if self._function is not None and not consumers.inside and self._store.unit() is None:
            consumers.catch_up(self._consumer(self._definition()["generation"]))

    def _get(self, key: str) -> Any:
        self._catch_up()
        kept = self._store.log.get(self._space(), _key(key))
        return None if kept is None else orjson.loads(kept)

    def list(self, prefix: str = "") -> Lazy[dict[str, Any]]:
        """All pairs whose key starts with prefix, in order of key; as fresh as `get`."""
        return Lazy(lambda: self._list(prefix), "value")

    def _list(self, prefix: str) -> dict[str, Any]:
        self._catch_up()
        return {key: orjson.loads(value) for key, value in self._store.log.scan(self._space(), prefix)}

    @property
    def position(self) -> int:
        """How far it has followed the log."""
        return _position(self._store, self._consumer(self._definition()["generation"]))

    def _consumer(self, generation: int) -> str:
        return f"projection:{self.name}:{generation}"

    def rebuild(self) -> None:
        """Run over all history into a fresh copy, then let readers see it; until then they keep the old one.
        Raises NotFound where the function is not registered in this process, Conflict while another rebuilds it."""
        if self._function is None:
            raise NotFound(f"the function of the projection {self.name!r} is not registered in this process")
        with lease(self._store.log.locks, f"rebuild:{self.name}") as mine:
            if not mine:
                raise Conflict(f"the projection {self.name!r} is being rebuilt already")
            self._rebuild()

    def _rebuild(self) -> None:
        old = self._definition()
        new = {**old, "generation": old["generation"] + 1}
        consumers = self._store.consumers
        with self._store.log.transaction() as tx:
            tx.clear(f"projection:{self.name}:{new['generation']}")
            tx.delete("consumer", self._consumer(new["generation"]))
        fresh = self._make(new["generation"])
        seen, fresh.ready = fresh.ready, None
        fresh.load()
        while fresh.step(lambda _: True):
            pass
        fresh.ready = seen
        with self._store.log.transaction() as tx:
            tx.put("define:projection", self.name, orjson.dumps(new))
            tx.clear(f"projection:{self.name}:{old['generation']}")
            tx.delete("consumer", self._consumer(old["generation"]))
            tx.clear("dead", f"{self._consumer(old['generation'])}:")
        consumers.unregister(self._consumer(old["generation"]))
        consumers.register(fresh)

    def _is_seen(self, generation: int) -> bool:
        """Whether readers see this generation; if another process has rebuilt it, its successor is taken up."""
        seen = self._definition()["generation"]
        if seen > generation:
            consumers = self._store.consumers
            if consumers.get(self._consumer(seen)) is None:
                consumers.register(self._make(seen))
            consumers.unregister(self._consumer(generation))
        return seen == generation

    def _make(self, generation: int) -> Consumer:
        function, pattern = self._function, self._pattern
        assert function is not None
        assert pattern is not None
        writes = Writes(self._store, f"projection:{self.name}:{generation}")
        return Consumer(
            self._store,
            self._consumer(generation),
            pattern,
            function=lambda event: function(event, writes),
            ready=lambda: self._is_seen(generation),
        )

    def _start(self, function: Callable[[Any, Writes], Any], on: list[str]) -> None:
        self._pattern = _follows(on)
        self._function = function
        with self._store.log.transaction() as tx:
            kept = tx.get("define:projection", self.name)
            if kept is None:
                definition = {"on": on, "generation": 1}
                tx.put("define:projection", self.name, orjson.dumps(definition))
            else:
                definition = orjson.loads(kept)
                if definition["on"] != on:
                    raise AlreadyExists(
                        f"the projection {self.name!r} follows {definition['on']} already, not {on}"
                    )
        consumer = self._make(definition["generation"])
        consumer.load()
        self._store.consumers.register(consumer)
        self._store.derived[f"projection:{self.name}"] = self.rebuild

    def __repr__(self) -> str:
        return f"biz.projection({self.name!r})"


def _position(store: Store, name: str) -> int:
    from ..consume.consumer import position_of

    consumer = store.consumers.get(name)
    return (position_of(store, name) or 0) if consumer is None else max(consumer.load(), consumer.position)


class Projections:
    """`biz.projection`: with `on=` a decorator that defines one, else the projection of that name."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Projection] = {}

    def __call__(self, name: Any, on: Iterable[str] | str | None = None) -> Any:
        """Define (with `on`) or read a projection.

        Args:
            name: what it is kept under.
            on: "Order.*", "*.created", "track.Signup": which events its function gets, from all history.
        """
        name = values.name(name, "a projection")
        projection = self._known.get(name)
        if projection is None:
            projection = self._known[name] = Projection(self._store, name)
        if on is None:
            return projection
        patterns = [on] if isinstance(on, str) else list(on)

        def decorate(function: Callable[[Any, Writes], Any]) -> Callable[[Any, Writes], Any]:
            projection._start(function, patterns)
            return function

        return decorate
