"""`biz.view`: define views and reach them by name.

State spaces: "define:view" (what each is, as text, so that another under its name is refused) and
"view:<name>" (rows that a stream writes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from .. import values, when
from ..errors import AlreadyExists, InvalidQuery, NotFound
from ..plan.aggregation import Aggregation
from ..query import Lazy
from ..query.selection import check_count
from ..record import Row
from .compute import in_order, rows
from .definition import Definition, condition, from_spec, ordering, to_spec
from .maintained import Maintained, can_be_maintained
from .view import ViewDoor, ViewInfo

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Views"]


class Views:
    """`biz.view.define(...)`, `biz.view.leaderboard`, `biz.view["by region"]`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, Definition] = {}
        self._cache: dict[str, tuple[int, int, int, dict[tuple[Any, ...], Row]]] = {}
        self._maintained: dict[str, Maintained] = {}

    def define(
        self,
        name: str,
        source: Any = None,
        group_by: Any = None,
        compute: Mapping[str, Aggregation] | None = None,
        where: Any = None,
        order_by: Any = None,
        limit: int | None = None,
        incremental: bool = False,
        last: Any = None,
        having: Any = None,
    ) -> ViewDoor:
        """Define a view; it is filled from all history.

        Args:
            name: not blank.
            source: `biz.track.Purchase` (with conditions), `biz.measure.x`, a stream, another view.
            group_by: a property, several, or "user" (the merged identity). None: one row of all.
            compute: names to `biz.sum("amount")`, `biz.count()`, ...
            where, having: conditions on the records, on the rows.
            order_by, limit: the order of the rows, and how many of them there are.
            incremental: keep it up to date record by record.
            last: a sliding range of time, "30m".
        Raises:
            AlreadyExists: another view has that name. InvalidName, InvalidQuery, InvalidTime.
        """
        made = self._made(name, source, group_by, compute, where, order_by, limit, incremental, last, having)
        text = made.text()
        with self._store.log.transaction() as tx:
            kept = tx.get("define:view", made.name)
            if kept is not None and orjson.loads(kept)["text"] != text:
                raise AlreadyExists(
                    f"the view {made.name!r} is defined otherwise already: change it by .update()"
                )
            if kept is None:
                found = {"text": text, "defined": self._store.now(), "spec": to_spec(made)}
                tx.put("define:view", made.name, orjson.dumps(found))
        self._known[made.name] = made
        return ViewDoor(self, made.name)

    def _made(
        self,
        name: Any,
        source: Any,
        group_by: Any,
        compute: Any,
        where: Any,
        order_by: Any,
        limit: Any,
        incremental: Any,
        last: Any,
        having: Any,
    ) -> Definition:
        name = values.name(name, "a view")
        if source is None:
            raise InvalidQuery(f"the view {name!r} needs a source, like biz.track.Purchase")
        if not (hasattr(source, "select") or hasattr(source, "get") or hasattr(source, "run")):
            raise InvalidQuery(
                f"a view's source is biz.track.X, biz.measure.x, a stream or a view, not {source!r}"
            )
        keys = () if group_by is None else (group_by,) if isinstance(group_by, str) else group_by
        if not isinstance(keys, (list, tuple)) or not all(isinstance(key, str) and key for key in keys):
            raise InvalidQuery(f"group_by= takes names of properties, not {group_by!r}")
        keys = tuple(keys)
        if not compute or not isinstance(compute, Mapping):
            raise InvalidQuery(f"the view {name!r} computes nothing: compute=dict(total=biz.sum('amount'))")
        for key, one in compute.items():
            if not isinstance(one, Aggregation):
                raise InvalidQuery(f"compute= takes biz.count(), biz.sum('x'), ..., not {key}={one!r}")
            if key in keys:
                raise InvalidQuery(f"{key!r} is a group's key already: give the computed field another name")
        if limit is not None and not check_count(limit, "limit"):
            raise InvalidQuery(f"the view {name!r} would never have a row: limit= is at least 1")
        tz = self._store.tz
        made = Definition(
            name=name,
            source=source,
            group_by=keys,
            compute=dict(compute),
            where=condition(where, tz),
            having=condition(having, tz),
            order_by=ordering(order_by),
            limit=limit,
            incremental=bool(incremental),
            last=None if last is None else when.exact(last),
            tz=tz,
        )
        made.check_fields((field for field, _ in made.order_by), "order_by=")
        return made

    def list(self) -> Lazy[list[ViewInfo]]:
        """All views, by name."""
        return Lazy(lambda: [self._info(name) for name, _ in self._store.log.scan("define:view")], "views")

    def __getattr__(self, name: str) -> ViewDoor:
        if name.startswith("_"):
            raise AttributeError(name)
        return ViewDoor(self, name)

    def __getitem__(self, name: str) -> ViewDoor:
        return ViewDoor(self, values.name(name, "a view"))

    def __dir__(self) -> list[str]:
        return sorted({*object.__dir__(self), *self._known})

    # what the doors ask

    def _has(self, name: str) -> bool:
        if name in self._known or self._written(name):
            return True
        kept = self._store.log.get("define:view", name)
        return (
            kept is not None and from_spec(name, orjson.loads(kept).get("spec"), self._store.tz) is not None
        )

    def _written(self, name: str) -> bool:
        """Whether a stream writes it: there are rows, or a stream with such a sink was started."""
        log = self._store.log
        if log.scan(f"view:{name}", limit=1):
            return True
        return any(name in orjson.loads(kept).get("views", ()) for _, kept in log.scan("define:stream"))

    def _definition(self, name: str) -> Definition:
        found = self._known.get(name)
        if found is not None:
            return found
        if self._written(name):
            return Definition(name=name, source=None, group_by=(), compute={})
        kept = self._store.log.get("define:view", name)
        if kept is not None:
            made = from_spec(name, orjson.loads(kept).get("spec"), self._store.tz)
            if made is None:
                raise NotFound(
                    f"the view {name!r} was defined by another program, over a function, a stream or a view: "
                    f"define it here too, to give it its source"
                )
            self._known[name] = made
            return made
        raise NotFound(f"there is no view {name!r}; defined are: {', '.join(sorted(self._known)) or 'none'}")

    def _rows(self, name: str, staleness: int) -> dict[tuple[Any, ...], Row]:
        definition = self._definition(name)
        store = self._store
        if definition.source is None:
            return {
                tuple(orjson.loads(key)): Row(orjson.loads(kept))
                for key, kept in store.log.scan(f"view:{name}")
            }
        if store.unit() is not None:
            return rows(store, definition)
        if can_be_maintained(definition):
            return self._kept(definition).rows(staleness)
        store.log.flush()
        now, changes = store.now(), store.log.changes()
        known = self._cache.get(name)
        if known is not None:
            fresh = known[0] == changes and (definition.last is None or known[1] == now)
            recent = staleness and 0 <= now - known[1] <= staleness
            if fresh or recent:
                return known[3]
        head = store.log.head()
        found = rows(store, definition)
        self._cache[name] = (changes, now, head, found)
        return found

    def _kept(self, definition: Definition) -> Maintained:
        """The groups of a view, of its present definition."""
        found = self._maintained.get(definition.name)
        if found is None or found.definition is not definition:
            found = self._maintained[definition.name] = Maintained(self._store, definition)
        return found

    def _top(self, name: str, staleness: int) -> dict[tuple[Any, ...], Row]:
        definition = self._definition(name)
        if self._store.unit() is None and definition.source is not None and can_be_maintained(definition):
            return self._kept(definition).top(staleness)
        return in_order(self._rows(name, staleness), definition)

    def _row(self, name: str, key: Any, staleness: int) -> Row | None:
        definition = self._definition(name)
        parts = key if isinstance(key, tuple) else (key,)
        if definition.source is not None and len(parts) != len(definition.group_by):
            raise InvalidQuery(
                f"the view {name!r} is grouped by {', '.join(definition.group_by) or 'nothing'}: "
                f"its key has {len(definition.group_by)} parts, not {len(parts)}"
            )
        limited = definition.limit is not None
        return (self._top if limited else self._rows)(name, staleness).get(parts)

    def _compute(self, name: str, incremental: bool) -> None:
        definition = self._definition(name)
        self._cache.pop(name, None)
        if not incremental and definition.source is not None and can_be_maintained(definition):
            self._kept(definition).rebuild()
        else:
            self._rows(name, 0)

    def _info(self, name: str) -> ViewInfo:
        if self._store.log.get("define:view", name) is None and not self._written(name):
            self._definition(name)
        if not self._has(name):
            return ViewInfo(name, 0, 0, 0, self._store.log.head(), "", None)
        found = self._top(name, 0)
        known = self._cache.get(name)
        definition = self._definition(name)
        size = sum(len(orjson.dumps(dict(row), default=str)) for row in found.values())
        head = self._store.log.head()
        maintained = self._maintained.get(name)
        position = head if known is None else known[2]
        moment = None if known is None else when.to_datetime(known[1])
        if maintained is not None:
            position, moment = maintained.position, when.to_datetime(maintained.looked)
        shown = definition.words if definition.source is not None else "written by a stream"
        return ViewInfo(name, len(found), size, position, head - position, shown, moment)

    def _update(self, name: str, changes: dict[str, Any]) -> None:
        known = self._definition(name)
        if known.source is None:
            raise InvalidQuery(f"the view {name!r} is written by a stream: change the stream")
        unknown = changes.keys() - {
            "source",
            "group_by",
            "compute",
            "where",
            "order_by",
            "limit",
            "incremental",
            "last",
            "having",
        }
        if unknown:
            raise InvalidQuery(f"a view has no {sorted(unknown)[0]!r} to update")
        given = {
            "source": known.source,
            "group_by": known.group_by,
            "compute": known.compute,
            "where": known.where,
            "order_by": [{field: "desc" if down else "asc"} for field, down in known.order_by],
            "limit": known.limit,
            "incremental": known.incremental,
            "last": None if known.last is None else when.Duration(micros=known.last),
            "having": known.having,
        }
        made = self._made(name, **{**given, **changes})
        with self._store.log.transaction() as tx:
            kept = orjson.loads(tx.get("define:view", name) or b"{}")
            tx.put("define:view", name, orjson.dumps({**kept, "text": made.text(), "spec": to_spec(made)}))
        self._known[name] = made
        self._cache.pop(name, None)

    def _drop(self, name: str) -> None:
        self._definition(name)
        with self._store.log.transaction() as tx:
            tx.delete("define:view", name)
            tx.clear(f"view:{name}")
        self._known.pop(name, None)
        self._cache.pop(name, None)
        self._maintained.pop(name, None)

    def __repr__(self) -> str:
        return "biz.view"
