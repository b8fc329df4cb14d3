"""Tell a subscriber what changed in a view. State space "view-again": what someone asked to tell once more."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import orjson

from ..consume.consumer import RETRIES, call
from ..consume.dead import bury
from ..errors import StorageError
from ..plan.condition import Condition
from ..record import Row
from ..unit import UnitOfWork
from .order import key_of, key_order
from .table import same

if TYPE_CHECKING:
    from .door import Views

__all__ = ["Changes", "ViewChange"]


@dataclass(frozen=True, slots=True)
class ViewChange:
    """One row's change: kind "insert", "update" or "delete"; `before` or `after` is None where there is none."""

    kind: str
    key: Any
    before: Row | None
    after: Row | None


class Changes:
    """Tells a subscriber what changed since it was told last: looked at when the log or the clock has moved.

    What a function writes commits with the call. Changes that it can't take are a dead letter, and the others go on.

    Args:
        tell: the functions by what they are told: "fn", "on_insert", "on_update", "on_delete".
    """

    def __init__(
        self,
        views: Views,
        view: str,
        name: str,
        condition: Condition,
        tell: Mapping[str, Callable[..., Any]],
        initial: bool,
    ) -> None:
        self.name = name
        self._views = views
        self._view = view
        self._condition = condition
        self._tell = tell
        self._watch = views._table(view).watch(told=initial)
        self._looked = (-1, -1) if initial else self._moment()

    def _moment(self) -> tuple[int, int]:
        store = self._views._store
        return store.log.head(), store.now() if self._views._table(self._view).timed else 0

    def due(self) -> int | None:
        store = self._views._store
        if not self._views._stands(self._view):
            return None
        head, now = self._moment()
        defined_otherwise = self._views._table(self._view) is not self._watch.table
        if head != self._looked[0] or defined_otherwise or self._again():
            return store.now()
        if now and now != self._looked[1]:
            return max(self._looked[1] + 1, min(now, self._looked[1] + 1_000_000))
        return None

    def _again(self) -> list[str]:
        return [
            key for key in self._views._store.log.cached("view-again") if key.startswith(f"{self.name}\0")
        ]

    def tick(self, now: int) -> None:
        log = self._views._store.log
        for key in self._again():
            kept = orjson.loads(log.get("view-again", key) or b"[]")
            self._give([_revived(one) for one in kept], key)
        self._looked = self._moment()
        try:
            changes = [
                ViewChange(
                    "insert" if before is None else "delete" if after is None else "update",
                    key,
                    before,
                    after,
                )
                for key, before, after in self._changed()
            ]
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - a function of the view's; other work goes on
            with log.transaction() as tx:
                told, retry = {"view": self._view}, ("view-look", self.name, None)
                bury(tx, self.name, None, error, 1, now, told, "look", retry)
            return
        for batch in [changes] if "fn" in self._tell else [[change] for change in changes]:
            if batch:
                self._give(batch)

    def _changed(self) -> Iterator[tuple[Any, Row | None, Row | None]]:
        """(key, before, after) of the rows that changed, of those that meet the condition."""
        table = self._views._table(self._view)
        if self._watch.table is table:
            found = self._watch.changes()
        else:
            # It was defined otherwise.
            former = self._watch.rows()
            self._watch = table.watch(told=True)
            found = [(place, former.pop(place, None), after) for place, _, after in self._watch.changes()]
            found += [(place, before, None) for place, before in former.items()]
        for place, before, after in sorted(found, key=lambda change: key_order(change[0])):
            before = before if before is not None and self._condition.matches(before) else None
            after = after if after is not None and self._condition.matches(after) else None
            if (before is None and after is None) or (
                before is not None and after is not None and same(before, after)
            ):
                continue
            key = key_of(place)
            yield key[0] if len(key) == 1 else key, before, after

    def _give(self, changes: list[ViewChange], again: str | None = None) -> None:
        """Call what these changes are for, with what it writes in one transaction."""
        store = self._views._store
        error: Exception | None = None
        for _ in range(RETRIES + 1):
            unit = UnitOfWork(store.log)
            token = unit.enter()
            try:
                self._call(changes)
            except Exception as raised:  # noqa: BLE001 - whatever a user's function raises
                error = raised
                unit.discard()
                continue
            except BaseException:
                unit.discard()
                raise
            finally:
                unit.leave(token)
            if again is not None:
                unit.put("view-again", again, None)
            unit.commit()
            return
        assert error is not None
        with store.log.transaction() as tx:
            if again is not None:
                tx.delete("view-again", again)
            told = [asdict(change) for change in changes]
            key = uuid.uuid4().hex[:12]
            retry = ("view-again", f"{self.name}\0{key}", told)
            bury(tx, self.name, None, error, RETRIES + 1, store.now(), told, key, retry)

    def _call(self, changes: list[ViewChange]) -> None:
        fn = self._tell.get("fn")
        if fn is not None:
            call(fn, changes)
        for change in changes:
            function = self._tell.get(f"on_{change.kind}")
            if function is not None:
                told = (change.before, change.after)
                call(function, *(row for row in told if row is not None))


def _revived(kept: dict[str, Any]) -> ViewChange:
    """A change of a dead letter, with its key and rows as they were before JSON."""
    key = tuple(kept["key"]) if isinstance(kept["key"], list) else kept["key"]
    before, after = (None if row is None else Row(row) for row in (kept["before"], kept["after"]))
    return ViewChange(kept["kind"], key, before, after)
