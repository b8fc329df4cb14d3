"""`biz.stream`: where elements come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from .. import values
from ..consume import Pattern
from ..errors import InvalidName, InvalidValue
from ..on import pattern_of
from ..query import Lazy
from ..record import ENTITY, Record, Row
from .pipeline import Pipeline

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Source", "StreamInfo", "Streams"]


@dataclass(frozen=True, slots=True)
class Source:
    """Records by a dotted path: "Order.created", "track.Purchase", "*.created"."""

    text: str
    pattern: Pattern


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream's standing: how far it is, how far behind, and what went wrong."""

    name: str
    state: str
    position: int
    lag: int
    watermark: Any
    open: int
    late: int
    dead: int


@dataclass(frozen=True, slots=True)
class _Type:
    streams: Streams
    type: str

    def __getattr__(self, event: str) -> Pipeline:
        if event.startswith("_"):
            raise AttributeError(event)
        return self[event]

    def __getitem__(self, event: str) -> Pipeline:
        if not isinstance(event, str) or not event:
            raise InvalidName(f"a stream's source is named like biz.stream.Order.created, not {event!r}")
        return self.streams._pipeline((self.type, event))


class Streams:
    """`biz.stream.Order.created`, `biz.stream["*"].created`, `biz.stream.track.Purchase`, `biz.stream.measure.revenue`."""

    def __init__(self, store: Store, biz: Any, retract: Callable[[str], Any]) -> None:
        self._store = store
        self._biz = biz
        self.retract = retract

    def _pipeline(self, parts: tuple[str, str]) -> Pipeline:
        return Pipeline(self._store, self._biz, Source(".".join(parts), pattern_of(parts)))

    @property
    def from_(self) -> Streams:
        """The same, for those who like `biz.stream.from_.Order.created`."""
        return self

    def __getattr__(self, name: str) -> _Type:
        if name.startswith("_"):
            raise AttributeError(name)
        return _Type(self, name)

    def __getitem__(self, name: str) -> _Type:
        return _Type(self, name)

    def emit(
        self, type: str, data: Mapping[str, Any] | None = None, *, at: Any = None, id: Any = None
    ) -> Any:
        """Send an event of a type like "Order.created" without an entity of its own.

        Args:
            type: the type and the event, with a dot.
            data: its properties. at, id: as in track.
        Raises:
            InvalidName, InvalidValue, InvalidTime.
        """
        name = values.name(type, "an event")
        first, mark, second = name.partition(".")
        if not mark or not first or not second:
            raise InvalidName(f"emit() takes a type like 'Order.created', not {type!r}")
        found = data.data if isinstance(data, (Record, Row)) else {} if data is None else data
        if not isinstance(found, Mapping):
            raise InvalidValue(f"emit({type!r}, ...) takes a mapping of properties, not {data!r}")
        draft, plain = self._store.writer.draft(ENTITY, name, found, at=at, id=id)
        return self._store.writer.write(draft, plain)

    def list(self) -> Lazy[list[StreamInfo]]:
        """Every stream that was started: position, lag, watermark, open windows, late and dead counts."""
        return Lazy(self._list, "streams")

    def _list(self) -> list[StreamInfo]:
        from .. import when
        from ..consume.consumer import position_of

        store = self._store
        head = store.log.head()
        found = []
        for name, kept in store.log.scan("define:stream"):
            state = {key: orjson.loads(value) for key, value in store.log.scan(f"stream:{name}")}
            position = position_of(store, f"stream:{name}") or 0
            known = store.consumers.get(f"stream:{name}")
            if known is not None:
                position = max(position, known.position)  # written now and then only, where nothing was done
            marks = [value for key, value in state.items() if key.endswith("watermark")]
            counts = {
                what: sum(v for k, v in state.items() if k.endswith(f"count:{what}"))
                for what in ("late", "dead")
            }
            windows = sum(1 for key in state if "|" in key or "join:" in key)
            windows += len(state.get("spark", {}).get("ends", ()))  # Spark knows their keys
            found.append(
                StreamInfo(
                    name,
                    orjson.loads(kept)["state"],
                    position,
                    head - position,
                    when.to_datetime(min(marks)) if marks and min(marks) > -(2**61) else None,
                    windows,
                    counts["late"],
                    counts["dead"],
                )
            )
        return found

    def __repr__(self) -> str:
        return "biz.stream"
