"""What a range holds: the instant itself, records stamped in the future, and an end that was given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bizcode import InvalidTime

NOW = datetime(2024, 3, 10, 12, tzinfo=UTC)


@pytest.fixture
def told(biz):
    """A sale before the last week, at its first instant, within it, now, and tomorrow; and as many samples."""
    for at in (NOW - timedelta(days=7, microseconds=1), NOW - timedelta(days=7), NOW - timedelta(days=1)):
        biz.track.Sale({"user_id": "u"}, at=at)
        biz.measure.price(1, {}, at=at)
    biz.track.Sale(user_id="u")
    biz.track.Sale({"user_id": "v"}, at=NOW + timedelta(days=1))
    biz.measure.price(1)
    biz.measure.price(100, {}, at=NOW + timedelta(days=1))
    return biz


@pytest.fixture(params=[False, True], ids=["unsealed", "sealed"])
def asked(told, request):
    if request.param:
        told.compact()
    return told


def test_a_duration_back_ends_now(asked):
    sales, price = asked.track.Sale, asked.measure.price
    assert sales.count().since("7d").run() == 3
    assert sales.unique().since(timedelta(days=7)).run() == 1
    assert len(sales.events().since("7d")) == 3
    assert price.sum().since("7d").run() == 3
    assert price.last().since("7d").run() == 1
    assert asked.track.ratio("Sale", "Sale").unique().since("7d").run() == 1
    assert asked.track.funnel(["Sale"]).since("7d").run()[0].count == 1
    assert (
        sum(c.size for c in asked.track.cohort(anchor="Sale", activity="Sale").since("8d").run().cohorts) == 1
    )


def test_it_moves_with_the_clock(asked, clock):
    clock.advance("1d")
    assert asked.track.Sale.count().since("7d").run() == 3
    assert asked.measure.price.sum().since("1h").run() == 100


def test_an_end_that_was_given_stands(asked):
    sales = asked.track.Sale.count()
    assert sales.since("7d").until("2025-01-01").run() == sales.until("2025-01-01").since("7d").run() == 4
    assert sales.since("7d").until(NOW).run() == 2
    assert sales.between("7d", "1d").run() == 1


def test_other_ranges_are_open_at_their_end(asked):
    counts = {since: asked.track.Sale.count().since(since).run() for since in ("month", "week", "2024-03-10")}
    assert counts == {"month": 5, "week": 3, "2024-03-10": 2}


def test_days_run_up_to_now(asked):
    days = asked.track.Sale.count().since("7d").by("day").run()
    assert [(day.day, n) for day, n in days.items()] == [
        *((day, n) for day, n in zip(range(3, 11), (1, 0, 0, 0, 0, 0, 1, 1), strict=True))
    ]


def test_the_range_before_is_as_long_and_a_rate_is_of_the_length_itself(asked):
    found = asked.track.Sale.count().since("7d").vs("prev").run()
    assert (found.current, found.previous) == (3, 1)
    assert asked.measure.price.rate("1h").since("3h").run() == 1 / 3
    assert asked.measure.price.rate("1h").since("3h").by("hour").run()[NOW] is None


def test_an_end_before_the_start_is_refused(biz):
    for query in (
        lambda: biz.track.Sale.count().between("2024-02-01", "2024-01-01"),
        lambda: biz.track.Sale.count().between("1d", "7d"),
    ):
        with pytest.raises(InvalidTime, match="before it starts"):
            query()


@pytest.mark.parametrize(
    "question",
    [
        lambda biz: biz.track.A,
        lambda biz: biz.track.A.count(),
        lambda biz: biz.track.ratio("A", "B"),
        lambda biz: biz.track.funnel(["A", "B"]),
        lambda biz: biz.track.cohort("A", "B", periods=2),
        lambda biz: biz.measure.m.sum(),
    ],
)
def test_none_is_no_bound_of_a_range(biz, question):
    for bounded in (
        lambda query: query.since(None),
        lambda query: query.until(None),
        lambda query: query.between(None, "2024-01-01"),
        lambda query: query.between("2024-01-01", None),
    ):
        with pytest.raises(InvalidTime, match=r"leave the bound out, or use .*7d"):
            bounded(question(biz))
