"""Statistics of parts add up to those of the whole."""

from __future__ import annotations

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bizcode.stats.sample import Paired, Proportion, Sample

NUMBERS = st.lists(st.floats(-1e6, 1e6), max_size=30)


@settings(max_examples=60)
@given(NUMBERS, NUMBERS)
def test_two_samples_add_to_the_sample_of_both(a, b):
    both = Sample.of(a) + Sample.of(b)
    assert both.n == len(a + b)
    if a + b:
        assert both.mean == pytest.approx(numpy.mean(a + b), abs=1e-6)
    if len(a + b) > 1:
        assert both.variance == pytest.approx(numpy.var(a + b, ddof=1), rel=1e-6, abs=1e-4)
        assert both.error == pytest.approx(both.variance / both.n)


@settings(max_examples=60)
@given(*[st.lists(st.tuples(st.floats(-1e3, 1e3), st.floats(-1e3, 1e3)), max_size=20)] * 2)
def test_pairs_add_with_their_covariance(a, b):
    both = Paired.of(a) + Paired.of(b)
    assert both.n == len(a + b)
    if both.n > 1:
        expected = numpy.cov(numpy.array(a + b).T)[0, 1]
        assert both.covariance == pytest.approx(expected, rel=1e-6, abs=1e-4)


def test_proportions_add():
    assert Proportion(10, 3) + Proportion(5, 5) == Proportion(15, 8)


def test_nothing_has_no_mean_and_one_value_no_variance():
    assert (Sample().mean, Sample().variance, Proportion().mean, Proportion().error) == (None,) * 4
    assert (Sample.of([3]).mean, Sample.of([3]).variance, Paired().covariance) == (3.0, None, None)
