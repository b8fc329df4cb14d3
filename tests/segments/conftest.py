"""A store of segments over a log in a directory of its own, and what is written into it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

import bizcode
from bizcode.log.sqlite import open_log
from bizcode.record import EVENT, Draft, Stored
from bizcode.segments import SegmentStore

SOURCE = str(Path(bizcode.__file__).parents[1])
TIME = 1_700_000_000_000_000


@pytest.fixture
def store(tmp_path) -> Iterator[SegmentStore]:
    """An empty store."""
    log = open_log(tmp_path / "acme")
    yield SegmentStore(tmp_path / "acme", log)
    log.close()


@pytest.fixture
def write(store: SegmentStore) -> Callable[..., None]:
    """Append events: `write({"a": 1}, {"a": 2}, name="E", at=5)`, at in microseconds after a start."""

    def append(*documents: dict[str, Any], name: str = "E", at: int = 0, user: str | None = None) -> None:
        store.log.append(
            [Draft(EVENT, name, TIME + at, orjson.dumps(document).decode(), user) for document in documents]
        )

    return append


@pytest.fixture
def python() -> Callable[..., subprocess.Popen[str]]:
    """Start a Python process with a script and arguments."""

    def start(script: str, *arguments: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", script, *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": SOURCE},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def everything(store: SegmentStore, **options: Any) -> list[Stored]:
    """All sealed records."""
    return [row for rows in store.rows(0, **options) for row in rows]


def data_of(store: SegmentStore) -> list[dict[str, Any]]:
    """The properties of all sealed records."""
    return [orjson.loads(row.data) for row in everything(store)]
