"""P-values, intervals and corrections beside statsmodels, scipy and what was published."""

from __future__ import annotations

import numpy
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint, proportions_ztest

from bizcode.stats.bayes import chance_by_beta, chance_by_normal
from bizcode.stats.compare import holm, mismatch, two_proportion_z, welch
from bizcode.stats.cuped import adjusted
from bizcode.stats.intervals import lift, lift_interval, newcombe, wilson
from bizcode.stats.power import users_for_means, users_for_rates
from bizcode.stats.sample import Paired, Proportion, Sample
from bizcode.stats.sequential import always_valid_p

RNG = numpy.random.default_rng(7)
COUNTS = [(int(n), int(RNG.integers(0, n + 1)), int(m), int(RNG.integers(0, m + 1)))
          for n, m in RNG.integers(1, 5000, size=(25, 2))]  # fmt: skip


@pytest.mark.parametrize(("n", "a", "m", "b"), COUNTS)
def test_rates_are_compared_as_statsmodels_does(n, a, m, b):
    control, other = Proportion(n, a), Proportion(m, b)
    if 0 < a + b < n + m:
        assert two_proportion_z(control, other) == pytest.approx(
            proportions_ztest([a, b], [n, m])[1], abs=1e-9
        )
    assert wilson(control) == pytest.approx(proportion_confint(a, n, method="wilson"), abs=1e-9)
    expected = confint_proportions_2indep(b, m, a, n, method="newcomb", compare="diff")
    assert newcombe(control, other) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(10))
def test_means_are_compared_as_scipy_does(seed):
    rng = numpy.random.default_rng(seed)
    a, b = rng.lognormal(size=rng.integers(2, 400)), rng.lognormal(0.1, size=rng.integers(2, 400))
    expected = stats.ttest_ind(a, b, equal_var=False).pvalue
    assert welch(Sample.of(a), Sample.of(b)) == pytest.approx(expected, abs=1e-9)


def test_newcombe_gives_his_published_intervals():
    # Newcombe 1998, Table II, method 10, examples (a) to (d).
    for a, m, b, n, low, high in [
        (56, 70, 48, 80, 0.0524, 0.3339),
        (9, 10, 3, 10, 0.1705, 0.8090),
        (6, 7, 2, 7, 0.0582, 0.8062),
        (5, 56, 0, 29, -0.0381, 0.1926),
    ]:
        found = newcombe(Proportion(n, b), Proportion(m, a))
        assert found is not None
        assert [round(end, 4) for end in found] == [low, high]


@pytest.mark.parametrize("seed", range(5))
def test_holm_is_that_of_statsmodels(seed):
    values = list(numpy.random.default_rng(seed).random(6) ** 3)
    assert holm(values) == pytest.approx(list(multipletests(values, method="holm")[1]), abs=1e-12)


def test_a_mismatch_is_pearsons_chi_square():
    observed, weights = [4800, 2600, 2700], [0.5, 0.25, 0.25]
    expected = stats.chisquare(observed, [sum(observed) * w for w in weights]).pvalue
    assert mismatch(observed, weights) == pytest.approx(expected, abs=1e-12)
    assert mismatch([0, 0], [0.5, 0.5]) is None


@pytest.mark.parametrize(
    ("n", "a", "m", "b"), [(1000, 100, 1000, 130), (50, 0, 60, 3), (10**6, 100, 10**6, 90)]
)
def test_the_chance_to_beat_is_what_draws_from_the_posteriors_say(n, a, m, b):
    rng = numpy.random.default_rng(1)
    drawn = rng.beta(1 + b, 1 + m - b, 400_000) > rng.beta(1 + a, 1 + n - a, 400_000)
    assert chance_by_beta(Proportion(n, a), Proportion(m, b)) == pytest.approx(drawn.mean(), abs=0.004)
    assert chance_by_normal(1.0, 0.25) == pytest.approx(stats.norm.cdf(2))


def test_the_lifts_interval_covers_the_true_lift_95_times_of_100():
    rng = numpy.random.default_rng(3)
    inside = 0
    for _ in range(4_000):
        a, b = Proportion(4000, int(rng.binomial(4000, 0.1))), Proportion(4000, int(rng.binomial(4000, 0.12)))
        found = lift_interval(a, b)
        assert found is not None
        inside += found[0] <= 0.2 <= found[1]
    assert inside / 4_000 == pytest.approx(0.95, abs=0.01)


def test_a_lift_on_a_control_of_zero_is_not_invented():
    assert lift(Proportion(100, 0), Proportion(100, 5)) is None
    assert lift(Sample.of([1]), Sample.of([2])) is None
    assert lift(Sample.of([-2, -4]), Sample.of([-1, -2]))[0] == pytest.approx(0.5)  # pyright: ignore


def test_peeking_daily_at_2000_a_a_tests_finds_a_difference_below_5_in_100():
    rng = numpy.random.default_rng(11)
    fixed = peeked = 0
    for _ in range(2_000):
        days = rng.binomial(150, 0.1, size=(14, 2)).cumsum(axis=0)
        found = False
        for day, (a, b) in enumerate(days, 1):
            n = 150 * day
            pooled = (a + b) / (2 * n)
            error = pooled * (1 - pooled) * 2 / n
            found |= always_valid_p((b - a) / n, error, 2 * n) < 0.05
        peeked += found
        p = two_proportion_z(Proportion(2100, int(days[-1][0])), Proportion(2100, int(days[-1][1])))
        fixed += p is not None and p < 0.05
    assert fixed / 2_000 == pytest.approx(0.05, abs=0.015)
    assert peeked / 2_000 < 0.05


@pytest.mark.parametrize(("baseline", "mde", "power"), [(0.1, 0.02, 0.8), (0.3, -0.03, 0.9)])
def test_the_number_of_users_reaches_the_planned_power(baseline, mde, power):
    n = users_for_rates(baseline, mde, power=power)
    rng = numpy.random.default_rng(5)
    a, b = rng.binomial(n, baseline, 4_000), rng.binomial(n, baseline + mde, 4_000)
    found = sum(
        (two_proportion_z(Proportion(n, int(x)), Proportion(n, int(y))) or 0) < 0.05
        for x, y in zip(a, b, strict=True)
    )
    assert found / 4_000 == pytest.approx(power, abs=0.02)


def test_the_number_of_users_for_means_reaches_the_planned_power():
    n = users_for_means(4.0, 9.0, 0.5)
    rng = numpy.random.default_rng(6)
    found = sum(
        (welch(Sample.of(rng.normal(0, 2, n)), Sample.of(rng.normal(0.5, 3, n))) or 0) < 0.05
        for _ in range(1_000)
    )
    assert found / 1_000 == pytest.approx(0.8, abs=0.04)


def test_cuped_takes_the_square_of_the_correlation_from_the_variance():
    rng = numpy.random.default_rng(8)
    arms, raw = {}, {}
    for name in ("control", "value"):
        x = rng.normal(10, 3, 20_000)
        y = 0.8 * x + rng.normal(0, 2, 20_000)
        arms[name], raw[name] = Paired.of(zip(y, x, strict=True)), numpy.corrcoef(x, y)[0, 1]
    for name, less in adjusted(arms).items():
        before = arms[name].y.variance
        assert less.variance is not None
        assert before is not None
        assert less.variance / before == pytest.approx(1 - raw[name] ** 2, abs=0.01)


def test_cuped_without_anything_known_before_changes_nothing():
    arms = {"a": Paired.of([(1, 0), (3, 0)])}
    assert adjusted(arms)["a"] == arms["a"].y
