"""What every question can do: run, be awaited, be shown, be handed to a data frame."""

from __future__ import annotations

import asyncio
import contextvars
import shutil
import sys
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from ..errors import BizError, InvalidQuery

if TYPE_CHECKING:
    from ..engine import Engine
    from .present import Table

T = TypeVar("T")

__all__ = ["Lazy", "Query", "awaited"]


class Query(Generic[T]):
    """A question. Nothing happens until `run()` or `await`; modifiers return other questions."""

    __slots__ = ()

    def run(self) -> T:
        """The answer, from every write that returned before this call."""
        raise TypeError

    def sql(self) -> str:
        """The SQL that answers it, values in place of parameters shown as comments."""
        raise InvalidQuery(f"{type(self).__name__} is not answered by one SQL statement")

    @property
    def title(self) -> str:
        """What the answer is called where it is shown."""
        return "result"

    def __await__(self) -> Generator[Any, None, T]:
        return awaited(self._engine(), self.run).__await__()

    def _engine(self) -> Engine | None:
        return None

    def __iter__(self) -> Iterator[Any]:
        result = self.run()
        if isinstance(result, (str, bytes)) or not hasattr(result, "__iter__"):
            raise TypeError(f"the result is one {type(result).__name__}, not a list or mapping: call .run()")
        return iter(result)  # type: ignore[call-overload]

    def __len__(self) -> int:
        result = self.run()
        if isinstance(result, (str, bytes)) or not hasattr(result, "__len__"):
            raise TypeError(f"the result is one {type(result).__name__}, not a list or mapping: call .run()")
        return len(result)  # type: ignore[arg-type]

    def __bool__(self) -> bool:
        raise InvalidQuery("a query is not its answer: call .run() or await it first")

    def alert(self, **options: Any) -> Any:
        """Be told when a condition on the answer holds; see `bizcode.alert.define` for the options. Looked at when
        something was recorded, and each minute."""
        engine = self._engine()
        if engine is None or engine.alerted is None:
            raise InvalidQuery(f"an alert needs a query of numbers, not {type(self).__name__}")
        return engine.alerted(self, self.title, **options)

    @property
    def caption(self) -> str:
        """The question in words, above a chart of its answer."""
        return self.title

    @property
    def heads(self) -> tuple[str, ...]:
        """The names of the parts of the answer's keys, where it is a mapping."""
        return tuple(dimension.name for dimension in getattr(getattr(self, "plan", None), "by", ()))

    @property
    def zone(self) -> str:
        """The zone that instants are shown in."""
        engine = self._engine()
        return "UTC" if engine is None else str(engine.tz)

    def table(self) -> Table:
        """The answer as a table of names and rows."""
        from .present import to_table

        return to_table(self.run(), self.title, self.heads, self.zone)

    def df(self) -> Any:
        """The answer as a pandas DataFrame. Needs `pip install bizcode[pandas]`."""
        from .present import frame_pandas

        return frame_pandas(self.table())

    def pl(self) -> Any:
        """The answer as a polars DataFrame. Needs `pip install bizcode[polars]`."""
        from .present import frame_polars

        return frame_polars(self.table())

    def arrow(self) -> Any:
        """The answer as a pyarrow Table."""
        from .present import arrow_table

        return arrow_table(self.table())

    def plot(self) -> Any:
        """The answer as a chart that shows in a notebook and saves to PNG, SVG, PDF or HTML.
        Needs `pip install bizcode[plot]`."""
        from .plot import plot

        return plot(self._outline(), self.caption, self.heads)

    def _outline(self) -> Any:
        """What is drawn: the answer, or more than it where the answer alone says too little."""
        return self.run()

    def _looked_at(self) -> Table:
        """What `repr` and notebooks show."""
        from .present import view

        return view(self.run(), self.title, self.heads, self.zone)

    def shown(self) -> str:
        """The answer as text for a terminal: what a REPL shows, and `bizcode query` prints."""
        from .text import text_table

        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        return text_table(self._looked_at(), width)

    def __repr__(self) -> str:
        try:
            return self.shown()
        except BizError as error:
            return f"{type(self).__name__}: {error}"

    def _repr_html_(self) -> str:
        from .notebook import html_table

        return html_table(self._looked_at())


async def awaited(engine: Engine | None, function: Callable[[], T]) -> T:
    """Run on the library's own threads, within the caller's context; cancelling interrupts the query."""
    context = contextvars.copy_context()
    loop = asyncio.get_running_loop()
    if engine is None:
        return await loop.run_in_executor(None, context.run, function)
    from ..engine.engine import Interrupt

    interrupt = Interrupt()
    context.run(interrupt.enter)
    future = loop.run_in_executor(engine.pool, context.run, function)
    try:
        return await future
    except asyncio.CancelledError:
        interrupt.fire()
        raise


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Lazy(Query[T]):
    """A question answered by a function: `Lazy(lambda: 42).run()` is 42.

    Args:
        function: gives the answer; called each time the question is run.
        name: what the answer is called where it is shown.
    """

    function: Callable[[], T]
    name: str = "result"
    engine: Any = None

    @property
    def title(self) -> str:
        return self.name

    def run(self) -> T:
        return self.function()

    def _engine(self) -> Engine | None:
        return self.engine

    def shown(self) -> str:
        result = self.run()
        return result if isinstance(result, str) else Query.shown(self)

    def __str__(self) -> str:
        return self.shown()

    def __getitem__(self, key: Any) -> Any:
        result = self.run()
        if isinstance(result, (Mapping, list)):
            return result[key]
        raise TypeError(f"the result is one {type(result).__name__}, not a list or mapping: call .run()")
