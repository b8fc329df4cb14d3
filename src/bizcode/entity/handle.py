"""One entity: append what happened, ask what it is now."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import when
from ..engine.tail import stored_drafts
from ..errors import Conflict, InvalidName, InvalidQuery, InvalidValue, NotFound
from ..query import Lazy
from ..query.selection import check_count
from ..record import ENTITY, Draft, record_of
from ..values import number
from ..writer import properties
from . import snapshot
from .aggregate import Aggregate, check_event

if TYPE_CHECKING:
    from .type import EntityType

__all__ = ["EntityHandle"]

_OPTIONS = frozenset(("expect", "id", "at", "user"))
_RACES = 1_000


@dataclass(frozen=True, slots=True, repr=False)
class EntityHandle:
    """`biz.Order("o1")`."""

    type: EntityType
    id: str

    @property
    def _entity(self) -> str:
        return f"{self.type.name}/{self.id}"

    @property
    def _log(self) -> Any:
        return self.type.store.log

    # what happened

    def append(self, event: str, *given: Any, **keywords: Any) -> Any:
        """Append one event; committed when it returns.

        Args:
            event: like "created".
            given: nothing, or one mapping (or record) of properties; keywords are then options:
                `expect` (the version the entity must have, else Conflict), `id` (idempotency), `at`, `user`.
            keywords: the properties, where no mapping is given.
        Returns:
            the stored EntityEvent.
        Raises:
            InvalidName, InvalidValue, Conflict.
        """
        data, options = properties(f"{self._entity}.append", given, keywords, _OPTIONS)
        return self._write(event, data, options)

    def _write(self, event: str, data: Mapping[str, Any], options: dict[str, Any]) -> Any:
        draft, plain = self._draft(event, data, options)
        return self.type.store.writer.write(draft, plain)

    def _draft(
        self, event: str, data: Mapping[str, Any], options: dict[str, Any]
    ) -> tuple[Draft, dict[str, Any]]:
        full = check_event(self.type.name, event)
        unknown = options.keys() - _OPTIONS
        if unknown:
            raise InvalidValue(
                f"{full}: unknown option {sorted(unknown)[0]!r}; options are {', '.join(sorted(_OPTIONS))}"
            )
        if not isinstance(data, Mapping):
            data = getattr(data, "data", data)
        if not isinstance(data, Mapping):
            raise InvalidValue(f"{full} takes a mapping of properties, not {type(data).__name__}")
        expect = options.get("expect")
        if expect is not None and (isinstance(expect, bool) or not isinstance(expect, int) or expect < 0):
            raise InvalidValue(f"expect= is a version, a whole number of at least 0, not {expect!r}")
        draft, plain = self.type.store.writer.draft(ENTITY, full, data, entity=self._entity, **options)
        definition = self.type.definition
        if definition is not None:
            definition.check(full, plain, self.id)
        return draft, plain

    def append_many(self, events: Iterable[Any], *, expect: int | None = None) -> list[Any]:
        """Append several events in one commit: all or none.

        Args:
            events: names, or (name, properties) or (name, properties, options).
            expect: the version that the entity must have before the first.
        """
        if isinstance(events, (str, bytes, Mapping)):
            raise InvalidValue(f"append_many takes a list of (name, properties), not {events!r}")
        drafts, plains = [], []
        for n, item in enumerate(events):
            parts = (
                (item,) if isinstance(item, str) else tuple(item) if isinstance(item, (tuple, list)) else ()
            )
            given: list[Any] = [*parts, None, None, None]
            name, data, extra = given[:3]
            if not 1 <= len(parts) <= 3 or not (extra is None or isinstance(extra, Mapping)):
                raise InvalidValue(f"append_many[{n}] is (name, properties), not {item!r}")
            options = dict(extra or {})
            if n == 0 and expect is not None:
                options["expect"] = expect
            try:
                draft, plain = self._draft(name, {} if data is None else data, options)
            except (InvalidName, InvalidValue) as error:
                raise type(error)(f"append_many[{n}]: {error}") from error
            drafts.append(draft)
            plains.append(plain)
        return self.type.store.writer.write_all(drafts, plains)

    def increment(self, by: Any = 1, **options: Any) -> Any:
        """Append `incremented`: `quantity` goes up by so much."""
        return self._write("incremented", {"by": _step(by)}, options)

    def decrement(self, by: Any = 1, *, below: Any = None, **options: Any) -> Any:
        """Append `decremented`: `quantity` goes down by so much.

        Args:
            below: raises Conflict, and appends nothing, if `quantity` would fall below it.
        """
        step = _step(by)
        below = None if below is None else number(below, "below=")
        if below is None:
            return self._write("decremented", {"by": step}, options)
        for _ in range(_RACES):
            version, state = self._fold()
            quantity = snapshot.fields_of(state).get("quantity") or 0
            known = self.type.store.log.position_of(str(options.get("id")))
            if quantity - step < below and known is None:
                raise Conflict(
                    f"{self.type.name} {self.id!r} has a quantity of {quantity}: {step} less would be below {below}"
                )
            try:
                return self._write("decremented", {"by": step}, {**options, "expect": version})
            except Conflict:
                if self.type.store.unit() is not None:
                    raise
        raise Conflict(f"{self._entity} is changed by others too fast: try again")

    # what it is

    def _fold(self, version: int | None = None, at: int | None = None) -> tuple[int, Any]:
        """(version, fresh state), from the newest snapshot that serves."""
        definition = self.type.definition
        unit = self.type.store.unit()
        if unit is not None:
            unit.entity_version(self._entity)
        start, state = 0, _Undefined.start() if definition is None else definition.start()
        kept = None if at is not None else self._log.get("snapshot", self._entity)
        if kept is not None:
            found = snapshot.restore(definition, kept)
            if found is not None and (version is None or found[0] <= version):
                start, state = found
        reached, count = start, 0
        apply = _Undefined.apply if definition is None else definition.apply
        for record in self._records(start, version):
            if at is None or record._time <= at:
                state = apply(state, record)
            reached = record.version
            count += 1
        every = 100 if definition is None else definition.every
        if every and count >= every and version is None and at is None and unit is None:
            self._keep(definition, state, reached)
        return reached, state

    def _records(self, after: int, until: int | None = None) -> Iterator[Any]:
        store_id = self._log.store_id
        last = 0
        for row in self._log.entity_events(self._entity, after, until):
            last = row.version
            yield record_of(row, store_id)
        unit = self.type.store.unit()
        if unit is not None:
            last = max(last, self._log.entity_version(self._entity))
            for row in stored_drafts([draft for draft in unit.drafts if draft.entity == self._entity]):
                last += 1
                if last > after and (until is None or last <= until):
                    record = record_of(row._replace(version=last), store_id)
                    object.__setattr__(record, "_position", None)
                    yield record

    def _keep(self, definition: Aggregate | None, state: Any, version: int) -> bool:
        kept = snapshot.dump(definition, state, version)
        if kept is None or self.type.store.log_readonly:
            return False
        with self._log.transaction() as tx:
            tx.put("snapshot", self._entity, kept)
        return True

    def state(self, version: int | None = None, strict: bool = False) -> Lazy[Any]:
        """The state now, or as it was at a version. A fresh object each time.

        Raises when run:
            NotFound: with strict, where the type has no aggregate. InvalidQuery: a version that isn't there yet.
        """
        if version is not None and (isinstance(version, bool) or not isinstance(version, int) or version < 0):
            raise InvalidQuery(f"version= is a whole number of at least 0, not {version!r}")

        def run() -> Any:
            if strict and self.type.definition is None:
                raise NotFound(f"there is no aggregate {self.type.name!r}: define it with biz.aggregate")
            reached, state = self._fold(version)
            if version is not None and reached < version:
                raise InvalidQuery(f"{self._entity} is at version {reached}, there is no {version} yet")
            return state

        return self.type.lazy(run, "state")

    def state_at(self, instant: Any) -> Lazy[Any]:
        """The state as of an instant: of all events with a timestamp up to it, that instant included."""
        at = when.instant(instant, self.type.store.tz)
        return self.type.lazy(lambda: self._fold(at=at)[1], "state")

    def events(
        self,
        type: str | None = None,
        since: Any = None,
        until: Any = None,
        from_version: int = 1,
        limit: int | None = None,
        offset: int = 0,
    ) -> Lazy[list[Any]]:
        """The entity's events in order of version.

        Args:
            type: only of this name, "created" or "Order.created".
            since, until: only of [since, until), by timestamp.
            from_version: from this version on.
            limit, offset: a page of what remains.
        """
        name = None if type is None else check_event(self.type.name, type)
        if isinstance(from_version, bool) or not isinstance(from_version, int) or from_version < 0:
            raise InvalidQuery(f"from_version= is a whole number of at least 0, not {from_version!r}")
        count = None if limit is None else check_count(limit, "limit")
        skip = check_count(offset, "offset")
        store = self.type.store
        when.resolve_range(since, until, store.now(), store.tz)

        def run() -> list[Any]:
            low, high = when.resolve_range(since, until, store.now(), store.tz).bounds
            found = [
                record
                for record in self._records(max(0, from_version - 1))
                if (name is None or record.type == name)
                and (low is None or record._time >= low)
                and (high is None or record._time < high)
            ]
            return found[skip : None if count is None else skip + count]

        return self.type.lazy(run, "events")

    def version(self) -> Lazy[int]:
        """How many events there are; 0 for none."""

        def run() -> int:
            unit = self.type.store.unit()
            return (
                self._log.entity_version(self._entity) if unit is None else unit.entity_version(self._entity)
            )

        return self.type.lazy(run, "version")

    def exists(self) -> Lazy[bool]:
        """Whether there is any event."""
        return self.type.lazy(lambda: self.version().run() > 0, "exists")

    def snapshot(self) -> bool:
        """Keep the present state, so that the next reads start there; False if it can't be kept exactly."""
        version, state = self._fold()
        return version > 0 and self._keep(self.type.definition, state, version)

    def __getattr__(self, name: str) -> Any:
        action = None if name.startswith("_") else self.type.actions.get(name)
        if action is None:
            known = ", ".join(sorted(self.type.actions)) or "none"
            raise AttributeError(f"{self.type.name} has no action {name!r}; defined are: {known}")
        return lambda *given, **keywords: action(self, self.type.biz, *given, **keywords)

    def __repr__(self) -> str:
        return f"biz.{self.type.name}({self.id!r})"


class _Undefined:
    """The state of a type without a definition: its events' data merged, `status` the last event's name."""

    @staticmethod
    def start() -> dict[str, Any]:
        return {}

    @staticmethod
    def apply(state: dict[str, Any], event: Any) -> dict[str, Any]:
        name = event.type.partition(".")[2]
        if name in ("incremented", "decremented") and "by" in event:
            step = event["by"] if name == "incremented" else -event["by"]
            return {**state, "quantity": (state.get("quantity") or 0) + step, "status": name}
        return {**state, **event.data, "status": name}


def _step(by: Any) -> Any:
    step = number(by, "a step")
    if step < 0:
        raise InvalidValue(f"a step is at least 0, not {by!r}: the other direction has its own call")
    return step
