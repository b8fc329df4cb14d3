"""From sufficient statistics to a verdict that a statistician would sign and a founder understands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from ..stats.compare import holm, mismatch, two_sided
from ..stats.intervals import relative
from ..stats.power import users_between_rates, users_for_means
from .contrast import contrast, with_cuped
from .definition import Definition
from .results import Results, VariantResult
from .scan import Arm

__all__ = ["compare", "judge"]

ALPHA = 0.05
MISMATCH = 0.001
ENOUGH = 100
"""Users in each variant before a result can be called, where the definition names no number."""

NOVELTY = 0.01


def compare(definition: Definition, arms: Mapping[str, Arm], *, cuped: bool) -> dict[str, VariantResult]:
    """Each variant's numbers, and its difference to the control; p-values are corrected over the variants."""
    goal = definition.goal
    proportion = goal is not None and goal.proportion
    found: dict[str, VariantResult] = {}
    for name in definition.variants:
        arm = arms.get(name)
        if arm is None:
            found[name] = VariantResult(users=0, conversions=0)
        elif goal is None:
            found[name] = VariantResult(users=arm.users, conversions=0)
        elif proportion:
            found[name] = VariantResult(
                users=arm.users, conversions=arm.did, rate=arm.did / arm.users if arm.users else None
            )
        else:
            deviation = None if arm.variance is None else math.sqrt(arm.variance)
            found[name] = VariantResult(users=arm.users, conversions=arm.did, mean=arm.mean, stddev=deviation)
    if goal is None:
        return found
    adjusted = with_cuped(arms) if cuped else dict(arms)
    control = adjusted.get(definition.variants[0])
    raw: dict[str, tuple[float, float]] = {}
    for name in definition.variants[1:]:
        arm = adjusted.get(name)
        if control is None or arm is None:
            continue
        difference = contrast(
            control,
            arm,
            proportion=proportion and not cuped,
            percentile=goal.kind == "percentile",
            decrease=definition.direction == "decrease",
        )
        if difference is None:
            continue
        raw[name] = difference.p_value, difference.p_sequential
        found[name] = replace(
            found[name],
            lift=difference.lift,
            lift_ci=difference.lift_ci,
            chance_to_beat=difference.chance_to_beat,
        )
    # The family is all the variants of the definition: a variant without data yet doesn't make the others better.
    family = len(definition.variants) - 1
    for field, at in (("p_value", 0), ("p_sequential", 1)):
        values = [p[at] for p in raw.values()]
        corrected = holm([*values, *[1.0] * (family - len(values))])
        for name, p in zip(raw, corrected, strict=False):
            found[name] = replace(found[name], **{field: p})
    return found


def judge(
    definition: Definition,
    status: str,
    arms: Mapping[tuple[str, bool | None], Arm],
    days: float,
    reached: bool,
    excluded: int,
    cuped: bool,
) -> Results:
    """The whole verdict.

    Args:
        arms: of (variant, None) all users, of (variant, False) and (variant, True) those exposed in the
            first and in the second half.
        reached: the planned end is reached.
        excluded: users seen in two variants.
    """
    whole = {variant: arm for (variant, half), arm in arms.items() if half is None}
    variants = compare(definition, whole, cuped=cuped)
    observed = [variants[name].users for name in definition.variants]
    srm = mismatch(observed, definition.weights)
    needed = definition.min_sample_size or ENOUGH
    enough = min(observed) >= needed
    honest = srm is None or srm >= MISMATCH

    def significant(name: str) -> bool:
        found = variants[name]
        sequential = found.p_sequential is not None and found.p_sequential < ALPHA
        return sequential or (reached and found.p_value is not None and found.p_value < ALPHA)

    others = definition.variants[1:]
    decided = [name for name in others if significant(name)]
    can_call = enough and honest and bool(decided)
    sign = -1 if definition.direction == "decrease" else 1
    leader = max(
        (name for name in others if _difference(variants, definition, name) is not None),
        key=lambda name: sign * (_difference(variants, definition, name) or 0.0),
        default=None,
    )
    winner = None
    if can_call:
        better = [name for name in decided if sign * (_difference(variants, definition, name) or 0.0) > 0]
        winner = max(
            better, key=lambda name: sign * (_difference(variants, definition, name) or 0.0), default=None
        )
    shown = winner or leader
    p = variants[shown].p_value if shown is not None else None
    return Results(
        name=definition.name,
        goal=None if definition.goal is None else definition.goal.text,
        status=status,
        variants=variants,
        winner=winner,
        confidence=None if p is None else 1 - p,
        can_call=can_call,
        srm_p_value=srm,
        days=days,
        needed_sample_size=_needed(definition, whole, shown),
        warnings=_warnings(definition, status, variants, srm, needed, excluded, arms, reached),
        excluded=excluded,
    )


def _difference(variants: dict[str, VariantResult], definition: Definition, name: str) -> float | None:
    """A variant's difference to the control, relative where that can be told."""
    found, control = variants[name], variants[definition.variants[0]]
    if found.lift is not None:
        return found.lift
    if found.value is None or control.value is None:
        return None
    return found.value - control.value


def _needed(definition: Definition, arms: Mapping[str, Arm], name: str | None) -> int | None:
    control = arms.get(definition.variants[0])
    arm = None if name is None else arms.get(name)
    goal = definition.goal
    if goal is None or control is None or arm is None or control.mean is None or arm.mean is None:
        return None
    if goal.proportion:
        if not 0 < control.mean < 1 or arm.mean == control.mean:
            return None
        return users_between_rates(control.mean, arm.mean)
    if control.variance is None or arm.variance is None or arm.mean == control.mean:
        return None
    return users_for_means(control.variance, arm.variance, arm.mean - control.mean)


def _warnings(
    definition: Definition,
    status: str,
    variants: dict[str, VariantResult],
    srm: float | None,
    needed: int,
    excluded: int,
    arms: Mapping[tuple[str, bool | None], Arm],
    reached: bool,
) -> list[str]:
    found: list[str] = []
    if status == "draft":
        found.append("It hasn't been started: nobody is assigned yet.")
    if definition.goal is None:
        found.append("It has no goal, so the variants can't be compared: define one with goal=.")
    total = sum(variant.users for variant in variants.values())
    if not total:
        if status != "draft":
            found.append("Nobody has been exposed yet, so there is nothing to compare.")
    else:
        short = [f"{name} has {v.users:,}" for name, v in variants.items() if v.users < needed]
        if short:
            found.append(
                f"Too few users: {', '.join(short)}; each variant needs {needed:,} before it can be called."
            )
        if definition.goal is not None and not any(v.conversions for v in variants.values()):
            found.append("Nobody has done what the goal is about yet.")
    if srm is not None and srm < MISMATCH:
        shares = ", ".join(
            f"{name} {v.users / total:.1%} instead of {weight:.1%}"
            for (name, v), weight in zip(variants.items(), definition.weights, strict=True)
        )
        found.append(
            f"The split of users is not the planned one ({shares}): something decides who is counted, "
            f"so don't trust the differences before that is found."
        )
    if excluded:
        users = "1 user was" if excluded == 1 else f"{excluded:,} users were"
        found.append(f"{users} seen in two variants and left out.")
    found += _novelty(definition, arms)
    return found


def _novelty(definition: Definition, arms: Mapping[tuple[str, bool | None], Arm]) -> list[str]:
    """Whether the lift among the users exposed first differs from the lift among the later ones."""
    found = []
    control = definition.variants[0]
    for name in definition.variants[1:]:
        halves = [(arms.get((control, late)), arms.get((name, late))) for late in (False, True)]
        first, second = (
            None
            if a is None or b is None or min(a.n, b.n) < ENOUGH
            else relative(a.mean, a.error, b.mean, b.error)
            for a, b in halves
        )
        if first is None or second is None:
            continue
        (early, early_error), (late, late_error) = first, second
        error = math.sqrt(early_error**2 + late_error**2)
        if error and two_sided((early - late) / error) < NOVELTY / (len(definition.variants) - 1):
            found.append(
                f"The lift of {name} was {early:+.1%} among the users who came first and {late:+.1%} among the "
                f"later ones: it may be the novelty, so let it run longer."
            )
    return found
