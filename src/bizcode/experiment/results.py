"""How an experiment stands: frozen values, shown as a table with the interval of each lift."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from html import escape
from typing import Any

__all__ = ["VARIANT_COLUMNS", "DayResults", "Results", "VariantResult", "variant_rows"]


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantResult:
    """One variant. What can't be told from the data is None.

    Attributes:
        users: exposed users that count.
        conversions: how many of them did what the goal is about.
        rate: conversions by users, for goals that a user either meets or not.
        mean, stddev: of the users' values, for the other goals; of a percentile goal `mean` is the percentile.
        lift: relative to the control, 0.2 for a fifth more; None for the control.
        lift_ci: the lift's 95 % interval.
        p_value: of the difference to the control, Holm-corrected over the variants.
        p_sequential: likewise, but valid however often it is looked at.
        chance_to_beat: probability that it is better than the control (0.975 is strong evidence).
    """

    users: int
    conversions: int
    rate: float | None = None
    mean: float | None = None
    stddev: float | None = None
    lift: float | None = None
    lift_ci: tuple[float, float] | None = None
    p_value: float | None = None
    p_sequential: float | None = None
    chance_to_beat: float | None = None

    @property
    def value(self) -> float | None:
        """The rate, or the mean."""
        return self.mean if self.rate is None else self.rate


VARIANT_COLUMNS = tuple(field.name for field in fields(VariantResult))


def variant_rows(variants: dict[str, VariantResult]) -> list[tuple[Any, ...]]:
    """Each variant's name and what is known of it, in the order of VARIANT_COLUMNS."""
    return [
        (name, *(getattr(variant, column) for column in VARIANT_COLUMNS))
        for name, variant in variants.items()
    ]


@dataclass(frozen=True, slots=True)
class DayResults:
    """Everything up to the end of one day: `day` is its start, aware, in the business's timezone."""

    day: datetime
    variants: dict[str, VariantResult]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Results:
    """How an experiment stands.

    Attributes:
        status: draft, running, paused, stopped, graduated.
        variants: name to VariantResult, the control first.
        winner: the variant to choose, only if it can be called and improves on the control.
        confidence: 1 - p_value of the leading variant.
        can_call: enough users, an honest split, and a difference that is no accident.
        srm_p_value: of the split of users against the weights; below 0.001 something decides who is counted.
        days: since the start, up to the end or now.
        needed_sample_size: users per variant that show the leading variant's present difference with a
            power of 80 % at 5 %.
        warnings: plain sentences.
        excluded: users seen in two variants, who are left out.
    """

    name: str
    goal: str | None
    status: str
    variants: dict[str, VariantResult]
    winner: str | None = None
    confidence: float | None = None
    can_call: bool = False
    srm_p_value: float | None = None
    days: float = 0.0
    needed_sample_size: int | None = None
    warnings: list[str] = field(default_factory=list)
    excluded: int = 0

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if self.winner is not None:
            lift = self.variants[self.winner].lift
            return f"{self.winner} wins: {_signed(lift)} against {next(iter(self.variants))}."
        if self.can_call:
            return f"No variant improves on {next(iter(self.variants))}, and at least one is worse."
        return "It can't be called yet."

    def __repr__(self) -> str:
        shown = any(v.lift is not None for v in self.variants.values())
        head = ["variant", "users", "conversions", "value"]
        rows = [head + (["lift", "95 % interval", "p", "p seq.", "beats"] if shown else [])]
        scale = _scale(self.variants)
        for name, variant in self.variants.items():
            row = [name, f"{variant.users:,}", f"{variant.conversions:,}", _value(variant)]
            if shown:
                row += [
                    _signed(variant.lift),
                    "" if variant.lift_ci is None else " … ".join(map(_signed, variant.lift_ci)),
                    _p(variant.p_value),
                    _p(variant.p_sequential),
                    "" if variant.chance_to_beat is None else f"{variant.chance_to_beat:.1%}",
                    _bar(variant, scale),
                ]
            rows.append(row)
        rows = [row + [""] * (max(map(len, rows)) - len(row)) for row in rows]
        widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
        lines = [
            f"{self.name}: {self.status}, {self.days:.1f} days" + (f", {self.goal}" if self.goal else "")
        ]
        for row in rows:
            cells = [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
            lines.append("  ".join(cells).rstrip())
        lines.append(self.verdict)
        lines += [f"! {warning}" for warning in self.warnings]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    def plot(self) -> Any:
        """The interval of each lift as a chart. Needs `pip install bizcode[plot]`."""
        from ..query.plot import lifts

        return lifts({"": self}, self.name)


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+.1%}"


def _p(value: float | None) -> str:
    return "" if value is None else "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _value(variant: VariantResult) -> str:
    if variant.rate is not None:
        return f"{variant.rate:.2%}"
    return "" if variant.mean is None else f"{variant.mean:,.4g}"


def _scale(variants: dict[str, VariantResult]) -> float:
    ends = [abs(end) for v in variants.values() if v.lift_ci is not None for end in v.lift_ci]
    return max(ends, default=0.0)


def _bar(variant: VariantResult, scale: float, half: int = 12) -> str:
    """The interval on a line with the control's zero in its middle."""
    if variant.lift is None or variant.lift_ci is None or not scale:
        return ""
    low, at, high = (
        round((1 + end / scale) * half) for end in (variant.lift_ci[0], variant.lift, variant.lift_ci[1])
    )
    line = ["·" if n != half else "|" for n in range(2 * half + 1)]
    for n in range(max(0, low), min(2 * half, high) + 1):
        line[n] = "-" if n != half else "+"
    line[min(2 * half, max(0, at))] = "o"
    return "".join(line)
