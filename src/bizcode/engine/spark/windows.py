"""Windows of a keyed stream, kept by Spark and given out once its watermark has passed their ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import orjson

from .axis import axis
from .feed import Shape

__all__ = ["Fold", "Windows"]


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


@dataclass(frozen=True, slots=True)
class Windows:
    """The query.

    Args:
        sliding: size and slide of windows that overlap, in microseconds.
    """

    shape: Shape
    folds: tuple[Fold, ...]
    sliding: tuple[int, int] | None = None

    @property
    def shapes(self) -> tuple[Shape, ...]:
        return (self.shape,)

    def frame(self, source: Any) -> Any:
        """Complete windows: key, "s", "e", how many rows, and the states of the folds."""
        from pyspark.sql import functions as F  # pyright: ignore[reportMissingImports]

        keys = [f"k{n}" for n in range(self.shape.keys)]
        # Counted from the mark, so that no condition on them can be asked before the watermark has seen it.
        source = source.withColumn("s", F.expr(f"unix_micros(mark) - {axis(0)} + s")).withColumn(
            "e", F.expr(f"unix_micros(mark) - {axis(0)} + e")
        )
        if self.sliding is not None:
            size, slide = self.sliding
            first = F.expr(f"explode(sequence(s - {size - slide}, s, {slide}))")
            source = source.withColumn("s", first).withColumn("e", F.expr(f"s + {size}"))
        end = F.expr(f"timestamp_micros(e + {axis(0)})")
        # As Spark itself marks the end of its own windows: a group is complete when the watermark has passed it.
        end = end.alias("ends", metadata={"spark.watermarkDelayMs": 0})
        values = [name for name, _ in self.shape.columns() if name not in keys]
        made = [
            F.expr(sql).alias(name)
            for n, fold in enumerate(self.folds)
            for name, sql in zip(fold.names(n), fold.sql(n), strict=True)
        ]
        return (
            source.where("e > m")
            .select(*keys, "s", "e", end, "t", "p", *values)
            .groupBy(*keys, "s", "e", "ends")
            .agg(F.count("*").alias("n"), *made)
            .drop("ends")
        )
