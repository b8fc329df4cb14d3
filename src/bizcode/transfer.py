"""Getting data in: CSV, JSONL and Parquet, resumable; also what `export` wrote, as it was."""

from __future__ import annotations

import csv
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import orjson

from .errors import BizError, InvalidValue, NotFound, StorageError
from .record import EVENT, MEASURE, Draft

if TYPE_CHECKING:
    from .store import Store

__all__ = ["BrokenLine", "Loaded", "load"]

BATCH = 5_000
_WRITTEN = {"position", "id", "timestamp", "user", "data"}
"""Columns of every file that `export` writes."""


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

    What `export` wrote of events or measures comes back as it was, with its ids, times and users, where neither
    event, time, user nor properties are given; what is there already is not stored again.

    Args:
        path: the file, whose ending says the format; or a directory of Parquet files.
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
    if path.is_dir():
        options = {"event": event, "time": time, "user": user, "properties": properties}
        return _load_all(store, path, {**options, "strict": strict, "progress": progress})
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


def _load_all(store: Store, directory: Path, options: dict[str, Any]) -> Loaded:
    """Every Parquet file of a directory, in order of their names."""
    files = sorted(directory.rglob("*.parquet"))
    if not files:
        raise NotFound(f"there is no Parquet file in {str(directory)!r}")
    found = [load(store, file, **options) for file in files]
    broken = [line for one in found for line in one.broken]
    return Loaded(sum(one.records for one in found), sum(one.skipped for one in found), broken)


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
        self.bare = event is None and time is None and user is None and properties is None
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

    def _written(self, columns: Iterable[str]) -> bool:
        """Whether they are of a file that `export` wrote, which is to come back as it was."""
        named = set(columns) | ({"type"} if self._type() is not None else set())
        return self.bare and named >= {*_WRITTEN, "type"}

    def _type(self) -> str | None:
        """The type that the directories of an exported Parquet file name."""
        parts = (part for part in self.path.parts if part.startswith("type="))
        return next((unquote(part.removeprefix("type=")) for part in parts), None)

    def _check(self, row: dict[str, Any]) -> None:
        if self._written(row) and "entity" in row:
            raise InvalidValue(
                f"{self.path.name} holds entities' events, whose versions a load can't keep: `bizcode move` copies "
                f"a whole business"
            )
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

    def _again(self, row: dict[str, Any]) -> Draft | None:
        """A record as it was exported; None if it is there already."""
        if self.store.log.position_of(row["id"]) is not None:
            return None
        read: dict[str, Any] = {
            name: orjson.loads(kept) if isinstance(kept, str) and kept else kept
            for name, kept in row.items()
            if name in ("data", "value", "experiments")
        }
        value = read.get("value")
        draft, _ = self.store.writer.draft(
            EVENT if value is None else MEASURE,
            row.get("type") or self._type() or self.path.stem,
            read["data"],
            at=row["timestamp"],
            id=row["id"],
            user=row["user"] or None,
            value=value,
        )
        carried = read.get("experiments")
        return draft._replace(experiments=orjson.dumps(carried).decode()) if carried else draft

    def _draft(self, row: dict[str, Any]) -> Draft | None:
        if self._written(row):
            return self._again(row)
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
            as_text = {self.user, self.time, self.event, "event"}
            if self._written(header):
                as_text |= set(header)
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
                typed = {k: v if k in as_text else _typed(v) for k, v in zip(header, row, strict=True)}
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
