"""A query of Spark's Structured Streaming: windows of a keyed stream, kept by Spark, given out once they are complete.

Spark's watermark is the one of the ranges that it is fed, and a window's end is what it is compared with. Each batch is
handed to the caller, who commits it with its number; only then does Spark commit it. A batch that Spark repeats after a
crash has a number that is known.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from ...errors import StorageError
from .feed import FORMAT, Feed, Shape, axis, read_range, write_range

__all__ = ["Fold", "Streaming"]

POLL = "50ms"
"""How often Spark asks for a new range while there is none."""

Take = Callable[[int, int, Any], None]


@dataclass(frozen=True, slots=True)
class Fold:
    """An aggregation; `instants`: of the records' own times."""

    operation: str
    instants: bool

    @property
    def kind(self) -> str | None:
        """How the value that it reads comes, None for none."""
        if self.operation == "count" or self.instants:
            return None
        if self.operation in ("sum", "avg", "percentile", "stddev"):
            return "number"
        return "order" if self.operation in ("min", "max") else "text"

    def sql(self, n: int) -> list[str]:
        """Spark's expressions of the state that the embedded engine keeps."""
        if self.operation == "count":
            return []
        whole, real, text = ("t", "CAST(NULL AS DOUBLE)", "CAST(NULL AS STRING)") if self.instants else (
            f"v{n}i", f"v{n}d", f"v{n}s",
        )  # fmt: skip
        if self.operation in ("sum", "avg"):
            return [
                f"count({whole})",
                f"sum(CAST({whole} AS DECIMAL(38, 0)))",
                f"count({real})",
                f"sum({real})",
            ]
        if self.operation in ("min", "max"):
            return [f"{self.operation}({column})" for column in (whole, real, text)]
        if self.operation in ("percentile", "stddev"):
            return [f"collect_list({whole})", f"collect_list({real})"]
        value = "CAST(t AS STRING)" if self.instants else text
        if self.operation == "distinct":
            return [f"collect_set({value})"]
        how = {"first": "min", "last": "max", "collect": "collect_list"}[self.operation]
        return [f"{how}(struct(t, p, {value} AS x)) FILTER (WHERE {value} IS NOT NULL)"]

    def names(self, n: int) -> list[str]:
        """The columns of its state in the n-th place."""
        return [f"a{n}_{part}" for part in range(len(self.sql(n)))]

    def state(self, found: list[Any], count: int) -> Any:
        """The embedded engine's state of what Spark gives."""
        if self.operation == "count":
            return [count]
        if self.operation in ("sum", "avg"):
            whole, sum_of_whole, real, sum_of_real = found
            return [whole + real, int(sum_of_whole or 0), [sum_of_real] if real else []]
        if self.operation in ("min", "max"):
            numbers = [value for value in found[:2] if value is not None]
            best = min if self.operation == "min" else max
            return [best(numbers) if numbers else None, found[2]]
        if self.operation in ("percentile", "stddev"):
            return [*(found[0] or ()), *(found[1] or ())]
        if self.operation == "distinct":
            return dict.fromkeys(found[0] or (), 1)
        if self.operation == "collect":
            return [self._placed(item) for item in found[0] or ()]
        return self._placed(found[0]) if found[0] is not None else []

    def _placed(self, item: dict[str, Any]) -> list[Any]:
        return [item["t"], item["p"], orjson.loads(item["x"])]


@dataclass
class _Batch:
    number: int
    rows: Any
    done: threading.Event = field(default_factory=threading.Event)
    failed: bool = True


class Streaming:
    """One query.

    Args:
        directory: its checkpoint and its ranges, which driver and workers see under this path.
        sliding: size and slide of windows that overlap, in microseconds.
    """

    def __init__(
        self,
        session: Any,
        directory: Path,
        shape: Shape,
        folds: Sequence[Fold],
        sliding: tuple[int, int] | None = None,
    ) -> None:
        self._session = session
        self._directory = directory
        self.ranges = directory / "ranges"
        self._shape = shape
        self._folds = folds
        self._sliding = sliding
        self._query: Any = None
        self._inbox: queue.Queue[_Batch | None] = queue.Queue()
        self._stopping = False

    # the plan

    def _frame(self) -> Any:
        from pyspark.sql import functions as F  # pyright: ignore[reportMissingImports]

        self._session.dataSource.register(Feed)
        keys = [f"k{n}" for n in range(self._shape.keys)]
        source = (
            self._session.readStream.format(FORMAT)
            .option("directory", str(self.ranges))
            .option("keys", str(self._shape.keys))
            .option("values", orjson.dumps(self._shape.values).decode())
            .load()
            .withWatermark("mark", "0 seconds")
            # Counted from the mark, so that no condition on them can be asked before the watermark has seen it.
            .withColumn("s", F.expr(f"unix_micros(mark) - {axis(0)} + s"))
            .withColumn("e", F.expr(f"unix_micros(mark) - {axis(0)} + e"))
        )
        if self._sliding is not None:
            size, slide = self._sliding
            first = F.expr(f"explode(sequence(s - {size - slide}, s, {slide}))")
            source = source.withColumn("s", first).withColumn("e", F.expr(f"s + {size}"))
        end = F.expr(f"timestamp_micros(e + {axis(0)})")
        # As Spark itself marks the end of its own windows: a group is complete when the watermark has passed it.
        end = end.alias("ends", metadata={"spark.watermarkDelayMs": 0})
        values = [name for name, _ in self._shape.columns() if name not in keys]
        made = [
            F.expr(sql).alias(name)
            for n, fold in enumerate(self._folds)
            for name, sql in zip(fold.names(n), fold.sql(n), strict=True)
        ]
        return (
            source.where("e > m")
            .select(*keys, "s", "e", end, "t", "p", *values)
            .groupBy(*keys, "s", "e", "ends")
            .agg(F.count("*").alias("n"), *made)
            .drop("ends")
        )

    # running it

    def start(self) -> None:
        """Begin, or go on where the checkpoint stands."""
        self._session.conf.set("spark.sql.streaming.pollingDelay", POLL)
        self._query = (
            self._frame()
            .writeStream.outputMode("append")
            .foreachBatch(self._arrived)
            .option("checkpointLocation", f"file://{self._directory / 'checkpoint'}")
            .start()
        )

    def _arrived(self, frame: Any, number: int) -> None:
        batch = _Batch(number, frame.toArrow())
        self._inbox.put(batch)
        while not batch.done.wait(0.5):
            if self._stopping:
                break
        if batch.failed:
            raise RuntimeError("the batch was not taken: it comes again")

    def feed(self, number: int, about: Any, parts: Sequence[Any]) -> None:
        """Put the next range before Spark."""
        self.ranges.mkdir(parents=True, exist_ok=True)
        write_range(self.ranges, number, about, parts)

    def begun(self, number: int) -> Any:
        """What was said about a range that was put before Spark, None if it wasn't."""
        try:
            return read_range(self.ranges, number)[0]
        except FileNotFoundError:
            return None

    def settle(self, take: Take) -> None:
        """Let Spark do what there is. `take(batch, range, rows)` is called with each batch and must commit it, or
        raise: then Spark has not done it, and the query ends."""
        settled = threading.Thread(target=self._until_settled, daemon=True, name="bizcode-spark")
        self._error: BaseException | None = None
        settled.start()
        while (batch := self._inbox.get()) is not None:
            try:
                take(batch.number, self._range_of(batch.number), batch.rows)
                batch.failed = False
            except BaseException:
                batch.done.set()
                self.stop()
                raise
            batch.done.set()
        settled.join()
        if self._error is not None:
            error, self._error = self._error, None
            self.stop()
            raise StorageError(f"Spark could not go on with the stream: {_reason(error)}") from error

    def _until_settled(self) -> None:
        try:
            self._query.processAllAvailable()
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            self._error = error
        self._inbox.put(None)

    def _range_of(self, batch: int) -> int:
        """The last range of a batch, by the checkpoint."""
        text = (self._directory / "checkpoint" / "offsets" / str(batch)).read_text()
        return orjson.loads(text.splitlines()[-1])["range"]

    def stop(self) -> None:
        """End the query; the checkpoint stays."""
        self._stopping = True
        if self._query is not None:
            query, self._query = self._query, None
            query.stop()

    @property
    def running(self) -> bool:
        return self._query is not None and self._query.isActive

    @property
    def exists(self) -> bool:
        """Whether there is a checkpoint."""
        return (self._directory / "checkpoint" / "metadata").exists()


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = [line for line in lines if "Error:" in line or "Exception:" in line]
    return (last or lines or [type(error).__name__])[-1]
