"""The split: murmur3 by the book, even, independent, the same everywhere."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from scipy import stats

import bizcode
from bizcode.experiment.assignment import Assignment

USERS = [f"user-{n}" for n in range(20_000)]


def murmur3_32(text: str) -> int:
    """From the definition: https://en.wikipedia.org/wiki/MurmurHash#Algorithm, seed 0."""
    data, mask = text.encode(), 0xFFFFFFFF

    def mix(k: int) -> int:
        k = k * 0xCC9E2D51 & mask
        k = (k << 15 | k >> 17) & mask
        return k * 0x1B873593 & mask

    h = 0
    whole = len(data) // 4 * 4
    for n in range(0, whole, 4):
        h ^= mix(int.from_bytes(data[n : n + 4], "little"))
        h = (h << 13 | h >> 19) & mask
        h = (h * 5 + 0xE6546B64) & mask
    if whole < len(data):
        h ^= mix(int.from_bytes(data[whole:], "little"))
    h ^= len(data)
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = (h ^ h >> shift) * factor & mask
    return h ^ h >> 16


def test_is_murmur3_of_name_and_user_against_the_cumulated_weights():
    weights = [0.34, 0.33, 0.33]
    split = Assignment("pricing-v2", ["a", "b", "c"], weights)
    for user in [*USERS[:500], "ü", "", "名前", "x" * 101]:
        share = murmur3_32(f"pricing-v2:{user}") / 2**32
        expected = "a" if share < 0.34 else "b" if share < 0.34 + 0.33 else "c"
        assert split.variant(user) == expected
    assert split.variants(USERS[:500]) == [split.variant(user) for user in USERS[:500]]


@pytest.mark.parametrize("weights", [[0.5, 0.5], [0.9, 0.1], [0.34, 0.33, 0.33], [0.05] * 20, [0.01, 0.99]])
def test_follows_the_weights_for_many_names(weights):
    variants = [f"v{n}" for n in range(len(weights))]
    values = []
    for name in [f"experiment-{n}" for n in range(12)] + ["a", "Ünï côde", "pricing"]:
        found = Counter(Assignment(name, variants, weights).variants(USERS))
        observed = [found[variant] for variant in variants]
        values.append(stats.chisquare(observed, [weight * len(USERS) for weight in weights]).pvalue)
    assert min(values) > 1e-4
    assert stats.kstest(values, "uniform").pvalue > 1e-3


def test_experiments_are_independent_of_each_other():
    names = ["pricing", "pricing-v2", "onboarding", "x", "y"]
    splits = {name: Assignment(name, ["a", "b", "c"], [0.5, 0.25, 0.25]).variants(USERS) for name in names}
    for one, other in itertools.combinations(names, 2):
        pairs = Counter(zip(splits[one], splits[other], strict=True))
        table = [[pairs[a, b] for b in "abc"] for a in "abc"]
        assert stats.chi2_contingency(table).pvalue > 1e-4


def test_the_last_variant_takes_what_rounding_lost():
    split = Assignment("x", ["a", "b"], [0.5, 0.4999995])
    assert set(split.variants(USERS)) == {"a", "b"}


def test_is_the_same_in_another_process():
    code = (
        "import json; from bizcode.experiment.assignment import Assignment; "
        "print(json.dumps(Assignment('x', ['a', 'b'], [0.5, 0.5]).variants([f'user-{n}' for n in range(200)])))"
    )
    path = str(Path(bizcode.__file__).parents[1])
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env={"PYTHONPATH": path}, check=True
    )
    assert json.loads(found.stdout) == Assignment("x", ["a", "b"], [0.5, 0.5]).variants(USERS[:200])


def test_assign_gives_the_split_and_none_while_not_running(biz):
    biz.experiment.define("x", ["a", "b"], weights=[0.3, 0.7])
    experiment = biz.experiment("x")
    assert experiment.assign("user-1").run() is None
    experiment.start()
    split = Assignment("x", ["a", "b"], [0.3, 0.7])
    assert [experiment.assign(user).run() for user in USERS[:50]] == split.variants(USERS[:50])


async def _awaited(query):
    return await query


def test_assign_can_be_awaited(biz, pricing):
    import asyncio

    query = pricing.assign("u1")
    assert asyncio.run(_awaited(query)) == query.run()
