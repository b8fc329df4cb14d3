"""A type of entity: `biz.Order`."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from ..errors import InvalidName, InvalidValue
from ..plan.condition import TRUE, And, Condition, conditions
from ..query import Lazy
from ..query.base import Query
from ..query.selection import check_count
from ..record import Row
from .aggregate import Aggregate, Aggregates
from .handle import EntityHandle
from .snapshot import fields_of

if TYPE_CHECKING:
    from ..engine import Engine
    from ..store import Store

__all__ = ["Entities", "EntityQuery", "EntityType"]


class InvalidId(InvalidName, InvalidValue):
    """An entity's id that can't be used."""


@dataclass(eq=False)
class EntityType:
    """Call it with an id for one entity; ask it about all."""

    store: Store
    biz: Any
    name: str
    aggregates: Aggregates
    actions: dict[str, Callable[..., Any]] = field(default_factory=dict)

    @property
    def definition(self) -> Aggregate | None:
        return self.aggregates.get(self.name)

    def __call__(self, id: Any) -> EntityHandle:
        """One entity by its id: any text that is not blank. Raises InvalidName."""
        if isinstance(id, (int, uuid.UUID)) and not isinstance(id, bool):
            id = str(id)
        if not isinstance(id, str) or not id.strip() or not _is_text(id):
            raise InvalidId(f"the id of {self.name} is text that is not blank, not {id!r}")
        return EntityHandle(self, id)

    def action(self, function: Callable[..., Any] | None = None, *, name: str | None = None) -> Any:
        """Register an action, called as `biz.Customer("c1").notify(...)` with (handle, biz, ...)."""
        if function is None:
            return lambda given: self.action(given, name=name)
        if not callable(function):
            raise InvalidValue(f"an action is a function, not {function!r}")
        found = name or getattr(function, "__name__", "")
        if not found.isidentifier() or hasattr(EntityHandle, found):
            raise InvalidName(f"an action can't be named {found!r}: that is taken or no identifier")
        self.actions[found] = function
        return function

    def ids(self) -> Lazy[list[str]]:
        """The ids of all entities of this type that have events, in order."""
        return self.lazy(self._ids, "id")

    def _ids(self) -> list[str]:
        prefix = f"{self.name}/"
        found = [entity[len(prefix) :] for entity in self.store.log.entities(prefix)]
        unit = self.store.unit()
        if unit is not None:
            drafted = {
                d.entity[len(prefix) :] for d in unit.drafts if d.entity and d.entity.startswith(prefix)
            }
            found = sorted({*found, *drafted})
        return found

    def where(self, *given: Any, **properties: Any) -> EntityQuery:
        """The entities whose current state meets the conditions, as rows with `id` and the state's fields."""
        return EntityQuery(type=self, condition=conditions(given, properties, self.store.tz))

    def count(self) -> Lazy[int]:
        """How many entities of this type there are."""
        return self.lazy(lambda: len(self._ids()), "count")

    def lazy(self, function: Callable[[], Any], name: str) -> Lazy[Any]:
        return Lazy(function, name)

    def __repr__(self) -> str:
        return f"biz.{self.name}"


def _is_text(id: str) -> bool:
    try:
        id.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True, repr=False, eq=False)
class EntityQuery(Query[list[Row]]):
    """Current states, in order of id."""

    type: EntityType
    condition: Condition = TRUE
    rows_limit: int | None = None
    rows_offset: int = 0

    @property
    def title(self) -> str:
        return self.type.name

    def _engine(self) -> Engine | None:
        return None

    def where(self, *given: Any, **properties: Any) -> EntityQuery:
        """Further conditions, all of which must hold."""
        more = conditions(given, properties, self.type.store.tz)
        return replace(self, condition=And((self.condition, more)))

    def limit(self, n: int) -> EntityQuery:
        """At most n rows."""
        return replace(self, rows_limit=check_count(n, "limit"))

    def offset(self, n: int) -> EntityQuery:
        """Leave out the first n."""
        return replace(self, rows_offset=check_count(n, "offset"))

    def count(self) -> Lazy[int]:
        """How many there are."""
        return Lazy(lambda: len(self.run()), "count")

    def run(self) -> list[Row]:
        found = []
        stop = None if self.rows_limit is None else self.rows_offset + self.rows_limit
        for id in self.type._ids():
            row = Row({**fields_of(self.type(id)._fold()[1]), "id": id})
            if self.condition.matches(row):
                found.append(row)
                if stop is not None and len(found) >= stop:
                    break
        return found[self.rows_offset : stop]


class Entities:
    """All entity types of a business, by their capitalised names."""

    def __init__(self, store: Store, biz: Any) -> None:
        self._store = store
        self._biz = biz
        self.aggregates = Aggregates()
        self._types: dict[str, EntityType] = {}

    def type(self, name: str) -> EntityType:
        """The type of that name, made at first use. Raises InvalidName."""
        found = self._types.get(name)
        if found is None:
            if not name.isidentifier() or not name[:1].isupper():
                raise InvalidName(f"an entity type is named like 'Order', capitalised, not {name!r}")
            found = self._types[name] = EntityType(self._store, self._biz, name, self.aggregates)
        return found
