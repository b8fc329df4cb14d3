"""What each kind of step does with an element."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..consume.consumer import call
from ..plan import predicates
from ..plan.fields import Field, read
from .element import MISSING, Element, key_field, key_text
from .letters import Trial
from .steps import Enrich, Filter, FlatMap, KeyBy, Map, Sink, Throttle

if TYPE_CHECKING:
    from .runtime import Runtime

__all__ = ["Run", "stage"]

Run = Callable[[Element], Iterable[Element]]


def stage(runtime: Runtime, step: Any, n: int) -> Run:
    """A step that keeps no windows, as a function of an element."""
    if isinstance(step, Sink):
        return _sink(runtime, step, n)
    if isinstance(step, KeyBy):
        return _keyed(runtime, step, n)
    run = _plain(runtime, step, n)
    return lambda element: (element,) if element.withdrawn else run(element)


def _plain(runtime: Runtime, step: Any, n: int) -> Run:
    trial = Trial("step", n)
    if isinstance(step, Filter):
        matches = step.condition.matches
        if predicates.split(step.condition)[1] is None:
            return lambda e: (e,) if matches(e.value) else ()
        return lambda e: (e,) if runtime.attempt(lambda: bool(matches(e.value)), e, trial) else ()
    if isinstance(step, Map):
        function = step.function

        def mapped(element: Element) -> Iterable[Element]:
            value = runtime.attempt(lambda: call(function, element.value), element, trial)
            return () if value is None else (element.with_value(value),)

        return mapped
    if isinstance(step, FlatMap):
        many = step.function

        def each(element: Element) -> Iterable[Element]:
            values = runtime.attempt(lambda: list(call(many, element.value) or ()), element, trial)
            found = [element.with_value(value) for value in values or ()]
            if element.ids:
                # Each is a result of its own; the first takes the place of all that there were.
                id = element.ids[0]
                found[1:] = [replace(e, ids=(f"{id}.{n}",)) for n, e in enumerate(found[1:], 1)]
            return found

        return each
    if isinstance(step, Enrich):
        more, biz = step.function, runtime.pipeline.biz

        def enriched(element: Element) -> Iterable[Element]:
            found = runtime.attempt(lambda: (call(more, element.value, biz),), element, trial)
            if found is None:
                return ()
            return (element,) if found[0] is None else (element.with_value(found[0]),)

        return enriched
    if isinstance(step, Throttle):
        return lambda e: (e,) if _passes(runtime, step, e, n) else ()
    return lambda e: (e,)


def _sink(runtime: Runtime, step: Sink, n: int) -> Run:
    if runtime.sinks is None:
        return lambda element: (element,)
    write, trial = runtime.sinks.write, Trial("sink", n)

    def into(element: Element) -> Iterable[Element]:
        runtime.attempt(lambda: write(step, element), element, trial)
        return (element,)

    return into


def _keyed(runtime: Runtime, step: KeyBy, n: int) -> Run:
    names = step.names
    parts = [key_field(part) if isinstance(part, str) else part for part in step.parts]
    declarative = all(isinstance(part, Field) for part in parts)

    def one(part: Any, element: Element) -> Any:
        if not isinstance(part, Field):
            value = call(part, element.value)
        else:
            value = read(element.value, part)
            if value is MISSING or value is None:
                runtime.count("unknown")
                return None
        return int(value) if type(value) is float and value.is_integer() and abs(value) < 2**63 else value

    def keyed(element: Element) -> Iterable[Element]:
        if element.withdrawn:
            return (element,)
        found = (
            [one(part, element) for part in parts]
            if declarative
            else runtime.attempt(lambda: [one(part, element) for part in parts], element, Trial("step", n))
        )
        if found is None:
            return ()
        key = found[0] if len(found) == 1 else tuple(found)
        e = element
        return (Element(e.value, e.time, e.order, e.origin, key, names, e.ids),)

    return keyed


def _passes(runtime: Runtime, step: Throttle, element: Element, n: int) -> bool:
    place = f"{runtime.prefix}throttle{n}:{key_text(element.key)}"
    last = runtime.state.get(place)
    if last is not None and element.time < last + step.micros:
        return len(element.ids) > 1 and element.time == last  # it corrects the one that passed
    runtime.state.put(place, element.time)
    return True
