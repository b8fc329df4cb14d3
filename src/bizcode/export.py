"""Getting data out: Parquet, CSV and JSONL that any engine reads."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from .errors import InvalidQuery, StorageError
from .plan.select import Select
from .record import ENTITY, EVENT, MEASURE

if TYPE_CHECKING:
    from .store import Store

__all__ = ["Exported", "export"]

_KINDS = {"events": EVENT, "measures": MEASURE, "entity_events": ENTITY}
_FORMATS = ("parquet", "csv", "jsonl")


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    records: int
    files: list[str]


def export(
    store: Store,
    path: str | os.PathLike[str],
    *,
    format: str = "parquet",
    what: str = "events",
    since: Any = None,
    until: Any = None,
) -> Exported:
    """Write records that any engine reads.

    Args:
        path: for Parquet a directory, Hive-partitioned as `type=Signup/month=2024-03/part-0.parquet`; else a file.
        format: "parquet", "csv" or "jsonl".
        what: "events", "measures" or "entity_events".
        since, until: only records of [since, until).
    Raises:
        InvalidQuery: an unknown format or what. StorageError: the path can't be written.
    """
    if format not in _FORMATS:
        raise InvalidQuery(f"format is one of {', '.join(_FORMATS)}, not {format!r}")
    if what not in _KINDS:
        raise InvalidQuery(f"what is one of {', '.join(_KINDS)}, not {what!r}")
    path = Path(path)
    select = Select(kind=_KINDS[what], since=since, until=until)
    try:
        if format == "parquet":
            return _export_parquet(store, path, select)
        return _export_text(store, path, select, format)
    except OSError as error:
        raise StorageError(f"{path} can't be written: {error}") from error


def _records(store: Store, select: Select) -> Iterator[list[Any]]:
    from .engine import rows

    with store.engine.session() as session:
        yield from rows.records(session, select, newest_first=False)


def _flat(record: Any) -> dict[str, Any]:
    found = {
        "position": record.position,
        "id": record.id,
        "type": record.type,
        "timestamp": record.timestamp,
        "user": record.user,
    }
    if record._entity is not None:
        found |= {"entity": record._entity, "version": record._version}
    if record._value is not None:
        found["value"] = record._value
    if record._experiments:
        found["experiments"] = record._experiments
    return found


def _export_text(store: Store, path: Path, select: Select, format: str) -> Exported:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    count = 0
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = None
        for chunk in _records(store, select):
            for record in chunk:
                flat = _flat(record)
                flat["timestamp"] = record.timestamp.isoformat()
                if format == "jsonl":
                    file.write(json.dumps({**flat, "data": record.data}, ensure_ascii=False) + "\n")
                else:
                    flat["data"] = json.dumps(record.data, ensure_ascii=False)
                    if writer is None:
                        names = [
                            "position",
                            "id",
                            "type",
                            "timestamp",
                            "user",
                            "entity",
                            "version",
                            "value",
                            "experiments",
                            "data",
                        ]
                        writer = csv.DictWriter(
                            file,
                            [n for n in names if n in flat or (select.kind == EVENT and n == "experiments")],
                        )
                        writer.writeheader()
                    writer.writerow(flat)
                count += 1
    partial.rename(path)
    return Exported(count, [str(path)])


def _export_parquet(store: Store, path: Path, select: Select) -> Exported:
    import pyarrow as pa
    import pyarrow.parquet as pq

    # All files of an export have the same columns; only a value is what it is.
    types = {
        "position": pa.int64(),
        "id": pa.string(),
        "timestamp": pa.timestamp("us", "UTC"),
        "user": pa.string(),
        "entity": pa.string(),
        "version": pa.int64(),
        "value": None,
        "experiments": pa.string(),
        "data": pa.string(),
    }
    count = 0
    files: list[str] = []
    for part, chunk in enumerate(_records(store, select)):
        groups: dict[tuple[str, str], list[Any]] = {}
        for record in chunk:
            groups.setdefault((record.type, f"{record.timestamp:%Y-%m}"), []).append(record)
        for (type, month), members in groups.items():
            directory = path / f"type={quote(type, safe=' ')}" / f"month={month}"
            directory.mkdir(parents=True, exist_ok=True)
            rows = []
            for record in members:
                flat = _flat(record)
                flat.pop("type")
                rows.append({**flat, "data": orjson.dumps(record.data).decode()})
            names = [
                name for name in types if name in rows[0] or (name, select.kind) == ("experiments", EVENT)
            ]
            table = pa.table({name: pa.array([row.get(name) for row in rows], types[name]) for name in names})
            file = directory / f"part-{part}.parquet"
            pq.write_table(table, file, compression="zstd")
            files.append(str(file))
            count += len(members)
    return Exported(count, files)
