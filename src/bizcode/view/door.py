"""`biz.view`: define views and reach them by name.

State spaces: "define:view" (what each is, as text, so that another under its name is refused) and
"view:<name>" (rows that a stream writes).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import orjson

from .. import values, when
from ..errors import AlreadyExists, InvalidQuery, NotFound, StorageError
from ..plan.aggregation import Aggregation
from ..plan.fields import prop
from ..query import Lazy
from ..query.selection import check_count
from ..record import Row
from .anew import Anew, Written, rows_of
from .definition import Definition, condition, from_spec, keys_of, ordering, to_spec
from .elements import OfElements, OfRows
from .kept import FEW, MANY, clear
from .of_records import OfRecords, can_be_followed
from .order import Key, Sorted, place_of
from .table import Table
from .view import ViewDoor, ViewInfo, ViewQuery

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Views"]


class Views:
    """`biz.view.define(...)`, `biz.view.leaderboard`, `biz.view["by region"]`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[Definition, bytes | None]] = {}
        """Each view's definition, with the record of it that it agrees with."""
        self._tables: dict[str, Table] = {}
        self._lock = threading.RLock()
        self._keeping = False
        store.closing.append(self._close)

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
            group_by: a property, several, or "user" (the merged identity; `prop("user")` is the property of that
                name). None: one row of all.
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
                kept = orjson.dumps(found)
                tx.put("define:view", made.name, kept)
        with self._lock:
            known = self._known.get(made.name)
            if known is None or known[0].text() != text or known[0].source is None:
                self._known[made.name] = (made, kept)
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
        keys, props = keys_of(group_by)
        if len(set(keys)) < len(keys):
            raise InvalidQuery(f"group_by= names a property twice: {', '.join(keys)}")
        if not isinstance(incremental, bool):
            raise InvalidQuery(f"incremental= is True or False, not {incremental!r}")
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
            props=props,
            compute=dict(compute),
            where=condition(where, tz),
            having=condition(having, tz),
            order_by=ordering(order_by),
            limit=limit,
            incremental=incremental,
            last=None if last is None else when.exact(last),
            tz=tz,
        )
        made.check_fields((field for field, _ in made.order_by), "order_by=")
        self._refuse_unfit(made)
        self._refuse_circle(made)
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
        try:
            self._definition(name)
        except NotFound:
            return False
        return True

    def _stands(self, name: str) -> bool:
        """Whether a view is there, and those that it is made of, which can be dropped."""
        while self._has(name):
            source = self._definition(name).source
            if not isinstance(source, (ViewDoor, ViewQuery)):
                return True
            name = source.name
        return False

    def _written(self, name: str) -> bool:
        """Whether a stream writes it: there are rows, or a stream with such a sink was started."""
        log = self._store.log
        if log.scan(f"view:{name}", limit=1):
            return True
        return any(
            name in orjson.loads(kept).get("views", ()) for kept in log.cached("define:stream").values()
        )

    def _definition(self, name: str) -> Definition:
        """What a view is now; another process may have changed it. Raises NotFound."""
        kept = self._store.log.cached("define:view").get(name)
        known = self._known.get(name)
        if known is not None and known[1] == kept and (kept is not None or self._written(name)):
            return known[0]
        if kept is None:
            if not self._written(name):
                self._let_go(name)
                names = ", ".join(sorted(self._store.log.cached("define:view"))) or "none"
                raise NotFound(f"there is no view {name!r}; defined are: {names}")
            made = Definition(name=name, source=None, group_by=(), compute={})
        else:
            found = orjson.loads(kept)
            if known is not None and known[0].text() == found["text"]:
                made = known[0]
            else:
                again = from_spec(name, found.get("spec"), self._store.tz, self.__getitem__)
                if again is None:
                    raise NotFound(
                        f"the view {name!r} was defined by another program, over a function or a stream: "
                        f"define it here too, to give it its source"
                    )
                made = again
        with self._lock:
            self._known[name] = (made, kept)
        return made

    def _let_go(self, name: str) -> None:
        with self._lock:
            self._known.pop(name, None)
            self._tables.pop(name, None)

    def _table(self, name: str) -> Table:
        """The rows of a view, of its present definition. Raises NotFound."""
        definition = self._definition(name)
        with self._lock:
            found = self._tables.get(name)
            if found is None or found.definition is not definition:
                found = self._tables[name] = self._made_table(definition)
        if not self._keeping and isinstance(found, OfRecords) and found.worth_keeping(MANY):
            self._keeping = True
            self._store.consumers.tickers(_Keeper(self))
        return found

    def _followed(self) -> list[OfRecords]:
        with self._lock:
            return [table for table in self._tables.values() if isinstance(table, OfRecords)]

    def _close(self) -> None:
        for table in self._followed():
            # Where it can't be written nothing is lost: the next process reads the log.
            with suppress(StorageError):
                table.keep(FEW)

    def _made_table(self, definition: Definition) -> Table:
        store, source = self._store, definition.source
        if source is None:
            return Written(store, definition)
        if can_be_followed(definition):
            return OfRecords(store, definition)
        if isinstance(source, ViewDoor) or (isinstance(source, ViewQuery) and source.is_filter):
            return OfRows(store, definition, lambda: self._table(source.name))
        if getattr(source, "fed", False):
            return OfElements(store, definition)
        return Anew(store, definition)

    def _top(self, name: str, staleness: int) -> Mapping[Key, Row]:
        """The rows that a view shows, in its order, by place."""
        if self._store.unit() is None:
            return self._table(name).top(staleness)
        # What the unit is about to write counts too.
        definition = self._definition(name)
        if definition.source is None:
            return self._table(name).top(0)
        found = rows_of(self._store, definition)
        met = {place: row for place, row in found.items() if definition.having.matches(row)}
        return Sorted(definition.order_by).first(met, definition.limit)

    def _row(self, name: str, key: Any, staleness: int) -> Row | None:
        definition = self._definition(name)
        parts = key if isinstance(key, tuple) else (key,)
        if definition.source is not None and len(parts) != len(definition.group_by):
            raise InvalidQuery(
                f"the view {name!r} is grouped by {', '.join(definition.group_by) or 'nothing'}: "
                f"its key has {len(definition.group_by)} parts, not {len(parts)}"
            )
        parts = tuple(values.plain(part, self._store.tz, "key") for part in parts)
        if any(isinstance(part, (list, dict)) for part in parts):
            raise InvalidQuery(
                f"a key of the view {name!r} is a value, or a tuple where it is grouped by several, not {key!r}"
            )
        place = place_of(parts)
        if self._store.unit() is not None:
            return self._top(name, staleness).get(place)
        return self._table(name).row(place, staleness)

    def _compute(self, name: str, incremental: bool) -> None:
        table = self._table(name)
        if incremental:
            table.top()
        else:
            table.rebuild()

    def _info(self, name: str) -> ViewInfo:
        log = self._store.log
        if not self._has(name) and log.cached("define:view").get(name) is not None:
            return ViewInfo(name, 0, 0, 0, log.head(), "", None)  # it needs what another program has
        table = self._table(name)
        if not self._stands(name):
            return ViewInfo(name, 0, 0, 0, log.head(), table.definition.words, None)
        found = table.top()
        size = sum(len(orjson.dumps(dict(row), default=str)) for row in found.values())
        shown = table.definition.words if table.definition.source is not None else "written by a stream"
        lag = max(0, log.head() - table.position)
        return ViewInfo(name, len(found), size, table.position, lag, shown, when.to_datetime(table.looked))

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
            "group_by": [prop(key) if key in known.props else key for key in known.group_by],
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
            kept = orjson.dumps({**kept, "text": made.text(), "spec": to_spec(made)})
            tx.put("define:view", name, kept)
        with self._lock:
            self._known[name] = (made, kept)

    def _drop(self, name: str) -> None:
        self._definition(name)
        with self._store.log.transaction() as tx:
            tx.delete("define:view", name)
            tx.clear(f"view:{name}")
            clear(tx, name)
        self._let_go(name)

    def _refuse_unfit(self, made: Definition) -> None:
        """Raises InvalidQuery where a source can't give what is asked of it."""
        source = made.source
        if isinstance(source, (ViewDoor, ViewQuery)):
            views = source.views if isinstance(source, ViewQuery) else source._views
            if views._store is not self._store:
                raise InvalidQuery(
                    f"the view {made.name!r} can't be made of {source.name!r}: that is of another business"
                )
            if made.last is not None:
                raise InvalidQuery(
                    f"rows of a view have no time: give last= to the view {source.name!r} itself"
                )
        for one in made.compute.values():
            if made.select is not None and one.operation == "collect" and one.field is None:
                raise InvalidQuery(f"a view can't compute {one!r} of records: collect() needs a field there")

    def _refuse_circle(self, made: Definition) -> None:
        """Raises InvalidQuery where a view would be made of itself."""
        seen = [made.name]
        source = made.source
        while isinstance(source, (ViewDoor, ViewQuery)):
            seen.append(source.name)
            if source.name == made.name:
                raise InvalidQuery(f"the view {made.name!r} would be made of itself: {' over '.join(seen)}")
            source = self._definition(source.name).source if self._has(source.name) else None

    def __repr__(self) -> str:
        return "biz.view"


class _Keeper:
    """Keeps the groups of views now and then, for the processes to come."""

    name = "views"

    def __init__(self, views: Views) -> None:
        self._views = views

    def due(self) -> int | None:
        worth = any(table.worth_keeping(MANY) for table in self._views._followed())
        return self._views._store.now() if worth else None

    def tick(self, now: int) -> None:
        for table in self._views._followed():
            table.keep(MANY)
