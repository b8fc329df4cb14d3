"""Beside the range before, group by group."""

from __future__ import annotations

import itertools

import pytest


@pytest.fixture
def turned(biz):
    """a led the week before, c leads this one."""
    for day, counts in (("2024-03-01", {"a": 5, "b": 4, "c": 1}), ("2024-03-08", {"a": 1, "b": 2, "c": 6})):
        for plan, n in counts.items():
            biz.track.batch([{"event": "Sale", "data": {"plan": plan}, "at": day}] * n)
            biz.track.batch([{"event": "View", "data": {"plan": plan}, "at": day}] * 10)
    return biz


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_limit_keeps_the_first_groups_with_both_their_numbers(turned, limit, offset):
    for query in (turned.track.Sale.count(), turned.track.ratio("Sale", "View")):
        whole = query.since("7d").by("plan").vs("prev")
        assert list(whole.run()) == ["c", "b", "a"]
        wanted = dict(itertools.islice(whole.run().items(), offset, offset + limit))
        assert whole.limit(limit).offset(offset).run() == wanted


def test_a_limit_on_buckets_keeps_each_beside_its_own(turned):
    whole = turned.track.Sale.count().since("7d").by("day").vs("prev")
    assert whole.limit(3).run() == dict(itertools.islice(whole.run().items(), 3))


def test_a_change_between_numbers_that_left_the_range_of_doubles_is_not_told(biz, clock):
    for _ in range(2):
        biz.track.batch([{"event": "Sale", "data": {"x": 1.7e308}}] * 2)
        clock.advance("7d")
    found = biz.track.Sale.sum("x").since("7d").vs("prev").run()
    assert (found.current, found.change, found.percent) == (float("inf"), None, None)
