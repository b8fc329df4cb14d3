"""`biz.sql`: read-only SQL over the log, in an engine of its own that can reach nothing but the segments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .engine.tail import PENDING, View
from .errors import InvalidQuery
from .plan.sql import identifier, literal
from .query import Lazy
from .record import ENTITY, EVENT, MEASURE

if TYPE_CHECKING:
    from .engine import Session
    from .store import Store

__all__ = ["SqlRow", "sql"]

_VIEWS = {"events": EVENT, "measures": MEASURE, "entity_events": ENTITY}


class SqlRow(tuple):
    """A row that reads by index, by name and by attribute.

    >>> row = SqlRow.of(("plan", "n"), ("pro", 2))
    >>> row[0], row["n"], row.n, row == ("pro", 2)
    ('pro', 2, 2, True)
    """

    _names: tuple[str, ...]

    @classmethod
    def of(cls, names: tuple[str, ...], values: tuple[Any, ...]) -> SqlRow:
        row = cls(values)
        row._names = names
        return row

    def keys(self) -> tuple[str, ...]:
        return self._names

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            try:
                return tuple.__getitem__(self, self._names.index(key))
            except ValueError:
                raise KeyError(key) from None
        return tuple.__getitem__(self, key)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Mapping):
            return dict(zip(self._names, self, strict=True)) == other
        return tuple.__eq__(self, other)

    __hash__ = tuple.__hash__

    def __repr__(self) -> str:
        shown = ", ".join(f"{n}={v!r}" for n, v in zip(self._names, self, strict=True))
        return f"SqlRow({shown})"


def sql(store: Store, query: str, parameters: tuple[Any, ...] = ()) -> Lazy[list[SqlRow]]:
    """A lazy query of rows.

    Args:
        query: one SELECT over `events` (position, id, type, event, timestamp, user, experiments, data),
            `measures` (position, id, type, metric, timestamp, value, user, data) and `entity_events`
            (position, id, type, entity_type, entity, version, timestamp, user, data). `data` is JSON:
            `data->>'plan'`. Retracted records are left out, merged users count under their name.
        parameters: the values of $1, $2, ...
    Raises:
        InvalidQuery: anything but one SELECT, or an error in it.
    """
    if not isinstance(query, str) or not query.strip():
        raise InvalidQuery("sql() takes one SELECT as text")
    return Lazy(lambda: _run(store, query, parameters), "rows", store.engine)


def _run(store: Store, query: str, parameters: tuple[Any, ...]) -> list[SqlRow]:
    import duckdb

    with store.engine.session() as session:
        connection = duckdb.connect(":memory:")
        try:
            connection.execute("SET TimeZone = 'UTC'; SET autoinstall_known_extensions = false;")
            _views(session, connection)
            # From here on the statement can read the segments and nothing else.
            connection.execute(
                f"SET allowed_directories = [{literal(str(store.segments.directory / 'segments'))}]"
            )
            connection.execute("SET enable_external_access = false; SET lock_configuration = true;")
            return _select(connection, query, parameters)
        except duckdb.Error as error:
            raise InvalidQuery(f"the SQL can't be answered: {error}") from error
        finally:
            connection.close()


def _select(connection: Any, query: str, parameters: tuple[Any, ...]) -> list[SqlRow]:
    import duckdb

    statements = connection.extract_statements(query)
    if len(statements) != 1 or statements[0].type not in (
        duckdb.StatementType.SELECT,
        duckdb.StatementType.EXPLAIN,
    ):
        raise InvalidQuery("sql() reads only: it takes one SELECT")
    import pyarrow as pa

    found = connection.sql(query, params=list(parameters)).to_arrow_table()
    # DuckDB's own conversion of timestamps with a zone wants pytz.
    for n, shape in enumerate(found.schema):
        if isinstance(shape.type, pa.TimestampType) and shape.type.tz is not None:
            found = found.set_column(n, shape.name, found.column(n).cast(pa.timestamp("us", "UTC")))
    names = tuple(found.column_names)
    columns = [column.to_pylist() for column in found.columns]
    return [SqlRow.of(names, row) for row in zip(*columns, strict=True)]


def _views(session: Session, connection: Any) -> None:
    view = session.view
    _tail(session, view, connection)
    for name, kind in _VIEWS.items():
        parts = [_sealed(session, view, kind, n) for n in view.catalog.names(kind)]
        fixed = 'position, id, name, timestamp, "user", entity, version, value, experiments, data'
        parts.append(f"SELECT {fixed} FROM tail WHERE kind = {literal(kind)}")
        gone = sorted(p for (k, _), found in view.retracted.items() if k == kind for p in found)
        where = f" WHERE position NOT IN ({', '.join(map(str, gone))})" if gone else ""
        shown = _SHOWN[kind].format(user='coalesce(m."user", r."user") AS "user"')
        connection.execute(
            f"CREATE VIEW {name} AS SELECT {shown} FROM ({' UNION ALL '.join(parts)}) r "
            f'LEFT JOIN merged m ON m.alias = r."user"{where}'
        )


_SHOWN = {
    EVENT: "position, id, name AS type, name AS event, timestamp, {user}, experiments, data",
    MEASURE: "position, id, name AS type, name AS metric, timestamp, value, {user}, data",
    ENTITY: "position, id, name AS type, split_part(entity, '/', 1) AS entity_type, "
    "substr(entity, instr(entity, '/') + 1) AS entity, version, timestamp, {user}, data",
}


def _tail(session: Session, view: View, connection: Any) -> None:
    """The unsealed records and the merges, copied: they are few."""
    store = literal(session.store_id + "-")
    connection.execute(
        "CREATE TABLE tail (position BIGINT, kind VARCHAR, id VARCHAR, name VARCHAR, timestamp TIMESTAMPTZ, "
        '"user" VARCHAR, entity VARCHAR, version BIGINT, value DOUBLE, experiments JSON, data JSON)'
    )
    connection.execute('CREATE TABLE merged (alias VARCHAR, "user" VARCHAR)')
    source = f"{view.table} WHERE position > {view.sealed_to} AND position <= {view.head}"
    pending = f" UNION ALL SELECT * FROM pending WHERE position >= {PENDING}" if session.pending else ""
    rows = session.cursor.sql(
        f"SELECT position, kind, coalesce(id, {store} || position) AS id, name, epoch_us(timestamp) AS timestamp, "
        f'"user", entity, version, coalesce(value, value_int) AS value, experiments, data '
        f"FROM (SELECT * FROM {source}{pending})"
    ).to_arrow_table()
    connection.register("copied", rows)
    connection.execute(
        # A null is left out, as it is of sealed records: in SQL both are NULL.
        "INSERT INTO tail SELECT * REPLACE (make_timestamptz(timestamp) AS timestamp, "
        "CAST(json_merge_patch('{}', data) AS JSON) AS data) FROM copied"
    )
    connection.unregister("copied")
    merged = session.cursor.sql(f"SELECT * FROM {session.merges}").to_arrow_table()
    connection.register("copied", merged)
    connection.execute("INSERT INTO merged SELECT * FROM copied")
    connection.unregister("copied")


def _sealed(session: Session, view: View, kind: str, name: str) -> str:
    segments = view.catalog.of(kind, name)
    present = frozenset().union(*(s.columns for s in segments))
    files = session.files(segments)
    columns = [c for c in view.catalog.columns(kind, name) if c.column in present]
    values = [c for c in ("value", "value:int") if c in present] if kind == MEASURE else []
    value = f"coalesce({', '.join(f'CAST({identifier(c)} AS DOUBLE)' for c in values)})" if values else "NULL"
    entity = kind == ENTITY
    store = literal(session.store_id + "-")
    return (
        f'SELECT position, coalesce(id, {store} || position) AS id, {literal(name)} AS name, timestamp, "user", '
        f"{'entity' if entity else 'NULL'} AS entity, {'version' if entity else 'NULL'} AS version, "
        f"{value} AS value, CAST(experiments AS JSON) AS experiments, {_data(columns)} AS data "
        f"FROM read_parquet([{files}], union_by_name = true, hive_partitioning = false)"
    )


def _data(columns: list[Any]) -> str:
    """The properties as JSON, without those that are missing. A property that is an object here and a number
    there has columns of its own, and columns of its parts."""
    tree: _Node = _Node()
    for column in columns:
        node = tree
        for part in column.path:
            node = node.parts.setdefault(part, _Node())
        node.columns.append(column)
    return f"CAST(json_merge_patch(json_merge_patch('{{}}', {tree.parts_as_json()}), coalesce(rest, '{{}}')) AS JSON)"


@dataclass(slots=True)
class _Node:
    """Where a path leads: the columns that end there, and those that go on."""

    columns: list[Any] = field(default_factory=list)
    parts: dict[str, _Node] = field(default_factory=dict)

    def parts_as_json(self) -> str:
        pairs = [f"{literal(name)}, {part.as_json()}" for name, part in self.parts.items()]
        return "json_object(" + ", ".join(pairs) + ")"

    def as_json(self) -> str:
        found = [
            f"CAST({identifier(c.column)} AS JSON)"
            if c.type == "json"
            else f"to_json({identifier(c.column)})"
            for c in self.columns
        ]
        if self.parts:
            found.append(f"nullif(json_merge_patch('{{}}', {self.parts_as_json()}), '{{}}'::JSON)")
        return found[0] if len(found) == 1 else f"coalesce({', '.join(found)})"
