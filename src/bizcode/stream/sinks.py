"""Where results go. Writes join the batch's unit: they commit with the position and the state, exactly once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from .. import when
from ..consume.consumer import call
from ..errors import InvalidQuery
from ..plan.condition import is_number
from ..plan.fields import MISSING
from ..record import EVENT, MEASURE
from ..unit import current
from .element import Element, field_of, plain
from .steps import Aggregate, Buffer, Filter, Join, KeyBy, Sink, Throttle

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["Sinks", "value_field"]


def value_field(pipeline: Pipeline, sink: Sink) -> str | None:
    """The field that a measure sink records: the one named, or the only numeric aggregate. Raises InvalidQuery."""
    if sink.field is not None:
        return sink.field
    last = next((step for step in reversed(pipeline.steps) if isinstance(step, Aggregate)), None)
    if last is None:
        source = pipeline.source
        as_it_came = all(isinstance(step, (Filter, KeyBy, Throttle, Buffer, Sink)) for step in pipeline.steps)
        if as_it_came and not isinstance(source, Join) and MEASURE not in source.pattern.kinds:
            raise InvalidQuery(
                f"to.measure.{sink.name} must say which field it records: to.measure.{sink.name}(value='amount')"
            )
        return None
    numeric = [name for name, made in last.compute.items() if made.operation != "collect"]
    if len(numeric) == 1:
        return numeric[0]
    raise InvalidQuery(
        f"to.measure.{sink.name} must say which of {', '.join(numeric) or 'no'} aggregates it records: "
        f"to.measure.{sink.name}(value='...')"
    )


class Sinks:
    """Writes elements for one pipeline."""

    def __init__(self, pipeline: Pipeline, name: str | None, generation: int = 0) -> None:
        self._generation = generation
        self._pipeline = pipeline
        self._store = pipeline.store
        self._name = name or "stream"

    def write(self, sink: Sink, element: Element) -> None:
        """Write an element, in place of the ones that it corrects; of a withdrawn one only those go."""
        if element.withdrawn:
            self._withdraw(sink, element)
        elif sink.kind == "function":
            call(sink.function, element.value)  # type: ignore[arg-type]
        elif sink.kind == "track":
            self._record(sink, element, EVENT, self._event(element), None)
        elif sink.kind == "measure":
            self._measure(sink, element)
        elif sink.kind == "view":
            self._view(sink, element)
        else:
            self._action(sink, element)

    def _id(self, sink: Sink, mark: str, generation: int | None = None) -> str:
        number = self._generation if generation is None else generation
        name = f"{self._name}~{number}" if number else self._name
        return f"{name}/{sink.kind}.{sink.name}/{mark}"[-500:]

    def _record(self, sink: Sink, element: Element, kind: str, data: dict[str, Any], value: Any) -> None:
        unit = current(self._store.log)
        assert unit is not None
        writer = self._store.writer
        id = None
        if element.ids:
            id = self._id(sink, element.ids[0])
            self._begin_anew(sink, element.ids[0])
            for former in element.ids[1:]:
                self._retract(sink, former)
        draft, _ = writer.draft(kind, sink.name, data, at=when.to_datetime(element.time), id=id, value=value)
        unit.append(draft)

    def _begin_anew(self, sink: Sink, mark: str) -> None:
        """Take back what the window had given before the stream was begun anew."""
        place, _, last = mark.rpartition("|")
        if not last.isdigit():
            return
        for generation in range(self._generation):
            revision = 1
            while self._retracted(self._id(sink, f"{place}|{revision}", generation)):
                revision += 1

    def _withdraw(self, sink: Sink, element: Element) -> None:
        if sink.kind in ("track", "measure"):
            for former in element.ids[1:]:
                self._retract(sink, former)
        elif sink.kind == "view":
            unit = current(self._store.log)
            assert unit is not None
            unit.put(f"view:{sink.name}", _place(element), None)

    def take_back(self, sink: Sink, id: str) -> None:
        """Take back what was written of an element, also before the stream was begun anew."""
        for generation in range(self._generation + 1):
            self._retract(sink, id, generation)

    def _retract(self, sink: Sink, former: str, generation: int | None = None) -> None:
        """Take a result back, and the others that a flat_map made of it."""
        n = 0
        while self._retracted(self._id(sink, f"{former}.{n}" if n else former, generation)):
            n += 1

    def _retracted(self, id: str) -> bool:
        if self._store.log.position_of(id) is not None:
            self._pipeline.biz.retract(id)
            return True
        unit = current(self._store.log)
        assert unit is not None
        # Written in this very batch: it never leaves it.
        return unit.remove(id)

    def _event(self, element: Element) -> dict[str, Any]:
        return plain(element.value)

    def _measure(self, sink: Sink, element: Element) -> None:
        if is_number(element.value):
            value, tags = element.value, {}
        else:
            name = value_field(self._pipeline, sink)
            value = MISSING if name is None else field_of(element, name)
            if name is None:
                value = field_of(element, "value")
            if value is MISSING or value is None:
                if value is MISSING:
                    raise InvalidQuery(
                        f"to.measure.{sink.name} finds no number in {element.value!r}: name it by value="
                    )
                return
            tags = {}
        if element.names and element.key is not None:
            keys = element.key if isinstance(element.key, tuple) else (element.key,)
            tags = {name: key for name, key in zip(element.names, keys, strict=False) if key is not None}
        self._record(sink, element, MEASURE, tags, value)

    def _view(self, sink: Sink, element: Element) -> None:
        unit = current(self._store.log)
        assert unit is not None
        kept = orjson.dumps(plain(element.value), default=str)
        unit.put(f"view:{sink.name}", _place(element), kept)

    def _action(self, sink: Sink, element: Element) -> None:
        assert sink.type is not None
        assert sink.field is not None
        id = field_of(element, sink.field)
        if id is MISSING or id is None:
            raise InvalidQuery(
                f"to.{sink.type}({sink.field!r}).{sink.name}: the element has no {sink.field!r}"
            )
        handle = getattr(self._pipeline.biz, sink.type)(id)
        getattr(handle, sink.name)(element.value)


def _place(element: Element) -> str:
    key = element.key if isinstance(element.key, tuple) else (element.key,)
    return orjson.dumps(list(key), default=str).decode()
