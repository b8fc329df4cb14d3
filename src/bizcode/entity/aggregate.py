"""How an entity's events become its state: reducers as a class or a mapping, schemas, upcasts."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Union

from .. import values
from ..errors import AlreadyExists, BizError, InvalidName, InvalidQuery, InvalidValue
from ..record import make
from .code import fingerprint

__all__ = ["Aggregate", "Aggregates", "ReducerError", "check_event"]

SNAPSHOTS = 100


class ReducerError(BizError):
    """A reducer raised; the message names the entity, the version and the event. The events are untouched."""


@dataclass(frozen=True, slots=True)
class Aggregate:
    """One type's definition. `cls` or `initial` and `reduce` say how events change the state."""

    name: str
    cls: type | None = None
    initial: Callable[[], Any] | None = None
    reduce: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)
    every: int = SNAPSHOTS
    schema: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    upcast: Mapping[str, Callable[[dict], dict]] = field(default_factory=dict)
    code: str = ""
    shared: Mapping[str, Any] = field(default_factory=dict)
    found: dict[str, Callable[[Any, Any], Any] | None] = field(default_factory=dict, compare=False)
    """Event type to its reducer, as looked up so far."""

    def start(self) -> Any:
        """A fresh initial state."""
        if self.cls is not None:
            state = self.cls()
            for name, value in self.shared.items():
                # A list of the class, not of the object: a reducer would change it for all.
                state.__dict__.setdefault(name, deepcopy(value))
            return state
        return self.initial() if self.initial is not None else {}

    def apply(self, state: Any, event: Any) -> Any:
        """The state after an event. Unknown events leave it alone. Raises ReducerError."""
        try:
            reducer = self.found[event.type]
        except KeyError:
            reducer = self.found[event.type] = self._reducer(event.type)
        if reducer is None:
            return state
        try:
            result = reducer(state, event)
        except Exception as error:
            raise ReducerError(
                f"the reducer of {event.type} failed on {self.name} {event.entity!r} at version {event.version} "
                f"(event {event.id}): {type(error).__name__}: {error}"
            ) from error
        if self.cls is not None:
            return result if isinstance(result, self.cls) else state
        return state if result is None else result

    def _reducer(self, type: str) -> Callable[[Any, Any], Any] | None:
        name = type.partition(".")[2]
        reducer: Callable[[Any, Any], Any] | None
        if self.cls is not None:
            found = None if name.startswith("_") else getattr(self.cls, name, None)
            reducer = found if isinstance(found, types.FunctionType) else None
        else:
            reducer = self.reduce.get(type)
        if reducer is None and name in ("incremented", "decremented"):
            reducer = partial(_counted, name)
        upcast = self.upcast.get(type)
        if reducer is None or upcast is None:
            return reducer
        given = reducer
        return lambda state, event: given(state, _upcasted(upcast, event))

    def check(self, event: str, data: Mapping[str, Any], entity: str) -> None:
        """Hold an event's properties to the schema. Raises InvalidValue naming entity, event and field."""
        for key, wanted in self.schema.get(event, {}).items():
            name, optional = (key[:-1], True) if key.endswith("?") else (key, False)
            if name not in data or data[name] is None:
                if optional:
                    continue
                raise InvalidValue(f"{event} of {self.name} {entity!r} needs the property {name!r}")
            if not _fits(data[name], wanted):
                raise InvalidValue(
                    f"{event} of {self.name} {entity!r}: {name} is {data[name]!r}, "
                    f"not {getattr(wanted, '__name__', wanted)}"
                )


def _fits(value: Any, wanted: Any) -> bool:
    if wanted is Any or wanted is object:
        return True
    if wanted is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if wanted is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if wanted is None or wanted is type(None):
        return value is None
    origin = getattr(wanted, "__origin__", wanted)
    if isinstance(wanted, types.UnionType) or origin is Union:
        return any(_fits(value, one) for one in wanted.__args__)
    if isinstance(origin, type) and issubclass(origin, (str, bool, list, dict)):
        return isinstance(value, origin)
    return True


def _upcasted(upcast: Callable[[dict], dict], event: Any) -> Any:
    data = upcast(deepcopy(event.data))
    if not isinstance(data, dict):
        raise InvalidValue(f"the upcast gave {type(data).__name__}, not the event's data as a dict")
    return make(
        "entity",
        event.type,
        event._time,
        data,
        None,
        event.position,
        event.id,
        event.user,
        event.entity,
        event.version,
    )


def _counted(name: str, state: Any, event: Any) -> Any:
    """The built-in events `incremented` and `decremented` on `quantity`."""
    if "by" not in event:
        return state
    step = event["by"] if name == "incremented" else -event["by"]
    if isinstance(state, Mapping):
        return {**state, "quantity": (state.get("quantity") or 0) + step}
    state.quantity = (getattr(state, "quantity", 0) or 0) + step
    return state


def check_event(type: str, event: Any) -> str:
    """The full name of an entity's event, from "created" or "Order.created". Raises InvalidName."""
    name = values.name(event, f"an event of {type}")
    if name.startswith(f"{type}."):
        name = name[len(type) + 1 :]
    if not name.strip() or "." in name:
        raise InvalidName(f"an event of {type} is named like 'created', not {event!r}")
    return f"{type}.{name}"


class Aggregates:
    """The definitions made in this process."""

    def __init__(self) -> None:
        self._known: dict[str, Aggregate] = {}

    def get(self, name: str) -> Aggregate | None:
        return self._known.get(name)

    def define(
        self,
        name: Any,
        initial: Callable[[], Any] | None = None,
        reduce: Mapping[str, Callable[[Any, Any], Any]] | None = None,
        snapshots: Mapping[str, int] | None = None,
        schema: Mapping[str, Mapping[str, Any]] | None = None,
        upcast: Mapping[str, Callable[[dict], dict]] | None = None,
        force: bool = False,
    ) -> Any:
        """Define how a type's events become its state: with `initial` or `reduce` at once, else as a class decorator.

        Args:
            name: the type, capitalised, like "Order".
            initial: gives a fresh initial state; default an empty dict.
            reduce: event ("Order.created" or "created") to a function of (state, event) giving the next state.
            snapshots: {"every": n}: a snapshot each n events; default 100. 0: none.
            schema: event to {"property": type, "optional?": type}; checked when appending.
            upcast: event to a function of its old data giving the present form.
            force: replace another definition of that name.
        Raises:
            AlreadyExists: another definition has that name. InvalidName, InvalidQuery.
        """
        if not isinstance(name, str) or not name.isidentifier() or not name[0].isupper():
            raise InvalidName(f"an aggregate is named like 'Order', capitalised, not {name!r}")
        every = SNAPSHOTS if snapshots is None else snapshots.get("every", SNAPSHOTS)
        if isinstance(every, bool) or not isinstance(every, int) or every < 0:
            raise InvalidQuery(f"snapshots={{'every': n}} takes a whole number of at least 0, not {every!r}")
        options = {
            "every": every,
            "schema": {check_event(name, key): dict(value) for key, value in (schema or {}).items()},
            "upcast": {check_event(name, key): value for key, value in (upcast or {}).items()},
        }
        if initial is None and reduce is None:
            return lambda cls: self._define_class(name, cls, options, force)
        found = {check_event(name, key): value for key, value in (reduce or {}).items()}
        for key, function in found.items():
            if not callable(function):
                raise InvalidQuery(f"the reducer of {key} is a function of (state, event), not {function!r}")
        start = initial if initial is None or callable(initial) else _constant(initial)
        code = fingerprint({"reduce": found, "initial": start, "upcast": options["upcast"]})
        self._put(Aggregate(name, None, start, found, code=code, **options), force)
        return None

    def _define_class(self, name: str, cls: Any, options: dict[str, Any], force: bool) -> Any:
        if not isinstance(cls, type):
            raise InvalidQuery(f"@biz.aggregate({name!r}) decorates a class, not {cls!r}")
        annotated = "__annotations__" in cls.__dict__ and "__init__" not in cls.__dict__
        try:
            if annotated and not dataclasses.is_dataclass(cls):
                cls = dataclass(cls)
            cls()
        except (TypeError, ValueError) as error:
            raise InvalidQuery(
                f"the aggregate {name!r} must be made without arguments for its initial state: {error}"
            ) from error
        bases = [base for base in cls.__mro__ if base.__module__ not in ("builtins", "typing", "abc")]
        fields = {
            f.name: (f.default, f.default_factory) for f in getattr(cls, "__dataclass_fields__", {}).values()
        }
        code = fingerprint(
            {"class": [vars(base) for base in bases], "fields": fields, "upcast": options["upcast"]}
        )
        shared = {
            key: value
            for base in reversed(bases)
            for key, value in vars(base).items()
            if not key.startswith("__") and key not in fields and isinstance(value, (list, dict, set))
        }
        self._put(Aggregate(name, cls, code=code, shared=shared, **options), force)
        return cls

    def _put(self, made: Aggregate, force: bool) -> None:
        known = self._known.get(made.name)
        if known is not None and not force and _shape(known) != _shape(made):
            raise AlreadyExists(
                f"the aggregate {made.name!r} is defined otherwise already: force=True replaces it"
            )
        self._known[made.name] = made


def _constant(value: Any) -> Callable[[], Any]:
    return lambda: deepcopy(value)


def _shape(aggregate: Aggregate) -> Any:
    """What makes two definitions the same; functions are not compared."""
    events: Any = sorted(aggregate.reduce)
    if aggregate.cls is not None:
        events = sorted(
            k for k, v in vars(aggregate.cls).items() if isinstance(v, types.FunctionType) and k[0] != "_"
        )
    return (aggregate.cls is None, events, aggregate.every, dict(aggregate.schema), sorted(aggregate.upcast))
