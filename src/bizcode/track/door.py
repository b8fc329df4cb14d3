"""`biz.track`: a name of an event after it, and the questions about several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from .. import values
from ..errors import BizError, InvalidName, InvalidValue
from ..memory import without_collector
from ..plan.select import Select
from ..query import Lazy
from ..record import EVENT
from .cohort import CohortQuery, cohort
from .event import EventDoor, EventSelection
from .funnel import FunnelQuery, funnel
from .ratio import RatioQuery, ratio

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Track"]

_BATCH = frozenset(("event", "data", "at", "id", "user", "experiment", "variant"))


class Track:
    """What users do. `biz.track.Signup(user_id="u1")`, `biz.track["Checkout started"](...)`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._doors: dict[str, EventDoor] = {}

    def __getitem__(self, name: str) -> EventDoor:
        """The events of any name. Raises InvalidName for blank text or none."""
        door = self._doors.get(name) if isinstance(name, str) else None
        if door is None:
            name = values.name(name, "an event")
            door = EventDoor(store=self._store, name=name, select=Select(kind=EVENT, names=(name,)))
            self._doors[name] = door
        return door

    def __getattr__(self, name: str) -> EventDoor:
        if name.startswith("_"):
            raise AttributeError(name)
        door = self[name]
        self.__dict__[name] = door
        return door

    def __dir__(self) -> list[str]:
        known = [name for name in self.names().run() if name.isidentifier()]
        return sorted({*object.__dir__(self), *known})

    @property
    def any(self) -> EventSelection:
        """All events, of every name."""
        return EventSelection(store=self._store, select=Select(kind=EVENT))

    def batch(self, events: Iterable[Mapping[str, Any]]) -> list[Any]:
        """Record many events in one commit: all or none.

        Args:
            events: mappings with "event" (the name) and optionally "data", "at", "id", "user",
                "experiment", "variant".
        Returns:
            the stored Events, in order.
        Raises:
            InvalidValue, InvalidName, InvalidTime: names the place, `batch[3].data.amount`; nothing is stored.
        """
        writer = self._store.writer
        drafts, plains = [], []
        if isinstance(events, (str, bytes, Mapping)) or not isinstance(events, Iterable):
            raise InvalidValue("batch() takes a list of mappings like {'event': 'PageView', 'data': {...}}")
        known, now = self._doors, self._store.now()
        with without_collector():
            for n, item in enumerate(events):
                try:
                    if (
                        type(item) is dict
                        and len(item) == 2
                        and type(data := item.get("data")) is dict
                        and type(name := item.get("event")) is str
                        and name in known
                    ):
                        draft, plain = writer.plain_draft(EVENT, name, data, now)
                    else:
                        draft, plain = self._draft(writer, item)
                except BizError as error:
                    raise type(error)(f"batch[{n}]: {error}") from error
                drafts.append(draft)
                plains.append(plain)
            return writer.write_all(drafts, plains)

    def _draft(self, writer: Any, item: Any) -> Any:
        if type(item) is not dict and not isinstance(item, Mapping):
            raise InvalidValue(
                f"is {type(item).__name__}, not a mapping like {{'event': 'PageView', 'data': {{}}}}"
            )
        if not item.keys() <= _BATCH:
            unknown = sorted(map(str, item.keys() - _BATCH))[0]
            raise InvalidValue(f"unknown key {unknown!r}; known are {', '.join(sorted(_BATCH))}")
        if "event" not in item:
            raise InvalidName("has no 'event', the name of the event")
        name = item["event"]
        if not isinstance(name, str) or name not in self._doors:
            name = self[name].name
        data = item.get("data")
        data = {} if data is None else data
        if type(data) is not dict and not isinstance(data, Mapping):
            data = getattr(data, "data", data)
        if not isinstance(data, Mapping):
            raise InvalidValue(f"data is {type(data).__name__}, not a mapping of properties")
        if len(item) == 2 and "data" in item:
            return writer.draft(EVENT, name, data)
        options = {key: value for key, value in item.items() if key not in ("event", "data")}
        return writer.draft(EVENT, name, data, **options)

    def ratio(self, numerator: Any, denominator: Any) -> RatioQuery:
        """Count of one event by count of another; "PageView:/pricing" means where(path="/pricing").
        0.0 when the denominator is 0; `.unique()` by users."""
        return ratio(self._store, numerator, denominator)

    def funnel(self, steps: Any) -> FunnelQuery:
        """How far users get: a list of events' names or `biz.step(name)`. See FunnelQuery."""
        return funnel(self._store, steps)

    def cohort(
        self,
        anchor: Any,
        activity: Any,
        periods: int = 8,
        granularity: str = "week",
        min_count: int = 1,
        anchor_kind: str = "first",
    ) -> CohortQuery:
        """Who comes back: users by when they did the anchor, and their activity in the periods after it.
        See CohortQuery."""
        return cohort(self._store, anchor, activity, periods, granularity, min_count, anchor_kind)

    def names(self) -> Lazy[list[str]]:
        """The names of the events seen, in alphabetical order."""
        from ..query.schema import names

        return Lazy(lambda: names(self._store.engine, EVENT), "event", self._store.engine)

    def __repr__(self) -> str:
        return "biz.track"
