"""`.to`: the sinks of a pipeline. Reading an attribute does nothing but name one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from .. import values
from ..errors import InvalidQuery
from .pipeline import Pipeline
from .steps import Sink

__all__ = ["To"]


@dataclass(frozen=True, slots=True)
class To:
    """`.to.track.X`, `.to.measure.m`, `.to.view.v`, `.to.Customer("id").notify`, `.to(fn)`."""

    pipeline: Pipeline

    def __call__(self, fn: Callable[[Any], Any]) -> Pipeline:
        """Call a function with each result; at least once."""
        if not callable(fn):
            raise InvalidQuery(f"to() takes a function, not {fn!r}")
        return self.pipeline._then(Sink("function", getattr(fn, "__name__", "function"), function=fn))

    @property
    def track(self) -> _Names:
        return _Names(self.pipeline, "track")

    @property
    def measure(self) -> _Names:
        return _Names(self.pipeline, "measure")

    @property
    def view(self) -> _Names:
        return _Names(self.pipeline, "view")

    def __getattr__(self, name: str) -> _Type:
        if name.startswith("_") or not name[:1].isupper():
            raise AttributeError(f"to has track, measure, view and entity types, not {name!r}")
        return _Type(self.pipeline, name)


@dataclass(frozen=True, slots=True)
class _Names:
    pipeline: Pipeline
    kind: str

    def __getattr__(self, name: str) -> Pipeline:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __getitem__(self, name: str) -> Pipeline:
        sink = Sink(self.kind, values.name(name, f"a {self.kind} sink"))
        made = self.pipeline._then(sink)
        return (
            _MeasureSink(**{f: getattr(made, f) for f in made.__dataclass_fields__})
            if self.kind == "measure"
            else made
        )


class _MeasureSink(Pipeline):
    """A pipeline that ends in a measure sink: call it to name the field."""

    __slots__ = ()

    def __call__(self, value: str) -> Pipeline:
        """Record this field. Raises InvalidQuery for anything but a name."""
        if not isinstance(value, str) or not value:
            raise InvalidQuery(f"to.measure.x(value=...) takes the name of a field, not {value!r}")
        if not isinstance(self.steps[-1], Sink) or self.steps[-1].kind != "measure":
            raise InvalidQuery(f"to.measure.x(value={value!r}) stands where the measure is named")
        sink = replace(self.steps[-1], field=value)
        return replace(self, steps=(*self.steps[:-1], sink))


@dataclass(frozen=True, slots=True)
class _Type:
    pipeline: Pipeline
    type: str

    def __call__(self, field: str) -> _Action:
        """The entity whose id stands in a field."""
        if not isinstance(field, str) or not field:
            raise InvalidQuery(f"to.{self.type}(...) takes the name of the field with the id, not {field!r}")
        return _Action(self.pipeline, self.type, field)


@dataclass(frozen=True, slots=True)
class _Action:
    pipeline: Pipeline
    type: str
    field: str

    def __getattr__(self, name: str) -> Pipeline:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.pipeline._then(Sink("action", name, field=self.field, type=self.type))
