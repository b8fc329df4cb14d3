"""Accumulators that any value can be taken out of are those of what is left."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bizcode.plan.accumulator import accumulator
from bizcode.plan.aggregation import aggregation
from bizcode.plan.removing import removable, reserved

VALUES = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, 2.0, "a", "b", True, None]))


def made(operation):
    if operation == "count":
        return aggregation("count")
    return aggregation("percentile", "x", 50) if operation == "percentile" else aggregation(operation, "x")


@pytest.mark.parametrize(
    "operation",
    ["count", "sum", "avg", "min", "max", "first", "last", "collect", "distinct", "percentile", "stddev"],
)
@given(values=st.lists(st.tuples(VALUES, st.integers(0, 3)), max_size=12), seed=st.integers(0, 1_000))
def test_taking_out_leaves_what_the_others_give(operation, values, seed):
    fold = removable(made(operation))
    entries = [(value, time, order) for order, (value, time) in enumerate(values)]
    one, other = fold.new(), fold.new()
    for n, entry in enumerate(entries):
        fold.add(one if n % 2 else other, *entry)
    fold.merge(one, other)
    left = list(entries)
    rng = random.Random(seed)
    while True:
        expected = fold.new()
        for entry in left:
            fold.add(expected, *entry)
        assert fold.result(one) == pytest.approx(fold.result(expected))
        if not left:
            return
        assert fold.remove(one, *left.pop(rng.randrange(len(left))))


@pytest.mark.parametrize("operation", ["min", "max"])
@given(
    values=st.lists(st.one_of(st.integers(-9, 9), st.sampled_from([0.5, "a", "b", "c", True])), max_size=40),
    seed=st.integers(0, 1_000),
    known=st.integers(0, 12),
)
def test_a_reserve_tells_what_is_left_or_that_it_can_not(operation, values, seed, known):
    fold, plain = reserved(made(operation)), accumulator(made(operation))
    rng = random.Random(seed)
    parts = [fold.new(), fold.new()]
    numbers = [value for value in values[:known] if type(value) in (int, float)]
    if numbers:
        # As a statement gives it: the best alone.
        fold.known(parts[0], 0, [plain._best(numbers)], False)
        for value in values[:known]:
            if type(value) not in (int, float):
                fold.add(parts[0], value, 0, 0)
    else:
        known = 0
    for value in values[known:]:
        fold.add(rng.choice(parts), value, 0, 0)
    state = fold.new()
    for part in parts:
        fold.merge(state, part)
    left = list(values)
    while True:
        expected = plain.new()
        for value in left:
            plain.add(expected, value, 0, 0)
        assert fold.result(state) == plain.result(expected)
        if not left or not fold.remove(state, left.pop(rng.randrange(len(left))), 0, 0):
            return
