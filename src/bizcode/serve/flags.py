"""Experiments as PostHog's feature flags: a flag is an experiment's name, its value the user's variant.

Asking for flags exposes nobody: SDKs ask for all of them at every page load, shown or not. They say which one was
shown by the event `$feature_flag_called`; that event carries the variant, and is the exposure, at its own time.
A person who was shown a variant keeps it when she signs in and her id changes: seen in two she would count in none.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ..errors import BizError
from ..experiment.audience import ids_of

if TYPE_CHECKING:
    from ..business import Business

__all__ = ["CALLED", "answer", "shown", "variants"]

logger = logging.getLogger("bizcode.serve")
CALLED = "$feature_flag_called"
_OFFERED = ("running", "paused", "graduated")


def variants(
    biz: Business, user: str, anonymous: str | None, given: Mapping[str, Any]
) -> tuple[dict[str, str | None], list[str]]:
    """(the user's variant in every experiment that is offered, the experiments that could not be asked).

    Args:
        anonymous: the id that the same person had before, if the client says so.
        given: what the client knows of the person, for audiences.
    """
    door, now = biz.experiment, biz.store.now()
    found: dict[str, str | None] = {}
    failed: list[str] = []
    others: list[str] | None = None
    for name, entry in list(door.book.entries().items()):
        status = entry.now(now).status
        if status not in _OFFERED:
            continue
        try:
            kept = None
            if status != "graduated":
                if others is None:
                    others = list(_ids(biz, user, anonymous))
                kept = next((seen[0] for id in others if (seen := door.book.seen(entry, id))), None)
            # What she was shown a moment ago may not have been told yet: the id she had then decides.
            found[name] = door.decide(entry, anonymous or user, given, sticky=True) if kept is None else kept
        except BizError as error:
            logger.warning("flag %s: %s", name, error)
            failed.append(name)
    return found, failed


def _ids(biz: Business, user: str, anonymous: str | None) -> Iterator[str]:
    """The user's ids, her own first."""
    yield user
    if anonymous is not None and anonymous != user:
        yield anonymous
    with biz.store.engine.session() as session:
        if session.view.merged:
            yield from (id for id in ids_of(session, user) if id not in (user, anonymous))


def shown(biz: Business, experiment: Any, variant: Any) -> dict[str, str] | None:
    """What `$feature_flag_called` carries; None where it isn't about a variant of an experiment."""
    entry = biz.experiment.book.entries().get(experiment) if isinstance(experiment, str) else None
    if entry is None or variant not in entry.definition.variants:
        return None
    return {experiment: variant}


def answer(
    found: Mapping[str, str | None], failed: list[str], version: str, wanted: Any = None
) -> dict[str, Any]:
    """The variants in the form that the SDK's version understands.

    Args:
        wanted: only flags of these names; all where it is no list.
    """
    if isinstance(wanted, list):
        found = {name: variant for name, variant in found.items() if name in wanted}
    said: dict[str, Any] = {"errorsWhileComputingFlags": bool(failed), "requestId": "0"}
    if not version.isdigit() or int(version) < 2 or version == "3":
        values = {name: False if variant is None else variant for name, variant in found.items()}
        return {"featureFlags": values, "featureFlagPayloads": {}, **said}
    return {"flags": {name: _flag(name, variant) for name, variant in found.items()}, **said}


def _flag(name: str, variant: str | None) -> dict[str, Any]:
    """One flag in full. `has_experiment` makes every call an event."""
    into = variant is not None
    return {
        "key": name,
        "enabled": into,
        "variant": variant,
        "reason": {
            "code": "condition_match" if into else "no_condition_match",
            "condition_index": 0 if into else None,
            "description": "Assigned by the experiment" if into else "Not in the experiment",
        },
        "metadata": {"id": 0, "version": 1, "payload": None, "description": None, "has_experiment": True},
    }
