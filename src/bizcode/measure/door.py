"""`biz.measure`: a name of a metric after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import values
from ..plan.select import Select
from ..query import Lazy
from ..query.schema import names
from ..record import MEASURE
from .metric import MetricDoor
from .rollup import RollupInfo, infos

if TYPE_CHECKING:
    from ..store import Store

__all__ = ["Measure"]


class Measure:
    """How the business performs. `biz.measure.revenue(1000)`, `biz.measure["api.latency"](23)`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._doors: dict[str, MetricDoor] = {}

    def __getitem__(self, name: str) -> MetricDoor:
        """The metric of any name. Raises InvalidName for blank text or none."""
        door = self._doors.get(name) if isinstance(name, str) else None
        if door is None:
            name = values.name(name, "a metric")
            door = MetricDoor(store=self._store, name=name, select=Select(kind=MEASURE, names=(name,)))
            self._doors[name] = door
        return door

    def __getattr__(self, name: str) -> MetricDoor:
        if name.startswith("_"):
            raise AttributeError(name)
        door = self[name]
        self.__dict__[name] = door
        return door

    def __dir__(self) -> list[str]:
        known = [name for name in self.names().run() if name.isidentifier()]
        return sorted({*object.__dir__(self), *known})

    def names(self) -> Lazy[list[str]]:
        """The names of the metrics seen, in alphabetical order; those of which only a rollup is left too."""

        def run() -> list[str]:
            rolled = [info.metric for info in infos(self._store) if any(info.cells.values())]
            return sorted({*names(self._store.engine, MEASURE), *rolled})

        return Lazy(run, "metric", self._store.engine)

    def rollups(self) -> Lazy[list[RollupInfo]]:
        """Every rollup: what it keeps, how far it is."""
        return Lazy(lambda: infos(self._store), "rollups", self._store.engine)

    def __repr__(self) -> str:
        return "biz.measure"
