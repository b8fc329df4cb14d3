"""Who is in an experiment: a condition over what was given about a user and what is known."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..engine import rows
from ..plan.condition import Compare, Condition
from ..plan.fields import Field
from ..plan.select import Select
from ..record import EVENT, SYSTEM

if TYPE_CHECKING:
    from ..engine.engine import Session
    from ..store import Store

__all__ = ["Person", "ids_of", "known_properties", "matches"]

NEWEST = 2_000
"""So many of a user's newest events tell the properties that are known of her."""


class Person(Mapping[str, Any]):
    """A user as an audience sees her: the properties given, then the known ones, which are looked up only
    if something asks for a property that was not given. A missing attribute is None, a missing key KeyError."""

    __slots__ = ("_given", "_known", "_load", "missed", "user")

    def __init__(
        self, user: str, given: Mapping[str, Any], load: Callable[[], Mapping[str, Any]] | None = None
    ) -> None:
        self.user = user
        self.missed = False
        self._given = given
        self._load = load
        self._known: Mapping[str, Any] | None = None

    def _all(self) -> Mapping[str, Any]:
        if self._known is None:
            self._known = {} if self._load is None else self._load()
        return self._known

    def __getitem__(self, name: str) -> Any:
        if name in self._given:
            return self._given[name]
        if name == "user":
            return self.user
        known = self._all()
        if name not in known:
            self.missed = True
        return known[name]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError:
            return None

    def __contains__(self, name: object) -> bool:
        return name in self._given or name == "user" or name in self._all()

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)

    @property
    def data(self) -> dict[str, Any]:
        """Everything known, as a plain dict."""
        return {**self._all(), **self._given}


def matches(audience: Condition, person: Person) -> bool:
    """Whether a person is in the audience. A function that fails on a property that is missing
    (`u.created_at > "2024-01-01"` of a user without one) doesn't hold; other errors are the caller's."""
    try:
        return bool(audience.matches(person))
    except (TypeError, KeyError):
        if person.missed:
            return False
        raise


def known_properties(store: Store, user: str) -> dict[str, Any]:
    """What is known of a user: the properties given at earlier assignments, then those of the user's
    newest events, the newest value of each. Merged ids count as one user."""
    found: dict[str, Any] = {}
    with store.engine.session() as session:
        ids = ids_of(session, user) if session.view.merged else [user]
        mine = Compare(Field(("user",), own=True), "in", tuple(ids))
        for record in _newest(session, Select(kind=SYSTEM, names=("exposure",), where=mine)):
            for name, value in (record.data.get("properties") or {}).items():
                found.setdefault(name, value)
        for record in _newest(session, Select(kind=EVENT, where=mine)):
            for name, value in record.data.items():
                found.setdefault(name, value)
    return found


def ids_of(session: Session, user: str) -> list[str]:
    """All ids of the person who has this one."""
    return [
        alias
        for (alias,) in session.cursor.execute(
            f'WITH name AS (SELECT coalesce((SELECT "user" FROM {session.merges} WHERE alias = $1), $1) '
            f"AS name) SELECT name FROM name UNION SELECT alias FROM {session.merges}, name "
            f'WHERE "user" = name',
            [user],
        ).fetchall()
    ]


def _newest(session: Any, select: Select) -> Iterator[Any]:
    for chunk in rows.records(session, select, newest_first=True, limit=NEWEST):
        yield from chunk
