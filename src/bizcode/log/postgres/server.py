"""The server: where it is, how it is reached, and what its errors mean in a sentence."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from ...errors import InvalidName, StorageError

__all__ = ["OLDEST", "Connection", "Server", "lost"]

OLDEST = 13
"""The oldest major version of PostgreSQL that is taken."""

SCHEMA = "bizcode"
WAIT = 5
"""Seconds to wait for a connection, unless the URL says `connect_timeout`."""

Connection = psycopg.Connection[Any]

_SILENCE = {
    "tcp_user_timeout": "10000",
    "keepalives_idle": "5",
    "keepalives_interval": "3",
    "keepalives_count": "3",
}
"""When a connection counts as lost on which nothing comes back, unless the URL says it: a pulled cable sends no word,
and by itself the system would wait a quarter of an hour."""

_SESSION = (
    "select set_config('search_path', %s, false), set_config('client_encoding', 'UTF8', false), "
    "set_config('tcp_user_timeout', '10000', false), set_config('tcp_keepalives_idle', '5', false), "
    "set_config('tcp_keepalives_interval', '3', false), set_config('tcp_keepalives_count', '3', false)"
)
"""The server lets go as soon: what an unreachable machine holds is another's then."""

_AWAY = {"57P01", "57P02", "57P03", "57P05"}


class Server:
    """One store's place: a server, its database, a schema in it.

    Args:
        url: `postgresql://user:password@host:port/database`, with libpq's options and `schema=`.
        tenant: has a schema of its own beside the root's.
    Raises:
        StorageError: the URL can't be read. InvalidName: a schema or tenant that can't be one.
    """

    def __init__(self, url: str, tenant: str | None = None) -> None:
        parts = urlsplit(url)
        options = dict(parse_qsl(parts.query, keep_blank_values=True))
        self.schema = _schema(options.pop("schema", SCHEMA), tenant)
        self.tenant = tenant
        self.shown = _masked(url)
        options.setdefault("connect_timeout", str(WAIT))
        options.setdefault("application_name", "bizcode")
        for name, value in _SILENCE.items():
            options.setdefault(name, value)
        self._url = urlunsplit(parts._replace(scheme="postgresql", query=urlencode(options, quote_via=quote)))
        self._path = sql.Identifier(self.schema).as_string()
        try:
            conninfo_to_dict(self._url)
        except psycopg.Error as error:
            raise StorageError(f"{self.shown} is no URL of a PostgreSQL database: {_line(error)}") from error

    def connect(self) -> Connection:
        """A new connection. Raises psycopg's error if there is none, StorageError if it is of no use."""
        connection = psycopg.connect(self._url, autocommit=True)
        try:
            found = connection.info.server_version
            if found < OLDEST * 10_000:
                raise StorageError(
                    f"{self.shown} is PostgreSQL {found // 10_000}, but bizcode needs {OLDEST} or newer: "
                    "upgrade the server"
                )
            encoding = connection.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise StorageError(
                    f"{self.shown} keeps text as {encoding}, but bizcode needs a database in UTF8: "
                    "create one with `createdb --encoding UTF8 --template template0`"
                )
            connection.execute(_SESSION, (self._path,))
        except BaseException:
            connection.close()
            raise
        return connection

    def key(self, name: str) -> int:
        """The number of an advisory lock of this store."""
        digest = hashlib.blake2b(f"bizcode\0{self.schema}\0{name}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big", signed=True)

    @property
    def channel(self) -> str:
        """Where commits to this store are notified."""
        return f"bizcode_{self.key('write') & 0xFFFFFFFFFFFFFFFF:x}"

    def fault(self, error: BaseException, what: str = "") -> StorageError:
        """What happened, as a StorageError to be raised from the error."""
        where = self.shown
        if isinstance(error, StorageError):
            return error
        if isinstance(error, errors.InvalidPassword | errors.InvalidAuthorizationSpecification):
            return StorageError(f"{where} refuses the login: {_line(error)}")
        if isinstance(error, errors.InvalidCatalogName):
            return StorageError(f"{where} has no such database: create it with `createdb` first")
        if isinstance(error, errors.InsufficientPrivilege):
            return StorageError(f"{where} doesn't allow it ({_line(error)}): grant the role what it lacks")
        if isinstance(error, errors.DiskFull):
            return StorageError(f"the disk of {where} is full: nothing was stored, free some space")
        if isinstance(error, errors.TooManyConnections):
            return StorageError(f"{where} takes no more connections: raise its max_connections")
        if isinstance(error, errors.ReadOnlySqlTransaction):
            return StorageError(f"{where} is read-only, a standby perhaps: open the primary server")
        if isinstance(error, errors.ProgramLimitExceeded):
            return StorageError(f"{where} takes no id, key or entity longer than 2,600 bytes: shorten it")
        if isinstance(error, psycopg.OperationalError):
            return StorageError(f"{where} can't be reached{what}: {_line(error)}")
        return StorageError(f"{where}: {_line(error)}")


def lost(error: BaseException, connection: Connection | None) -> bool:
    """Whether the error means that the server is gone, and may be back, rather than that it refuses."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    if error.sqlstate is not None:
        return error.sqlstate in _AWAY or error.sqlstate.startswith("08")
    if connection is not None:
        return connection.closed
    refused = ("authentication", "does not exist", "no pg_hba.conf", "password", "role ")
    return not any(word in str(error) for word in refused)


def _schema(schema: str, tenant: str | None) -> str:
    """A tenant's schema is named after it; what doesn't fit PostgreSQL's 63 bytes is told apart by a hash."""
    if not schema or "\0" in schema or len(schema.encode()) > 40:
        raise InvalidName(f"a schema is named by text of 1 to 40 bytes, not {schema!r}")
    if tenant is None:
        return schema
    name = f"{schema}:{tenant}"
    if len(name.encode()) > 63 or "\0" in name:
        digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
        cut = quote(tenant, safe="")[: 63 - len(schema.encode()) - 18]
        name = f"{schema}:{cut}~{digest}"
    return name


def _masked(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    options = [(name, "***" if name == "password" else value) for name, value in parse_qsl(parts.query)]
    user, at, host = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    where = f"{name}{':***' if colon else ''}{at}{host}"
    return unquote(urlunsplit(parts._replace(netloc=where, query=urlencode(options))))


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
