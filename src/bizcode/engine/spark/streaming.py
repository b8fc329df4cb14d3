"""A query of Spark's Structured Streaming, fed with ranges of the log.

Spark's watermark is the one of the ranges. Each batch is handed to the caller, who keeps it with its number; only then
does Spark commit it. A batch that Spark repeats after a crash has a number that is known.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import orjson

from ...errors import StorageError
from .feed import FORMAT, Feed, Shape, read_range, write_range

__all__ = ["Plan", "Streaming"]

POLL = "50ms"
"""How often Spark asks for a new range while there is none."""

Take = Callable[[int, int, Any], None]


class Plan(Protocol):
    """What Spark makes of its sources, each of a shape."""

    @property
    def shapes(self) -> tuple[Shape, ...]: ...

    @property
    def frame(self) -> Callable[..., Any]:
        """The query, of a frame for each source. A row is to be left out only by a condition on its `mark`."""
        ...


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
    """

    def __init__(self, session: Any, directory: Path, plan: Plan) -> None:
        self._session = session
        self._directory = directory
        self.ranges = directory / "ranges"
        self._plan = plan
        self._query: Any = None
        self._inbox: queue.Queue[_Batch | None] = queue.Queue()
        self._stopping = False

    def _frame(self) -> Any:
        self._session.dataSource.register(Feed)
        sources = [
            self._session.readStream.format(FORMAT)
            .option("directory", str(self.ranges))
            .option("keys", str(shape.keys))
            .option("values", orjson.dumps(shape.values).decode())
            .option("side", str(side))
            .load()
            .withWatermark("mark", "0 seconds")
            for side, shape in enumerate(self._plan.shapes)
        ]
        return self._plan.frame(*sources)

    # running it

    def start(self) -> None:
        """Begin, or go on where the checkpoint stands."""
        self._session.conf.set("spark.sql.streaming.pollingDelay", POLL)
        # One side of a join may see a range before the other does.
        self._session.conf.set("spark.sql.streaming.multipleWatermarkPolicy", "min")
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

    def feed(self, number: int, about: Any, parts: Sequence[Sequence[Any]]) -> None:
        """Put the next range before Spark: the parts of each source."""
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
        if self._query is None:
            self.start()
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
        """The last range of a batch that all sources had, by the checkpoint."""
        lines = (self._directory / "checkpoint" / "offsets" / str(batch)).read_text().splitlines()
        # None where a source has given nothing yet.
        found = [orjson.loads(line) for line in lines[-len(self._plan.shapes) :] if line.startswith("{")]
        return min((offset["range"] for offset in found), default=0)

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
    return (last or lines[:1] or [type(error).__name__])[-1]  # below it Spark shows its plan
