"""`biz.experiment`: is this working?"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import values, when
from ..errors import InvalidQuery, InvalidValue
from ..query import Lazy
from ..stats.power import users_for_rates
from ..writer import check_user, properties
from .audience import Person, known_properties, matches
from .book import Book, Entry, planned_end
from .definition import STATES, Definition, ExperimentInfo, define
from .exposure import activate, record_exposure
from .lifecycle import change, create
from .query import ResultsQuery
from .watch import Watch

if TYPE_CHECKING:
    from ..log import Transaction
    from ..store import Store
    from .results import Results

__all__ = ["Activation", "Experiment", "Experiments"]

_NO_OPTIONS: frozenset[str] = frozenset()


class Experiments:
    """Is this working? `biz.experiment.define("pricing", ...)`, `biz.experiment("pricing").assign("u1")`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.book = Book(store)
        self.notify: dict[str, Callable[[Results], Any]] = {}
        self._watch: Watch | None = None

    def __call__(self, name: str) -> Experiment:
        """An experiment by its name. What is asked of one that isn't defined raises NotFound."""
        return Experiment(self, values.name(name, "an experiment"))

    def define(
        self,
        name: str,
        variants: Any,
        *,
        weights: Any = None,
        goal: Any = None,
        audience: Any = None,
        duration: Any = None,
        min_sample_size: int | None = None,
        autostart: bool = False,
        direction: str = "increase",
        notify: Callable[[Results], Any] | None = None,
    ) -> Experiment:
        """Define an experiment, for good. The same definition again changes nothing, and gives a restarted
        program its functions back: functions are neither stored nor compared.

        Args:
            name: not blank; with the user's id it decides the variant.
            variants: two names or more, the control first.
            weights: a share greater than 0 for each variant, 1 in sum; equal shares where none are given.
            goal: what to improve: biz.track.ratio(...), or count, unique, sum, avg, median, percentile of
                biz.track.X or biz.measure.x. None: users are split, but nothing is compared.
            audience: who is in it: a function of a user, a mapping as in `where`, a `this` expression,
                over the properties given to `assign` and those known from the user's events.
            duration: "14d": it ends so long after its start.
            min_sample_size: users in each variant before it can be called (100 where none is given);
                without a duration it ends when there are so many.
            autostart: start at once.
            direction: "decrease" where less is better.
            notify: called with the Results when its own rule ends it.
        Raises:
            InvalidName, InvalidValue, InvalidTime, InvalidQuery: what can't be used, and what could.
            AlreadyExists: something else is defined under that name.
        """
        found = define(
            name, variants, weights, goal, audience, duration, min_sample_size, direction, self.store.tz
        )
        if not isinstance(autostart, bool):
            raise InvalidValue(f"autostart= is True or False, not {autostart!r}")
        if notify is not None and not callable(notify):
            raise InvalidValue(f"notify= takes a function of the Results, not {notify!r}")
        create(self.store, found, autostart)
        self.book.give(found)
        if notify is not None:
            self.notify[found.name] = notify
        if found.duration is not None or found.min_sample_size is not None:
            self._watched()
        return Experiment(self, found.name)

    def list(self, status: str | None = None) -> Lazy[list[ExperimentInfo]]:
        """The experiments, in the order in which they were defined.

        Args:
            status: only those that are draft, running, paused, stopped or graduated.
        """
        if status is not None and status not in STATES:
            raise InvalidValue(f"status= is one of {', '.join(STATES)}, not {status!r}")

        def run() -> list[ExperimentInfo]:
            entries = sorted(self.book.entries().values(), key=lambda entry: entry.state.number)
            found = [self._info(entry) for entry in entries]
            return [info for info in found if status is None or info.status == status]

        return Lazy(run, "experiments")

    def power(
        self,
        baseline: float,
        mde: float,
        alpha: float = 0.05,
        power: float = 0.8,
        *,
        relative: bool = False,
    ) -> int:
        """Users per variant that show a difference, by the normal approximation with pooled variance under
        the null.

        Args:
            baseline: the control's rate, between 0 and 1.
            mde: the smallest difference worth finding, absolute; relative to the baseline if `relative`.
            alpha: how often a difference is seen where there is none.
            power: how often one of that size is found.
        """
        return users_for_rates(baseline, mde, alpha, power, relative)

    def _info(self, entry: Entry) -> ExperimentInfo:
        definition, state = entry.definition, entry.now(self.store.now())
        goal, audience = definition.goal, definition.audience
        return ExperimentInfo(
            name=definition.name,
            status=state.status,
            variants=definition.variants,
            weights=definition.weights,
            goal="a query with a function" if definition.needs_goal else None if goal is None else goal.text,
            audience="a function"
            if definition.needs_audience
            else None
            if audience is None
            else str(audience),
            duration=None if definition.duration is None else str(definition.duration),
            min_sample_size=definition.min_sample_size,
            direction=definition.direction,
            defined=when.to_datetime(state.defined, self.store.tz),
            started=self._moment(state.started),
            ends=self._moment(planned_end(definition, state, self.store.tz)),
            ended=self._moment(state.ended),
            reason=state.reason,
            winner=state.winner,
        )

    def _moment(self, us: int | None) -> Any:
        return None if us is None else when.to_datetime(us, self.store.tz)

    def _watched(self) -> None:
        if self._watch is None:
            self._watch = Watch(self)
            self._watch.register()

    # who is in what

    def decide(self, entry: Entry, user: str, given: Mapping[str, Any], sticky: bool) -> str | None:
        """A user's variant now. `sticky`: who is known is in, whatever the given properties say."""
        state = entry.now(self.store.now())
        if state.status == "graduated":
            return state.winner
        if state.status not in ("running", "paused"):
            return None
        definition = entry.definition
        seen = self.book.seen(entry, user)
        if state.status == "paused" and not seen:
            return None
        known = bool(seen) and (sticky or not given)
        if not known and not self._in_audience(definition, user, given):
            return None
        variant = entry.assignment.variant(user)
        return variant if state.status == "running" or variant in seen else seen[0]

    def _in_audience(self, definition: Definition, user: str, given: Mapping[str, Any]) -> bool:
        if definition.audience is None:
            if definition.needs_audience:
                raise InvalidQuery(
                    f"the audience of experiment {definition.name!r} is a function, which isn't stored: define "
                    f"the experiment again in this process"
                )
            return True
        person = Person(user, given, lambda: known_properties(self.store, user))
        return matches(definition.audience, person)

    def expose(self, entry: Entry, user: str, variant: str, given: Mapping[str, Any]) -> None:
        """Log the exposure, unless it was or the experiment doesn't run (any more)."""
        store = self.store
        if variant in self.book.seen(entry, user) or entry.now(store.now()).status != "running":
            return
        name, now = entry.definition.name, store.now()
        unit = store.unit()
        if unit is not None:

            def keep(tx: Transaction) -> None:
                record_exposure(tx, name, user, variant, now, given)

            unit.before(keep)
            return
        with store.log.transaction() as tx:
            seen = record_exposure(tx, name, user, variant, now, given)
        self.book.remember(entry, user, seen)

    def attribute(
        self, experiment: str, variant: str | None, user: str | None, data: Mapping[str, Any]
    ) -> dict[str, str]:
        """What an event carries that was tracked with `experiment=`; the exposure is logged with the event."""
        entry = self.book.entry(values.name(experiment, "an experiment"))
        if variant is not None:
            check_variant(entry.definition, variant)
            return {experiment: variant}
        found = None if user is None else self.decide(entry, user, data, sticky=True)
        return {} if found is None else {experiment: found}

    def __repr__(self) -> str:
        return "biz.experiment"


def check_variant(definition: Definition, variant: Any) -> str:
    """Raises InvalidValue for what is no variant of the experiment."""
    if variant not in definition.variants:
        raise InvalidValue(
            f"experiment {definition.name!r} has no variant {variant!r}; it has {', '.join(definition.variants)}"
        )
    return variant


@dataclass(frozen=True, slots=True)
class Activation:
    """A user who was activated: `variant` is None if the experiment isn't for her, or doesn't run."""

    experiment: str
    user: str
    variant: str | None

    def run(self) -> str | None:
        """The variant."""
        return self.variant

    def __await__(self) -> Generator[Any, None, str | None]:
        return self.variant
        yield

    def __eq__(self, other: object) -> bool:
        if other is None or isinstance(other, str):
            return self.variant == other
        if not isinstance(other, Activation):
            return NotImplemented
        return (self.experiment, self.user, self.variant) == (other.experiment, other.user, other.variant)

    def __hash__(self) -> int:
        return hash(self.variant)

    def __bool__(self) -> bool:
        return self.variant is not None

    def __str__(self) -> str:
        return str(self.variant)


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment. Steps of its life act at once and return it."""

    _door: Experiments
    name: str

    def assign(self, user: Any, *given: Any, **properties_: Any) -> Lazy[str | None]:
        """The user's variant: the same in every process. None if the experiment doesn't run, is paused and
        the user is new, or the user isn't in its audience. The first assignment is logged as the exposure.

        Args:
            user: the user's id.
            given: one mapping of properties, or properties as keywords, for the audience and for results(by=).
        Raises:
            InvalidValue: a blank user, or properties that can't be stored. When run: NotFound.
        """
        user = check_user(user)
        data = self._plain("assign", given, properties_)
        return Lazy(lambda: self._assign(user, data), "variant")

    def _assign(self, user: str, data: Mapping[str, Any]) -> str | None:
        door = self._door
        entry = door.book.entry(self.name)
        variant = door.decide(entry, user, data, sticky=False)
        if variant is not None:
            door.expose(entry, user, variant, data)
        return variant

    def _plain(self, what: str, given: tuple[Any, ...], keywords: dict[str, Any]) -> Mapping[str, Any]:
        if not given and not keywords:
            return keywords
        data, _ = properties(what, given, keywords, _NO_OPTIONS)
        return values.encode(data, self._door.store.tz)[0]

    def activate(self, user: Any, *given: Any, **properties_: Any) -> Activation:
        """Assign a user, and let every later event of that user, tracked by any process, carry the variant
        as long as the experiment lasts.

        Args:
            user, given: as in `assign`.
        Returns:
            an Activation; its variant is None where `assign` would give None.
        """
        user = check_user(user)
        name, store = self.name, self._door.store
        variant = self._assign(user, self._plain("activate", given, properties_))
        if variant is not None:
            unit = store.unit()
            if unit is not None:
                unit.before(lambda tx: activate(tx, name, user, variant))
            else:
                with store.log.transaction() as tx:
                    activate(tx, name, user, variant)
        return Activation(name, user, variant)

    def start(self) -> Experiment:
        """Run it, from the draft or after a pause. Raises NotFound, Conflict."""
        return self._step("running")

    def pause(self) -> Experiment:
        """Take no new users; known ones keep their variant. Raises NotFound, Conflict."""
        return self._step("paused")

    def stop(self) -> Experiment:
        """End it: nobody is assigned any more, and what happens later doesn't count. Raises NotFound, Conflict."""
        return self._step("stopped")

    def graduate(self, variant: str) -> Experiment:
        """Give everyone this variant from now on. Raises NotFound, Conflict, InvalidValue: no such variant."""
        check_variant(self._door.book.entry(self.name).definition, variant)
        return self._step("graduated", variant)

    def _step(self, status: str, winner: str | None = None) -> Experiment:
        change(self._door.store, self.name, status, winner=winner)
        return self

    def info(self) -> Lazy[ExperimentInfo]:
        """Its definition and where it stands. When run: NotFound."""
        return Lazy(lambda: self._door._info(self._door.book.entry(self.name)), "experiment")

    def results(self, *, cuped: Any = False, by: Any = None, winsorize: float | None = None) -> ResultsQuery:
        """How it stands: users from their first exposure on, one variant each.

        Args:
            cuped: reduce the variance by the users' metric before exposure; "30d": only so long before it.
            by: a property: results for each of its values, as given at the assignment, else as the user's
                newest event before it had it.
            winsorize: 0.99: what is above the 99th percentile of the users' values counts as that.
        """
        return ResultsQuery.of(self._door, self.name, cuped, by, winsorize)

    def __await__(self) -> Generator[Any, None, Experiment]:
        return self
        yield

    def __repr__(self) -> str:
        return f"biz.experiment({self.name!r})"
