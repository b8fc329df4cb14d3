"""Rollups of a business that lies in PostgreSQL: the same words, the same answers."""

from __future__ import annotations

import pytest

from bizcode import InvalidQuery


def test_filled_corrected_and_retained(biz, clock):
    now = clock.now()
    ids = [
        biz.measure.x(n % 10, {"host": "ab"[n % 2]}, at=(now - n * 3_600_000_000) / 1e6).id
        for n in range(200)
    ]
    plain = biz.measure.x.sum().by("day", "host").run()
    biz.measure.x.rollup(
        granularity=["hour", "day"], aggregates=["sum", "max", "last"], retention={"raw": "2d", "hour": "5d"}
    )
    biz.drain()
    assert "rollup" in biz.measure.x.sum().sql()
    assert biz.measure.x.sum().by("day", "host").run() == plain
    assert len(biz.measure.x.events().run()) == 49
    biz.retract(ids[9])
    for _ in range(2):
        assert biz.measure.x.sum().run() == 900 - 9
        assert biz.measure.x.max().since("12h").run() == 8
        biz.drain()
    with pytest.raises(InvalidQuery):
        biz.measure.x.median().run()
    assert biz.doctor().ok
