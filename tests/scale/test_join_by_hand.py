"""What a join on Spark makes of the pairs that it is given, with Spark's part done by hand: in no order, in any batches."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from join_story import JOINS, Story

from bizcode.stream import compiled, pipeline

pytest.importorskip("pyspark")
from bizcode.engine.spark.axis import fine
from bizcode.engine.spark.feed import Tick, read_range, write_range
from bizcode.engine.spark.found import SCHEMA
from bizcode.stream import distributed


class ByHand:
    """In place of Spark's query: what its plan says of all rows, in batches of no order."""

    def __init__(self, session: Any, directory: Path, plan: Any) -> None:
        self._ranges, self._plan = directory / "ranges", plan
        self._rows: tuple[list[Any], list[Any]] = ([], [])
        self._paired: set[int] = set()
        self._range = self._batch = 0
        self.exists = True

    def begun(self, number: int) -> Any:
        path = self._ranges / str(number)
        return read_range(self._ranges, number)[0] if path.exists() else None

    def feed(self, number: int, about: Any, parts: Any) -> None:
        self._ranges.mkdir(parents=True, exist_ok=True)
        write_range(self._ranges, number, about, parts)

    def stop(self) -> None:
        pass

    def settle(self, take: Any) -> None:
        while (self._ranges / str(self._range + 1)).exists():
            self._range += 1
            sides = read_range(self._ranges, self._range)[1]
            marks = [part.at for parts in sides for part in parts if isinstance(part, Tick)]
            new = [[row for part in parts for row in self._of(part)] for parts in sides]
            for rows, more in zip(self._rows, new, strict=True):
                rows += more
            pairs = [(*one[:2], *other[:2], one[3]) for one, other in self._pairs(new)]
            self._paired |= {pair[0] for pair in pairs}
            random.Random(self._batch).shuffle(pairs)
            ended = [row for row in self._rows[0] if fine(row[1] + self._plan.within) < min(marks)]
            alone = [(*row[:2], None, None, row[3]) for row in ended if row[0] not in self._paired]
            self._rows[0][:] = [row for row in self._rows[0] if row not in ended or not self._plan.left]
            for batch in (pairs[::2], pairs[1::2], alone if self._plan.left else []):
                rows = [dict(zip(SCHEMA.names, row, strict=True)) for row in batch]
                take(self._batch, self._range, pa.Table.from_pylist(rows, schema=SCHEMA))
                self._batch += 1

    def _of(self, part: Any) -> Any:
        """Position, time, the watermark that it met, and key of the rows that are in time."""
        for table in () if isinstance(part, Tick) else part.tables(self._plan.shapes[0]):
            marks = table["mark"].cast(pa.int64()).to_pylist()
            for mark, row in zip(marks, table.drop_columns(["mark"]).to_pylist(), strict=True):
                keys = [row[f"k{n}"] or "null" for n in range(self._plan.keys)]
                if mark - fine(0) + row["e"] > row["m"]:
                    yield row["p"], row["t"], row["m"], keys[0] if len(keys) == 1 else f"[{','.join(keys)}]"

    def _pairs(self, new: list[list[Any]]) -> Any:
        reach = self._plan.within + self._plan.lateness
        fresh = [{row[0] for row in rows} for rows in new]
        for one in self._rows[0]:
            for other in self._rows[1]:
                if (
                    (one[0] in fresh[0] or other[0] in fresh[1])
                    and one[3] == other[3]
                    and abs(one[1] - other[1]) <= self._plan.within
                    and one[1] + reach >= other[2]
                    and other[1] + reach >= one[2]
                ):
                    yield one, other


@pytest.mark.parametrize(("seed", "cut"), [(1, 0), (2, 0.02), (3, 0.3)])
@pytest.mark.parametrize("name", JOINS)
def test_pairs_found_in_any_batches_lead_to_the_same_in_the_same_order(
    name, seed, cut, tmp_path, monkeypatch
):
    def by_hand(stream: Any, engine: str | None) -> Any:
        return compiled.compiled(stream), Path(stream.store.directory) / "streams", None

    mine = Story(seed, cut, [name]).told(tmp_path / "embedded", None)
    monkeypatch.setattr(distributed, "Streaming", ByHand)
    monkeypatch.setattr(pipeline, "on_spark", by_hand)
    monkeypatch.setattr("bizcode.engine.engine.Engine.queries", set(), raising=False)
    theirs = Story(seed, cut, [name]).told(tmp_path / "by hand", None)
    assert any(out[name] for out, *_ in mine)
    for one, other in zip(mine, theirs, strict=True):
        assert one == other
