"""Accumulators that any value can be taken out of are those of what is left."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bizcode.plan.accumulator import accumulator
from bizcode.plan.aggregation import aggregation

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
    fold = accumulator(made(operation), removable=True)
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
