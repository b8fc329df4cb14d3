"""The Spark that answers: started or connected to at the first question, shared by the stores of a process."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import sys
import threading
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from ...errors import InvalidValue, StorageError

__all__ = ["Cluster", "check_address"]

WAIT = 5.0
"""Seconds to wait for a connection to the master or the server."""

SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "true",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.timestampType": "TIMESTAMP_LTZ",
    "spark.sql.maxPlanStringLength": "20000",
}
"""What the meaning of a statement depends on; and Spark keeps the text of a thousand plans."""

_LOCAL = re.compile(r"local(\[(\*|\d+)\])?")
_PORTS = {"spark": 7077, "sc": 15002}
_lock = threading.Lock()
_shared: dict[str, list[Any]] = {}
"""Address -> [session, number of users, whether it was started here]."""


def check_address(address: Any) -> str:
    """An address as `engine=` takes it. Raises InvalidValue, StorageError where the extra isn't installed.

    >>> check_address("http://host")  # doctest: +IGNORE_EXCEPTION_DETAIL
    Traceback (most recent call last):
    bizcode.errors.InvalidValue: engine= takes "spark", "spark://host:7077", "sc://host:15002" or "local[2]"
    """
    parts = urlsplit(address) if isinstance(address, str) else urlsplit("")
    known = isinstance(address, str) and (address == "spark" or _LOCAL.fullmatch(address) is not None)
    if not known and not (parts.scheme in _PORTS and parts.hostname):
        raise InvalidValue(
            'engine= takes "spark" (what Spark\'s own configuration says, else this machine), "spark://host:7077", '
            f'"sc://host:15002" or "local[2]", not {address!r}'
        )
    needed = ["pyspark", "pandas", "sqlglot", *(["grpc"] if parts.scheme == "sc" else [])]
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise StorageError(f"engine={address!r} needs {' and '.join(missing)}: pip install 'bizcode[spark]'")
    return address


class Cluster:
    """One store's hold on Spark.

    Args:
        address: as `check_address` lets it pass.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._session: Any = None
        self._lock = threading.Lock()

    def session(self) -> Any:
        """A session of this store's own, with views of its own. Raises StorageError where Spark can't be reached."""
        with self._lock:
            if self._session is None:
                with _lock:
                    self._session = _entered(self.address)
            return self._session

    @property
    def is_here(self) -> bool:
        """Whether its workers are threads of this process, which see the files that it sees."""
        return not self.address.startswith("sc://") and self.session().sparkContext.master.startswith("local")

    def streaming(self) -> Any:
        """A session for streams, whose state is cut into as many parts as there are cores, unless Spark's own
        configuration says how many."""
        session = self.session().newSession()
        for name, value in SETTINGS.items():
            session.conf.set(name, value)
        context = session.sparkContext
        if context.getConf().get("spark.sql.shuffle.partitions") is None:
            session.conf.set("spark.sql.shuffle.partitions", str(max(2, context.defaultParallelism)))
        return session

    def close(self) -> None:
        """Leave; the last one stops what was started here."""
        with self._lock, _lock:
            session, self._session = self._session, None
            if session is not None:
                _left(self.address, session)


def _entered(address: str) -> Any:
    held = _shared.get(address)
    try:
        if held is None:
            _probe(address)
            session, started = _started(address)
            # A server keeps its clients apart by itself; in one Java there is one Spark for all.
            if not address.startswith("sc://"):
                held = _shared[address] = [session, 0, started]
        if held is not None:
            session = held[0].newSession()
            held[1] += 1
        for name, value in SETTINGS.items():
            session.conf.set(name, value)
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(f"Spark at {address} can't be used: {_line(error)}") from error
    return session


def _left(address: str, session: Any) -> None:
    held = _shared.get(address)
    if held is not None:
        held[1] -= 1
        if held[1]:
            return
        del _shared[address]
        if not held[2]:
            return
        session = held[0]
    with suppress(Exception):  # it may be gone already
        session.stop()


def _probe(address: str) -> None:
    """Spark itself tries for minutes before it says that nobody answers."""
    first = address.split(",")[0]
    parts = urlsplit(first)
    if parts.scheme not in _PORTS:
        return
    failed: OSError | None = None
    for host in address.partition("://")[2].partition("/")[0].split(","):
        place = urlsplit(f"//{host}")
        try:
            port = place.port or _PORTS[parts.scheme]
            socket.create_connection((place.hostname or "", port), WAIT).close()
            return
        except (OSError, ValueError) as error:
            failed = error if isinstance(error, OSError) else OSError(str(error))
    raise StorageError(f"no Spark answers at {address}: {failed}") from failed


def _started(address: str) -> tuple[Any, bool]:
    """A session, and whether it was started for us."""
    from pyspark.sql import SparkSession  # pyright: ignore[reportMissingImports]

    if address.startswith("sc://"):
        return SparkSession.builder.remote(address).create(), True
    from pyspark import SparkConf, SparkContext  # pyright: ignore[reportMissingImports]

    running = SparkContext._active_spark_context
    if running is not None:
        if address not in ("spark", running.master):
            raise StorageError(
                f"this process already runs Spark on {running.master}, and it can run only one: close that, or open "
                f'with engine="spark" to use it'
            )
        return SparkSession.builder.getOrCreate(), False
    conf = SparkConf()
    if address != "spark":
        conf.setMaster(address)
    for name, value in {
        "spark.master": "local[*]",
        "spark.app.name": "bizcode",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
    }.items():
        conf.setIfMissing(name, value)
    # What Spark calls `python3` need not have bizcode, which a stream's ranges are read by.
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    return SparkSession.builder.config(conf=conf).getOrCreate(), True


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
