"""Exact sums against fractions, sketches against exact percentiles, cells against their samples."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bizcode.stats.cell import Cell, Latest
from bizcode.stats.exact import Exact
from bizcode.stats.sketch import Sketch

NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False, width=64)
)


@given(st.lists(NUMBERS), st.lists(NUMBERS))
def test_a_sum_is_exact_in_any_order_and_after_taking_out(kept, taken):
    total = Exact.of([*taken, *kept])
    total.add(Exact.of(taken), -1)
    exact = sum(map(Fraction, kept), Fraction(0))
    parsed = Exact.parse(total.dump())
    assert Fraction(parsed.units, 1 << parsed.scale) == exact
    if abs(exact) < Fraction(10) ** 300:
        assert parsed.value == (float(exact) if parsed.scale else exact.numerator)


def test_integers_stay_integers_and_doubles_doubles():
    assert isinstance(Exact.of([1, 2]).value, int)
    assert isinstance(Exact.of([1.0, 2.0]).value, float)
    assert Exact.of([1e308] * 20).value == float("inf")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("p", [0, 1, 10, 50, 90, 99, 99.9, 100])
def test_a_percentile_is_within_one_percent(seed, p):
    rng = np.random.default_rng(seed)
    values = [rng.lognormal(3, 2, 5000), rng.uniform(1, 1000, 300), rng.pareto(1.5, 2000) + 1e-9][seed % 3]
    values = values * (1 if seed < 3 else -1)
    whole, part = Sketch(), Sketch()
    whole.take(values[:100].tolist())
    part.take(values[100:].tolist())
    whole.add(part)
    found = Sketch.parse(whole.dump()).percentile(p)
    assert found == pytest.approx(np.percentile(values, p), rel=0.01)


def test_a_sketch_gives_back_what_was_taken_out():
    sketch, other = Sketch(), Sketch()
    sketch.take([1.0, 0.0, -5.0, 1e300, 5e-324])
    other.take([1.0, -5.0])
    sketch.add(other, -1)
    assert sketch.percentile(0) == 0.0
    assert sketch.percentile(100) == pytest.approx(1e300, rel=0.01)
    assert sketch.dump()[0] == 2
    assert Sketch().percentile(50) is None
    top = Sketch()
    top.take([1.7976931348623157e308])
    assert top.percentile(50) == pytest.approx(1.7976931348623157e308, rel=0.01)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 9), NUMBERS), min_size=1, max_size=20), st.integers(0, 19))
def test_cells_add_up_whatever_the_cut(samples, cut):
    made = [Latest(time, n, value) for n, (time, value) in enumerate(samples)]
    cell = Cell()
    for part in (made[:cut], made[cut:]):
        if part:
            cell.add(Cell.of(part, True))
    kept = frozenset(("sum", "min", "max", "last", "percentiles"))
    assert Cell.parse(cell.dump(kept)).dump(kept) == Cell.of(made, True).dump(kept)
