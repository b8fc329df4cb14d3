"""The facts: what a door drafts, what the log stores, what a reader is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from . import when

__all__ = [
    "ENTITY",
    "EVENT",
    "MEASURE",
    "SYSTEM",
    "Draft",
    "EntityEvent",
    "Event",
    "Measurement",
    "Record",
    "Row",
    "Stored",
    "SystemRecord",
    "make",
    "pack",
    "record_of",
    "unpack",
]

EVENT = "event"
MEASURE = "measure"
ENTITY = "entity"
SYSTEM = "system"


class Draft(NamedTuple):
    """A fact before the log has given it a position. `time` is microseconds since 1970 UTC, `data` JSON."""

    kind: str
    name: str
    time: int
    data: str
    user: str | None = None
    id: str | None = None
    entity: str | None = None
    value: int | float | None = None
    experiments: str | None = None
    expect: int | None = None


class Stored(NamedTuple):
    """A fact as the log and the segments hold it. `id` is None where it follows from the position."""

    position: int
    kind: str
    name: str
    time: int
    data: str
    user: str | None = None
    id: str | None = None
    entity: str | None = None
    version: int | None = None
    value: int | float | None = None
    experiments: str | None = None


class _Fields:
    __slots__ = (
        "_data",
        "_entity",
        "_experiments",
        "_id",
        "_json",
        "_pending",
        "_position",
        "_time",
        "_value",
        "_version",
        "type",
        "user",
    )

    def __init__(
        self,
        type: str,
        time: int,
        data: dict[str, Any] | None,
        json: str | bytes | None,
        position: int | None,
        id: str | None,
        user: str | None = None,
        entity: str | None = None,
        version: int | None = None,
        value: int | float | None = None,
        experiments: dict[str, str] | str | None = None,
        pending: Callable[[], tuple[int, str]] | None = None,
    ) -> None:
        self.type = type
        self._time = time
        self._data = data
        self._json = json
        self._position = position
        self._id = id
        self.user = user
        self._entity = entity
        self._version = version
        self._value = value
        self._experiments = experiments
        self._pending = pending


class Record(_Fields):
    """One fact of the log, immutable. Properties read both ways: `e["amount"]` and `e.amount`.

    `e.amount` of a missing property is None, `e["amount"]` raises KeyError. The record's own
    attributes (`id, type, timestamp, position, user`, and what its class adds) win over
    properties of that name; `e["type"]` is the property. Awaiting a record gives the record.
    """

    __slots__ = ()

    @property
    def position(self) -> int | None:
        """The place in the log. Waits for the commit where the write was buffered;
        None inside an open `biz.do`."""
        if self._position is None and self._pending is not None:
            position, _ = self._pending()
            object.__setattr__(self, "_position", position)
        return self._position

    @property
    def id(self) -> str | None:
        if self._id is None and self._pending is not None:
            _, id = self._pending()
            object.__setattr__(self, "_id", id)
        return self._id

    @property
    def data(self) -> dict[str, Any]:
        """The properties, as a plain dict."""
        data = self._data
        if data is None:
            data = orjson.loads(self._json) if self._json else {}
            object.__setattr__(self, "_data", data)
        return data

    @property
    def timestamp(self) -> datetime:
        """When it happened, aware, in UTC."""
        return when.to_datetime(self._time)

    def get(self, name: str, default: Any = None) -> Any:
        return self.data.get(name, default)

    def keys(self):
        return self.data.keys()

    def __getitem__(self, name: str) -> Any:
        return self.data[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith(("__", "_repr_", "_ipython")):
            raise AttributeError(name)
        return self.data.get(name)

    def __contains__(self, name: object) -> bool:
        return name in self.data

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    def __bool__(self) -> bool:
        return True

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a record is immutable: {name!r} can't be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a record is immutable: {name!r} can't be deleted")

    def __await__(self):
        return self
        yield

    def _identity(self) -> tuple[Any, ...]:
        return (self.type, self._time, self.id, self.user, self._entity, self._version, self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Record):
            return NotImplemented
        return type(self) is type(other) and self._identity() == other._identity() and self.data == other.data

    def __hash__(self) -> int:
        return hash(self._identity())

    def __reduce__(self):
        fields = (self.type, self._time, self.data, None, self.position, self.id, self.user)
        return _rebuild, (
            type(self),
            (*fields, self._entity, self._version, self._value, self._experiments),
        )

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *(k for k in self.data if k.isidentifier())})

    def __repr__(self) -> str:
        shown = [f"position={self._position}", f"id={self._id!r}", f"type={self.type!r}"]
        if self._entity is not None:
            shown.append(f"entity={self._entity!r}, version={self._version}")
        if self._value is not None:
            shown.append(f"value={self._value!r}")
        shown.append(f"timestamp={self.timestamp.isoformat()!r}")
        if self.user is not None:
            shown.append(f"user={self.user!r}")
        if self._experiments:
            shown.append(f"experiments={self._experiments!r}")
        return f"{type(self).__name__}({', '.join(shown)}, data={self.data!r})"


class Event(Record):
    """A tracked event: `position, id, type, data, timestamp, user, experiments`."""

    __slots__ = ()

    @property
    def experiments(self) -> dict[str, str]:
        """Experiment name to variant."""
        found = self._experiments
        if found is None:
            return {}
        if isinstance(found, str):
            found = orjson.loads(found)
            object.__setattr__(self, "_experiments", found)
        return dict(found)  # type: ignore[arg-type]


class Measurement(Record):
    """A sample of a metric: `position, id, type, value, data (its tags), timestamp, user`."""

    __slots__ = ()

    @property
    def value(self) -> int | float:
        """The number measured."""
        return self._value  # type: ignore[return-value]


class EntityEvent(Record):
    """One event of an entity: `position, id, type ("Order.created"), entity, version, data, timestamp`."""

    __slots__ = ()

    @property
    def entity(self) -> str:
        """The entity's id, without its type."""
        return self._entity  # type: ignore[return-value]

    @property
    def version(self) -> int | None:
        """1 for the entity's first event, then 2, 3, ... without gaps."""
        return self._version


class SystemRecord(Record):
    """A fact about the business itself: an identity merge, a retraction, a definition."""

    __slots__ = ()


_CLASSES: dict[str, type[Record]] = {
    EVENT: Event,
    MEASURE: Measurement,
    ENTITY: EntityEvent,
    SYSTEM: SystemRecord,
}


_KINDS = {made: kind for kind, made in _CLASSES.items()}


def make(kind: str, *fields: Any) -> Any:
    """A Record of that kind from the fields of `_Fields`; built mutable, then frozen by its class,
    which is three times faster than setting frozen fields one by one."""
    record = _Fields(*fields)
    record.__class__ = _CLASSES[kind]
    return record


def _rebuild(cls: type[Record], fields: tuple[Any, ...]) -> Record:
    record = _Fields(*fields)
    record.__class__ = cls
    return record  # type: ignore[return-value]


def pack(record: Record) -> list[Any]:
    """A record as a JSON list, from which `unpack` makes it again."""
    return [
        _KINDS[type(record)],
        record.type,
        record._time,
        record.data,
        record.position,
        record.id,
        record.user,
        record._entity,
        record._version,
        record._value,
        record._experiments,
    ]


def unpack(packed: list[Any]) -> Any:
    """The record that was packed."""
    kind, type, time, data, *others = packed
    return make(kind, type, time, data, None, *others)


def record_of(stored: Stored, store_id: str) -> Any:
    """What a reader is given for a stored fact. `entity` is the id without its type."""
    entity = stored.entity
    if entity is not None:
        entity = entity[entity.index("/") + 1 :]
    return make(
        stored.kind,
        stored.name,
        stored.time,
        None,
        stored.data,
        stored.position,
        stored.id if stored.id is not None else f"{store_id}-{stored.position}",
        stored.user,
        entity,
        stored.version,
        stored.value,
        stored.experiments,
    )


class Row(dict):
    """A dict that also reads by attribute; a missing attribute is None, a missing key raises KeyError.

    A field wins over the dict's own method of that name (`row.items` is the field `items`, if any).

    >>> row = Row(plan="pro", items=3)
    >>> row.plan, row["plan"], row.items, row.missing
    ('pro', 'pro', 3, None)
    """

    __slots__ = ()

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return dict.__getattribute__(self, name)
        if name in self:
            return self[name]
        if name == "data":
            return dict(self)
        try:
            return dict.__getattribute__(self, name)
        except AttributeError:
            if name.startswith(("_repr_", "_ipython")):
                raise
            return None

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a row is a result: {name!r} can't be set")

    def __repr__(self) -> str:
        return f"Row({dict.__repr__(self)})"
