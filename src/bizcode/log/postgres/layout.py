"""What the log's schema looks like, and how a schema is told to be one of ours."""

from __future__ import annotations

import secrets
from typing import Any

from psycopg import sql

from ...errors import StorageError
from .server import Connection, Server

__all__ = ["COLUMNS", "FORMAT", "HEAD", "MOVING", "prepare"]

FORMAT = 1
"""The format this release writes. Others refuse newer ones."""

MOVING = -1
"""The format of a schema that a move has not finished."""

COLUMNS = 'position, kind, name, time, data, "user", id, entity, version, whole, value, experiments'
"""A number is either in `whole` or in `value`: an int stays an int."""

HEAD = "greatest(coalesce((select max(position) from records), 0), (select floor from meta))"
"""The newest committed position."""

# The collation "C" orders by code point, in UTF-8, whatever the database's own.
_TABLES = (
    """create table records (
        position bigint primary key, kind text not null, name text not null, time bigint not null,
        data text not null, "user" text, id text, entity text collate "C", version bigint,
        whole bigint, value double precision, experiments text)""",
    "create unique index records_entity on records (entity, version) where entity is not null",
    'create table ids (id text collate "C" primary key, position bigint not null)',
    """create table kv (space text collate "C", key text collate "C", value bytea not null,
        primary key (space, key))""",
    'create table spaces (space text collate "C" primary key, generation bigint not null)',
    "create table erased (position bigint primary key)",
    """create table writers (token text primary key, serial bigint not null,
        seen timestamptz not null default now())""",
    # In functions the plans are kept, and each statement sees what was committed before it begins: the second
    # one everything that came before the lock was had.
    f"""create function begin_write(lock bigint, writer text, out head bigint, out serial bigint,
            out spaces text[], out generations bigint[]) language plpgsql as $$
        begin
            perform pg_advisory_xact_lock(lock);
            select {HEAD}, coalesce((select w.serial from writers w where w.token = writer), 0)
                into head, serial;
            select array_agg(s.space), array_agg(s.generation) from spaces s into spaces, generations;
        end $$""",
    """create function end_write(writer text, number bigint, channel text) returns void language plpgsql as $$
        begin
            insert into writers values (writer, number)
                on conflict (token) do update set serial = excluded.serial, seen = now();
            perform pg_notify(channel, writer);
        end $$""",
    "create table meta (format int not null, store text not null, trimmed bigint not null, floor bigint not null)",
)


def prepare(server: Server, connection: Connection, moving: bool = False) -> str:
    """Lay out the schema unless it is there; the store's random name, given at its creation.

    Raises:
        StorageError: the schema is another application's, or in a newer format.
    """
    found = _inspect(server, connection, moving)
    if found is not None:
        return found
    with connection.transaction():
        connection.execute("select pg_advisory_xact_lock(%s)", (server.key("layout"),))
        found = _inspect(server, connection, moving)
        if found is not None:
            return found
        store = secrets.token_hex(6)
        connection.execute(sql.SQL("create schema if not exists {}").format(sql.Identifier(server.schema)))
        if server.tenant is not None:
            comment = sql.SQL("comment on schema {} is {}")
            told = sql.Literal(f"bizcode, tenant {server.tenant!r}")
            connection.execute(comment.format(sql.Identifier(server.schema), told))
        for statement in _TABLES:
            connection.execute(statement)
        connection.execute("insert into meta values (%s, %s, 0, 0)", (MOVING if moving else FORMAT, store))
    return store


def _inspect(server: Server, connection: Connection, moving: bool) -> str | None:
    """The store's name; None in a schema that is empty or missing."""
    rows: list[Any] = connection.execute(
        """select relname from pg_class join pg_namespace on pg_namespace.oid = relnamespace
        where nspname = %s and relkind in ('r', 'v', 'p', 'm', 'f')""",
        (server.schema,),
    ).fetchall()
    names = {row[0] for row in rows}
    if not names:
        return None
    if not {"meta", "records", "kv", "writers"} <= names:
        raise StorageError(
            f"the schema {server.schema!r} of {server.shown} holds tables of another application: "
            "choose another with ?schema= in the URL"
        )
    held = connection.execute("select format, store from meta").fetchone()
    if held is not None and held[0] == MOVING and not moving:
        raise StorageError(
            f"a move into {server.shown} was not finished: run `bizcode move` again, it goes on where it was"
        )
    if held is None or held[0] > FORMAT:
        raise StorageError(
            f"{server.shown} was written by a newer bizcode (format {held and held[0]}, this release reads up "
            f"to {FORMAT}): upgrade bizcode to open it"
        )
    return held[1]
