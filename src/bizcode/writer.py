"""From what a user says to a stored fact: options, identity, encoding, commit."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import orjson

from . import values, when
from .awaited import AwaitedList
from .clock import Clock
from .errors import Conflict, InvalidValue, NotFound
from .log import Appended, Log, Transaction
from .record import SYSTEM, Draft, Record, Stored, make, record_of
from .unit import current

__all__ = ["IDENTITY", "Guard", "Writer", "properties"]

IDENTITY = (
    "user_id",
    "userId",
    "customer_id",
    "customerId",
    "distinct_id",
    "anonymous_id",
    "anonymousId",
)

Guard = Callable[[Transaction, Sequence[Draft]], Sequence[Draft]]
_OPTIONS = frozenset(("at", "id", "user", "experiment", "variant"))


def properties(
    what: str, given: tuple[Any, ...], keywords: dict[str, Any], options: frozenset[str] = _OPTIONS
) -> tuple[Mapping[str, Any], dict[str, Any]]:
    """Tell properties from options: keywords are properties, unless a mapping is given,
    which is the properties then, and keywords are options.

    Raises:
        InvalidValue: more than one positional argument, one that is no mapping, an unknown option.
    """
    if not given:
        return keywords, {}
    if len(given) > 1:
        raise InvalidValue(
            f"{what} takes one mapping of properties, {len(given)} positional arguments were given"
        )
    data: Any = given[0]  # type: ignore[misc]
    if isinstance(data, Record):
        data = data.data
    if not isinstance(data, Mapping):
        raise InvalidValue(
            f"{what} takes its properties as keywords or as one mapping, not as {type(data).__name__}"
        )
    unknown = keywords.keys() - options
    if unknown:
        raise InvalidValue(
            f"{what}: unknown option {sorted(unknown)[0]!r}; beside a mapping of properties "
            f"keywords are options: {', '.join(sorted(options))}"
        )
    return data, keywords


class Writer:
    """Drafts facts and commits them, at once or within the open `biz.do`."""

    def __init__(
        self,
        log: Log,
        clock: Clock,
        tz: ZoneInfo,
        identity: Sequence[str],
        buffered: bool,
        stored_at: Callable[[int], Stored | None],
    ) -> None:
        self.log = log
        self.clock = clock
        self.tz = tz
        self.identity = tuple(identity)
        self.buffered = buffered
        self.stored_at = stored_at
        self.guards: list[Guard] = []
        self.attribute: Callable[[str, str | None, str | None, Mapping[str, Any]], dict[str, str]] | None = (
            None
        )
        """Set by the experiments: (experiment, variant, user, properties) -> what the event carries."""
        self.arrivals: dict[tuple[str, str], int] = {}
        """When this process last wrote a record of a kind and name with a time of its own (`at=`)."""
        self.written: Callable[[int], None] = lambda count: None
        """Told after each commit how many records were written; the store's upkeep hangs here."""
        log.before_append = self._guard

    def _guard(self, tx: Transaction, drafts: Sequence[Draft]) -> Sequence[Draft]:
        for guard in self.guards:
            drafts = guard(tx, drafts)
        return drafts

    # drafts

    def user_of(self, data: Mapping[str, Any]) -> str | None:
        """The first identity property that is present and not blank, as text."""
        for name in self.identity:
            found = data.get(name)
            if found is not None and found != "" and not isinstance(found, (dict, list)):
                return found if type(found) is str else str(found)
        return None

    def draft(
        self,
        kind: str,
        name: str,
        data: Mapping[str, Any],
        *,
        at: Any = None,
        id: Any = None,
        user: Any = None,
        experiment: Any = None,
        variant: str | None = None,
        entity: str | None = None,
        value: int | float | None = None,
        expect: int | None = None,
    ) -> tuple[Draft, dict[str, Any]]:
        """A checked draft and its properties as a plain dict. Raises InvalidValue, InvalidTime, NotFound."""
        plain, text = values.encode(data, self.tz)
        time = now = self.clock.now()
        if at is not None:
            time = when.instant(at, self.tz)
            self.arrivals[kind, name] = now
        if id is not None:
            id = check_id(id)
        user = self.user_of(plain) if user is None else check_user(user)
        experiments = None
        if experiment is not None:
            experiments = self._experiments(experiment, variant, user, plain)
        elif variant is not None:
            raise InvalidValue("variant= says which variant of experiment=, which is missing")
        return Draft(kind, name, time, text, user, id, entity, value, experiments, expect), plain

    def plain_draft(
        self, kind: str, name: str, data: dict[str, Any], now: int
    ) -> tuple[Draft, dict[str, Any]]:
        """As `draft`, of properties alone and at a moment that is known: what most of a batch is."""
        plain, text = values.encode(data, self.tz)
        return Draft(kind, name, now, text, self.user_of(plain)), plain

    def _experiments(
        self, experiment: Any, variant: str | None, user: str | None, data: dict[str, Any]
    ) -> str | None:
        if self.attribute is None:
            raise NotFound(f"there is no experiment {experiment!r}")
        carried: dict[str, str] = {}
        for name in [experiment] if isinstance(experiment, str) else list(experiment):
            carried.update(self.attribute(name, variant, user, data))
        return orjson.dumps(carried).decode() if carried else None

    # commits

    def write(self, draft: Draft, data: dict[str, Any] | None = None) -> Any:
        """Commit one draft and return its record; inside `biz.do` it is committed at the end."""
        unit = current(self.log)
        if unit is not None:
            return self._write_in(unit, draft, data)
        if self.buffered and draft.entity is None:
            return self._write_later(draft, data)
        row = self.log.append((draft,))[0]
        if row[3]:
            return self._known(draft, data, row)
        self.written(1)
        return self._record(draft, data, row)

    def write_all(
        self, drafts: Sequence[Draft], data: Sequence[dict[str, Any] | None] | None = None
    ) -> AwaitedList[Any]:
        """All or none, in one transaction; the records in the same order."""
        if not drafts:
            return AwaitedList()
        given = data if data is not None else [None] * len(drafts)
        unit = current(self.log)
        if unit is not None:
            return AwaitedList(
                self._write_in(unit, draft, plain) for draft, plain in zip(drafts, given, strict=True)
            )
        rows = self.log.append(drafts)
        self.written(len(rows))
        return AwaitedList(
            self._known(draft, plain, row) if row[3] else self._record(draft, plain, row)
            for draft, plain, row in zip(drafts, given, rows, strict=True)
        )

    def system(
        self, name: str, data: Mapping[str, Any], tx: Transaction | None = None, **options: Any
    ) -> Any:
        """A fact about the business itself; in the caller's transaction if one is given."""
        draft, plain = self.draft(SYSTEM, name, data, **options)
        if tx is not None:
            return tx.append([draft])[0]
        return self.write(draft, plain)

    def record_at(self, position: int) -> Any:
        """The record of a position, wherever it lies."""
        stored = self.stored_at(position)
        if stored is None:
            raise NotFound(f"the record at position {position} was erased")
        return record_of(stored, self.log.store_id)

    def _known(self, draft: Draft, data: dict[str, Any] | None, row: Appended) -> Any:
        """The record stored under a draft's id; of one that retention has deleted since, what was given now."""
        stored = self.stored_at(row.position)
        return self._record(draft, data, row) if stored is None else record_of(stored, self.log.store_id)

    def _record(self, draft: Draft, data: dict[str, Any] | None, row: Appended) -> Any:
        position, version, experiments, _ = row
        kind, name, time, text, user, id, entity, value, _, _ = draft
        if id is None:
            id = f"{self.log.store_id}-{position}"
        if entity is not None:
            entity = entity[entity.index("/") + 1 :]
        return make(kind, name, time, data, text, position, id, user, entity, version, value, experiments)

    def _write_in(self, unit: Any, draft: Draft, data: dict[str, Any] | None) -> Any:
        if draft.id is None:
            draft = draft._replace(id=uuid.uuid4().hex)
        else:
            again = unit.record(draft.id)
            if again is not None:
                return again
            known = self.log.position_of(draft.id)
            if known is not None:
                return self._known(draft, data, Appended(known, None, draft.experiments, True))
        version = None
        if draft.entity is not None:
            version = unit.entity_version(draft.entity, hold=False) + 1
            if draft.expect is not None and draft.expect != version - 1:
                raise Conflict(
                    f"{draft.entity} is at version {version - 1}, not at the expected {draft.expect}"
                )
        record = self._record(draft, data, Appended(0, version, draft.experiments))
        object.__setattr__(record, "_position", None)
        unit.append(draft, partial(_settle, record), record)
        return record

    def _write_later(self, draft: Draft, data: dict[str, Any] | None) -> Any:
        if draft.id is None:
            draft = draft._replace(id=uuid.uuid4().hex)
        pending = self.log.append_later(draft)
        self.written(1)
        record = self._record(draft, data, Appended(0, None, draft.experiments))
        object.__setattr__(record, "_position", None)
        object.__setattr__(record, "_pending", lambda: (pending.result().position, draft.id))
        return record


def _settle(record: Any, row: Appended) -> None:
    object.__setattr__(record, "_position", row.position)
    if row.version is not None:
        object.__setattr__(record, "_version", row.version)
    if row.experiments is not None:
        object.__setattr__(record, "_experiments", row.experiments)


def check_id(id: Any) -> str:
    """An idempotency id is text that is not blank; numbers and UUIDs are taken as their text."""
    if isinstance(id, bool) or not isinstance(id, (str, int, uuid.UUID)):
        raise InvalidValue(f"id= must be text, not {type(id).__name__}")
    text = str(id)
    if not text.strip() or len(text) > 512:
        raise InvalidValue("id= must be text of 1 to 512 characters that is not blank")
    return text


def check_user(user: Any) -> str:
    """A user's id as text; blank or of another type raises InvalidValue."""
    if isinstance(user, bool) or not isinstance(user, (str, int, uuid.UUID)) or not str(user).strip():
        raise InvalidValue(f"a user's id must be text that is not blank, not {user!r}")
    return str(user)
