"""Aggregates that look at a part of a range first."""

from __future__ import annotations

from datetime import timedelta

from bizcode import Business, ManualClock


def test_the_last_value_of_a_rolling_range_is_not_one_stamped_past_now():
    with Business(":memory:", clock=ManualClock("2024-03-01"), worker=False) as biz:
        for hours in (3, 2, 1):
            biz.measure.x(hours, {}, at=biz.now() - timedelta(hours=hours))
            biz.store.segments.seal()
        biz.measure.x(9, {}, at=biz.now() + timedelta(minutes=9))
        assert biz.measure.x.last().since("2d").run() == 1
        assert biz.measure.x.first().since("2d").run() == 3
        assert biz.measure.x.last().run() == 9
