"""How an entity's events become its state: reducers as a class or a mapping, schemas, upcasts."""

from __future__ import annotations

import dataclasses
import hashlib
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import values
from ..errors import AlreadyExists, BizError, InvalidName, InvalidQuery, InvalidValue
from ..record import make

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

    def start(self) -> Any:
        """A fresh initial state."""
        if self.cls is not None:
            return self.cls()
        return self.initial() if self.initial is not None else {}

    def apply(self, state: Any, event: Any) -> Any:
        """The state after an event. Unknown events leave it alone. Raises ReducerError."""
        name = event.type.partition(".")[2]
        reducer = self._reducer(name)
        if reducer is None:
            if name in ("incremented", "decremented"):
                return _counted(state, name, event)
            return state
        try:
            result = reducer(state, self._upcasted(event))
        except Exception as error:
            raise ReducerError(
                f"the reducer of {event.type} failed on {self.name} {event.entity!r} at version {event.version} "
                f"(event {event.id}): {type(error).__name__}: {error}"
            ) from error
        if self.cls is not None:
            return result if isinstance(result, self.cls) else state
        return state if result is None else result

    def _reducer(self, name: str) -> Callable[[Any, Any], Any] | None:
        if self.cls is not None:
            found = None if name.startswith("_") else getattr(self.cls, name, None)
            return found if isinstance(found, types.FunctionType) else None
        return self.reduce.get(f"{self.name}.{name}")

    def _upcasted(self, event: Any) -> Any:
        upcast = self.upcast.get(event.type)
        if upcast is None:
            return event
        data = upcast(dict(event.data))
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
    origin = getattr(wanted, "__origin__", wanted)
    if isinstance(wanted, types.UnionType):
        return any(_fits(value, one) for one in wanted.__args__)
    if isinstance(origin, type) and issubclass(origin, (str, bool, list, dict)):
        return isinstance(value, origin)
    return True


def _counted(state: Any, name: str, event: Any) -> Any:
    """The built-in events `incremented` and `decremented` on `quantity`."""
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


def _code(functions: Mapping[str, Any]) -> str:
    digest = hashlib.blake2b(digest_size=12)

    def feed(value: Any) -> None:
        if isinstance(value, types.CodeType):
            digest.update(value.co_code)
            for part in (value.co_names, value.co_consts, value.co_varnames):
                for item in part:
                    feed(item)
        elif isinstance(value, types.FunctionType):
            feed(value.__code__)
            for item in (*(value.__defaults__ or ()), *(c.cell_contents for c in value.__closure__ or ())):
                feed(
                    item if isinstance(item, (types.FunctionType, str, int, float, bool, type(None))) else ""
                )
        else:
            digest.update(repr(value).encode())

    for name in sorted(functions):
        digest.update(name.encode())
        feed(functions[name])
    return digest.hexdigest()


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
        code = _code({**found, "initial": start, **options["upcast"]})
        self._put(Aggregate(name, None, start, found, code=code, **options), force)
        return None

    def _define_class(self, name: str, cls: Any, options: dict[str, Any], force: bool) -> Any:
        if not isinstance(cls, type):
            raise InvalidQuery(f"@biz.aggregate({name!r}) decorates a class, not {cls!r}")
        annotated = "__annotations__" in cls.__dict__ and "__init__" not in cls.__dict__
        if annotated and not dataclasses.is_dataclass(cls):
            cls = dataclass(cls)
        methods = {key: value for key, value in vars(cls).items() if isinstance(value, types.FunctionType)}
        fields = (
            {f.name: repr(f.default) for f in dataclasses.fields(cls)}
            if dataclasses.is_dataclass(cls)
            else {}
        )
        code = _code({**methods, **options["upcast"], "fields": repr(fields)})
        self._put(Aggregate(name, cls, code=code, **options), force)
        return cls

    def _put(self, made: Aggregate, force: bool) -> None:
        known = self._known.get(made.name)
        if known is not None and not force and _shape(known) != _shape(made):
            raise AlreadyExists(
                f"the aggregate {made.name!r} is defined otherwise already: force=True replaces it"
            )
        self._known[made.name] = made


def _constant(value: Any) -> Callable[[], Any]:
    from copy import deepcopy

    return lambda: deepcopy(value)


def _shape(aggregate: Aggregate) -> Any:
    """What makes two definitions the same; functions are not compared."""
    events: Any = sorted(aggregate.reduce)
    if aggregate.cls is not None:
        events = sorted(
            k for k, v in vars(aggregate.cls).items() if isinstance(v, types.FunctionType) and k[0] != "_"
        )
    return (aggregate.cls is None, events, aggregate.every, dict(aggregate.schema), sorted(aggregate.upcast))
