"""Which pipelines Spark can keep the windows or the join of, and what is said of the others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from ..errors import InvalidQuery, StorageError
from ..plan import predicates
from .columns import Beginning, Columnar, beginning, columnar
from .steps import Aggregate, Buffer, Filter, Join, KeyBy, Reduce
from .windows import DAY

if TYPE_CHECKING:
    from ..store import Store
    from .pipeline import Pipeline

__all__ = ["Compiled", "compiled", "on_spark"]

Compiled = Columnar | tuple[Beginning, Beginning]
"""The first windows, or how both sides of a join begin."""

_INSIDE = 'or run it inside: .start(engine="embedded")'


def on_spark(pipeline: Pipeline, engine: str | None) -> tuple[Compiled, Path, Any] | None:
    """What a pipeline needs to run on Spark: the part that Spark runs, a place for checkpoints, and a session of
    Spark's. None where it runs inside.

    Raises:
        InvalidQuery: the pipeline, or the business, has no Spark. StorageError: Spark can't be reached.
    """
    if engine not in (None, "embedded", "spark"):
        raise InvalidQuery(f'start(engine=) takes "spark" or "embedded", not {engine!r}')
    store = pipeline.store
    if engine == "embedded" or (engine is None and store.spark is None):
        return None
    if store.spark is None:
        raise InvalidQuery(
            'a stream runs on the Spark that its business was opened with: Business(..., engine="spark")'
        )
    plan = compiled(pipeline)
    if store.spark.startswith("sc://"):
        raise _refused(
            "over Spark Connect its results can't come in one transaction", 'Open it by "spark://host"'
        )
    session = store.engine.cluster.streaming()  # type: ignore[attr-defined]
    return plan, _checkpoints(store, session), session


def _checkpoints(store: Store, session: Any) -> Path:
    """Where driver and workers keep the state of windows."""
    named = session.conf.get("spark.sql.streaming.checkpointLocation", None)
    if named:
        parts = urlsplit(named)
        if parts.scheme not in ("", "file"):
            raise StorageError(
                f"spark.sql.streaming.checkpointLocation is a directory that all machines mount, not {named}"
            )
        return Path(unquote(parts.path)) / store.log.store_id
    place = store.segments.place
    if isinstance(store.root, str) and place.origin("") and not str(store.spark).startswith("local"):
        raise StorageError(
            "the workers need a directory for the windows' state that all machines mount: name it by Spark's setting "
            "spark.sql.streaming.checkpointLocation"
        )
    return place.directory / "streams"


def compiled(pipeline: Pipeline) -> Compiled:
    """The part that Spark runs: from the source to the first windows' results, or to the pairs of a join. What comes
    after, which is little, runs where the stream was started.

    Raises:
        InvalidQuery: a step that Spark can't be given, by name, and what would be right.
    """
    made = _joined(pipeline, pipeline.source) if isinstance(pipeline.source, Join) else _windows(pipeline)
    for other in pipeline.steps:
        if isinstance(other, Buffer) and other.overflow != "block":
            raise _refused(f"buffer({other.overflow!r}) drops elements as they come", "leave it out")
    return made


def _windows(pipeline: Pipeline) -> Columnar:
    _check_source(pipeline)
    if not any(isinstance(step, Aggregate) for step in pipeline.steps):
        raise _refused(
            "it has no aggregate() over windows, and single records need no cluster", "give it one"
        )
    for step in pipeline.steps:
        if isinstance(step, Aggregate):
            _check_windows(pipeline, step)
            break
        _check_before(step, "windows", "aggregate()")
    plan = columnar(pipeline, several=True)
    if plan is None:
        raise _refused(
            "its windows hold whole elements, by collect(), or overlap unevenly",
            "name a field, and a slide that divides the size",
        )
    return plan


def _joined(pipeline: Pipeline, join: Join) -> tuple[Beginning, Beginning]:
    if join.kind == "group":
        raise _refused(
            "co_group() gives a cluster whole, and Spark gives pairs as they are found", "take left_join()"
        )
    if join.kind == "left" and pipeline.effective.lateness:
        raise _refused(
            "lateness() takes back what left_join() gave of an element alone, and Spark gives that once",
            "use out_of_order(), or join()",
        )
    found = []
    for side, text in ((join.left, "left"), (join.right, "right")):
        if isinstance(side.source, Join):
            raise _refused(
                f"the {text} side of its join is a join",
                "give that a sink, .to.track.Paired, and join what it gives",
            )
        _check_source(side)
        for step in side.steps:
            if isinstance(step, (Aggregate, Reduce)):
                raise _refused(
                    f"the {text} side of its join has {type(step).__name__.lower()}()",
                    "give that a sink, .to.track.Hourly, and join what it gives",
                )
            _check_before(step, "join", "on()")
        begin = beginning(side)
        if begin.steps < len(side.steps):
            raise _refused(f"the {text} side of its join has two key_by()", "leave the first one out")
        found.append(begin)
    return found[0], found[1]


def _check_source(pipeline: Pipeline) -> None:
    if len(pipeline.source.pattern.kinds) != 1:
        raise _refused(
            f"the source {pipeline.source.text} mixes tracked events, samples and entities' events",
            "name one of them",
        )


def _check_before(step: object, what: str, behind: str) -> None:
    if isinstance(step, Filter):
        if predicates.split(step.condition)[1] is not None:
            raise _refused("filter() has a Python function", "write it with `this` or as properties")
    elif isinstance(step, KeyBy):
        if not all(isinstance(part, str) for part in step.parts):
            raise _refused("key_by() has a Python function", "name fields")
        if "timestamp" in step.parts:
            raise _refused("key_by('timestamp') makes a key of each record", "name another field")
    else:
        name = {"FlatMap": "flat_map", "Sink": "to"}.get(type(step).__name__, type(step).__name__.lower())
        raise _refused(f"{name}() comes before the {what} and runs in Python", f"put it behind {behind}")


def _check_windows(pipeline: Pipeline, step: Aggregate) -> None:
    window = step.window
    if window is None:
        raise _refused("aggregate() without a window gives a result after each element", "give it a window")
    if window.kind == "session":
        raise _refused(
            "Spark closes a session by its own batches, and an element that comes late for one could join it",
            "take tumbling or sliding windows",
        )
    if window.unit is None and (window.size % 1_000 or window.slide % 1_000):
        raise _refused("Spark's watermark counts milliseconds", "take a window of whole milliseconds")
    if window.unit is None and window.slide % DAY == 0:
        raise _refused(f"{window.text} goes by the calendar's days, which are not equally long", 'take "1d"')
    if pipeline.options.lateness:
        raise _refused(
            "lateness() gives a window's result again, and Spark gives it once", "use out_of_order()"
        )


def _refused(what: str, instead: str) -> InvalidQuery:
    return InvalidQuery(f"Spark can't run this stream: {what}. {instead[0].upper()}{instead[1:]}, {_INSIDE}")
