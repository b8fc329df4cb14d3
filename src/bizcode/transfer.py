"""Getting data in and out: CSV, JSONL and Parquet, resumable in, open formats out."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from .errors import BizError, InvalidQuery, InvalidValue, NotFound, StorageError
from .plan.select import Select
from .record import ENTITY, EVENT, MEASURE, Draft

if TYPE_CHECKING:
    from .store import Store

__all__ = ["BrokenLine", "Exported", "Loaded", "export", "load"]

BATCH = 5_000
_KINDS = {"events": EVENT, "measures": MEASURE, "entity_events": ENTITY}
_FORMATS = ("parquet", "csv", "jsonl")


@dataclass(frozen=True, slots=True)
class BrokenLine:
    """A line that could not be loaded, counted from 1 in the file."""

    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load did: records stored, records skipped because an earlier run had stored them, broken lines."""

    records: int
    skipped: int
    broken: list[BrokenLine]


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    records: int
    files: list[str]


def load(
    store: Store,
    path: str | os.PathLike[str],
    *,
    event: str | None = None,
    time: str | None = None,
    user: str | None = None,
    properties: list[str] | dict[str, str] | None = None,
    strict: bool = False,
    progress: Callable[[int, int], Any] | None = None,
) -> Loaded:
    """Load a CSV, JSONL or Parquet file as tracked events. Killed in the middle and started again it goes on
    where it was, without doubles: each batch commits together with the place in the file.

    Args:
        path: the file; its ending says the format.
        event: the events' name; or, where a column has that name, the column that holds it. Default: the
            column "event" if there is one, else the file's name.
        time: the column with the time; default "timestamp" or "time", else now.
        user: the column with the user's id.
        properties: which columns become properties (a mapping renames them); default: all others.
        strict: a broken line stops the load before anything is stored.
        progress: called as progress(bytes or rows done, in all).
    Returns:
        Loaded(records, skipped, broken).
    Raises:
        NotFound: no such file. InvalidValue: an unknown format or column; with strict, a broken line.
    """
    path = Path(path)
    if not path.is_file():
        raise NotFound(f"there is no file {str(path)!r}")
    mapper = _Mapper(store, path, event, time, user, properties)
    if strict:
        broken = [BrokenLine(n, why) for n, _, why in mapper.rows() if why]
        if broken:
            raise InvalidValue(
                f"{path.name} line {broken[0].line}: {broken[0].reason} ({len(broken)} broken lines; nothing was loaded)"
            )
    key = f"{path.resolve()}:{_fingerprint(path)}:{event}"
    kept = store.log.get("load", key)
    done = orjson.loads(kept)["line"] if kept else 0
    stored = skipped = 0
    broken = []
    batch: list[Draft] = []
    last = 0
    total = path.stat().st_size

    def commit() -> None:
        nonlocal stored, batch
        with store.log.transaction() as tx:
            answers = tx.append(batch) if batch else []
            tx.put("load", key, orjson.dumps({"line": last}))
        stored += sum(1 for answer in answers if not answer.duplicate)
        batch = []

    for line, draft, why in mapper.rows():
        if line <= done:
            skipped += draft is not None
            continue
        last = line
        if why:
            broken.append(BrokenLine(line, why))
        elif draft is not None:
            batch.append(draft)
        if len(batch) >= BATCH:
            commit()
            store.writer.written(BATCH)
            if progress is not None:
                progress(min(mapper.offset, total), total)
    if last > done:
        commit()
    if progress is not None:
        progress(total, total)
    return Loaded(stored, skipped, broken)


def _fingerprint(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.blake2b(file.read(65_536), digest_size=8).hexdigest() + f"-{path.stat().st_size}"


class _Mapper:
    """From a file's rows to drafts."""

    def __init__(self, store: Store, path: Path, event: Any, time: Any, user: Any, properties: Any) -> None:
        self.store = store
        self.path = path
        self.event = event
        self.time = time
        self.user = user
        self.properties = properties
        self.offset = 0
        ending = path.suffix.lower()
        readers = {
            ".csv": self._csv,
            ".jsonl": self._jsonl,
            ".ndjson": self._jsonl,
            ".parquet": self._parquet,
        }
        if ending not in readers:
            raise InvalidValue(f"{path.name} is none of CSV, JSONL or Parquet: its ending must say which")
        self._read = readers[ending]

    def rows(self) -> Iterator[tuple[int, Draft | None, str]]:
        """(line, draft, what is wrong)."""
        checked = False
        for line, row, why in self._read():
            if why:
                yield line, None, why
                continue
            assert row is not None
            if not checked:
                self._check(row)
                checked = True
            try:
                yield line, self._draft(row), ""
            except BizError as error:
                yield line, None, str(error)

    def _check(self, row: dict[str, Any]) -> None:
        wanted = [
            ("time", self.time),
            ("user", self.user),
            *(("properties", name) for name in self.properties or ()),
        ]
        for option, column in wanted:
            if column is not None and column not in row:
                raise InvalidValue(
                    f"{option}= names the column {column!r}, {self.path.name} has {', '.join(map(str, row))}"
                )

    def _draft(self, row: dict[str, Any]) -> Draft:
        rest = dict(row)
        name = self.path.stem
        column = "event" if self.event is None else self.event
        if column in rest:
            name = rest.pop(column)
        elif self.event is not None:
            name = self.event
        time = self.time or next((c for c in ("timestamp", "time") if c in rest), None)
        at = rest.pop(time) if time is not None else None
        if time is not None and (at is None or at == ""):
            raise InvalidValue(f"the column {time!r} is empty")
        user = rest.pop(self.user, None) if self.user is not None else None
        if isinstance(self.properties, dict):
            rest = {new: row[old] for old, new in self.properties.items()}
        elif self.properties is not None:
            rest = {key: row[key] for key in self.properties}
        data = {key: value for key, value in rest.items() if value is not None and value != ""}
        from . import values

        values.name(name, "an event")
        if isinstance(at, str) and at.strip().isdigit() and len(at.strip()) == 8:
            at = f"{at.strip()[:4]}-{at.strip()[4:6]}-{at.strip()[6:]}"
        elif isinstance(at, str) and _is_number(at):
            at = float(at)
        draft, _ = self.store.writer.draft(
            EVENT, name, data, at=at, user=None if user in (None, "") else str(user)
        )
        return draft

    def _csv(self) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
        with self.path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            reader = csv.reader(file)
            header = next(reader, None)
            if header is None:
                return
            twice = next((name for n, name in enumerate(header) if name in header[:n]), None)
            if twice is not None:
                raise InvalidValue(
                    f"{self.path.name} has two columns {twice!r}, of which one would be lost: give each its own name"
                )
            while True:
                try:
                    row = next(reader)
                except StopIteration:
                    return
                except csv.Error as error:
                    yield reader.line_num, None, str(error)
                    continue
                self.offset += sum(map(len, row)) + len(row)
                if not row:
                    continue
                if len(row) != len(header):
                    yield reader.line_num, None, f"has {len(row)} fields, the header {len(header)}"
                    continue
                if any("\udc80" <= c <= "\udcff" for value in row for c in value):
                    yield reader.line_num, None, "is not valid UTF-8"
                    continue
                typed = {
                    k: v if k in (self.user, self.time, self.event, "event") else _typed(v)
                    for k, v in zip(header, row, strict=True)
                }
                yield reader.line_num, typed, ""

    def _jsonl(self) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
        with self.path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                self.offset += len(raw)
                if not raw.strip():
                    continue
                try:
                    row = orjson.loads(raw)
                except orjson.JSONDecodeError as error:
                    yield line, None, f"is no JSON: {error}"
                    continue
                if isinstance(row, dict):
                    yield line, row, ""
                else:
                    yield line, None, f"is a JSON {type(row).__name__}, not an object"

    def _parquet(self) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            file = pq.ParquetFile(self.path)
        except (OSError, pa.ArrowException) as error:
            raise StorageError(f"{self.path.name} can't be read as Parquet: {error}") from error
        line = 0
        for batch in file.iter_batches(10_000):
            self.offset = line
            for row in batch.to_pylist():
                line += 1
                yield line, row, ""


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _typed(text: str) -> Any:
    """A CSV field: a number or true/false where it is written exactly like one, else text."""
    if text in ("true", "True", "false", "False"):
        return text in ("true", "True")
    try:
        number = int(text)
    except ValueError:
        pass
    else:
        return number if str(number) == text and abs(number) < 2**63 else text
    try:
        real = float(text)
    except ValueError:
        return text
    plain = text.strip() == text and all(c in "0123456789.eE+-" for c in text)
    return real if plain and real == real and abs(real) != float("inf") else text


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
            table = pa.Table.from_pylist(rows)
            index = table.column_names.index("timestamp")
            table = table.set_column(
                index, "timestamp", table.column("timestamp").cast(pa.timestamp("us", "UTC"))
            )
            file = directory / f"part-{part}.parquet"
            pq.write_table(table, file, compression="zstd")
            files.append(str(file))
            count += len(members)
    return Exported(count, files)


def progress_bar(title: str) -> tuple[Any, Callable[[int, int], Any]]:
    """A terminal's progress bar, and the function that moves it."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeRemainingColumn(),
    )
    task = bar.add_task(title, total=None)

    def move(done: int, total: int) -> None:
        bar.update(task, completed=done, total=total)

    return bar, move
