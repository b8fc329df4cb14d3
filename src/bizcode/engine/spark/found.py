"""Pairs that Spark found, in files beside the checkpoint, one for each batch that had some.

What Spark gives of a range comes in several batches and in no order, so it is put here first, by the batch's number,
and taken when all is there. It stays until its pairs can't be taken back any more. A file's name is the batch's number
and the watermark that closes all of its pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc

__all__ = ["SCHEMA", "Found"]

MANY = 256
"""So many files are made one."""
SCHEMA = pa.schema([*((name, pa.int64()) for name in ("lp", "lt", "rp", "rt")), ("key", pa.string())])
_NEVER = -(2**62)


@dataclass(frozen=True, slots=True)
class Found:
    """
    Args:
        reach: how long after its time a row can be taken back.
    """

    directory: Path
    reach: int

    def put(self, batch: int, rows: Any) -> None:
        """Keep what a batch gave, in place of what it gave before a crash."""
        for number, _, path in self._files():
            if number == batch:
                path.unlink(missing_ok=True)
        if not len(rows):
            return
        rows = rows.select(SCHEMA.names).cast(SCHEMA)
        last = pc.max(pc.max_element_wise(rows["lt"], rows["rt"], skip_nulls=False)).as_py()  # type: ignore[attr-defined]
        self._write(batch, _NEVER if last is None else last + self.reach, rows)

    def _write(self, batch: int, closes: int, rows: Any) -> Path:
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{batch}-{closes}"
        temporary = self.directory / f".{batch}"
        with ipc.new_file(str(temporary), SCHEMA) as writer:
            writer.write_table(rows)
        temporary.replace(path)
        return path

    def _files(self) -> list[tuple[int, int, Path]]:
        """Batch, what closes it, and where."""
        found = []
        for path in self.directory.iterdir() if self.directory.exists() else ():
            batch, _, closes = path.name.partition("-")
            if batch.isdigit():
                found.append((int(batch), int(closes), path))
        return sorted(found)

    def new(self, batch: int) -> tuple[Any, int]:
        """What came after a batch, and the last one's number."""
        files = [(number, path) for number, _, path in self._files() if number > batch]
        return _read([path for _, path in files]), max((number for number, _ in files), default=batch)

    def known(self, batch: int) -> Any:
        """What came up to a batch and isn't closed; a pair may be there twice."""
        return _read([path for number, _, path in self._files() if number <= batch])

    def close(self, batch: int, watermark: int) -> None:
        """Forget of what came up to a batch what can't be taken back any more."""
        files = [file for file in self._files() if file[0] <= batch]
        still = [file for file in files if file[1] >= watermark]
        for _, closes, path in files:
            if closes < watermark:
                path.unlink(missing_ok=True)
        if len(still) > MANY:
            rows = _read([path for _, _, path in still])
            last = pc.add(pc.max_element_wise(rows["lt"], rows["rt"], skip_nulls=False), self.reach)  # type: ignore[attr-defined]
            made = self._write(
                still[-1][0],
                max(closes for _, closes, _ in still),
                rows.filter(pc.greater_equal(last, watermark)),  # type: ignore[attr-defined]
            )
            for _, _, path in still:
                if path != made:
                    path.unlink(missing_ok=True)


def _read(paths: list[Path]) -> Any:
    tables = [ipc.open_file(str(path)).read_all() for path in paths]
    return pa.concat_tables(tables).combine_chunks() if tables else SCHEMA.empty_table()
