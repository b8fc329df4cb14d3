"""Modifiers come in any order, also before the number is named."""

from __future__ import annotations

import itertools

import pytest

from bizcode import InvalidQuery


@pytest.fixture
def sold(biz):
    for n in range(12):
        biz.track.Sale({"plan": "abc"[n % 3], "n": n}, at=f"2024-03-{1 + n % 9:02}")
        biz.measure.revenue(n, {"plan": "abc"[n % 3]}, at=f"2024-03-{1 + n % 9:02}")
    return biz


MODIFIERS = {
    "where": ((), {"n__lt": 9}),
    "since": (("5d",), {}),
    "by": (("plan",), {}),
    "vs": (("prev",), {}),
    "limit": ((2,), {}),
    "count": ((), {}),
}


def test_every_order_of_modifiers_is_the_same_question(sold):
    answers = []
    for order in itertools.permutations(MODIFIERS):
        asked = sold.track.Sale
        for name in order:
            arguments, keywords = MODIFIERS[name]
            asked = getattr(asked, name)(*arguments, **keywords)
        answers.append(asked)
    wanted = answers[0].run()
    assert len(wanted) == 2
    whole = sold.track.Sale.where(n__lt=9).since("5d").vs("prev").count().by("plan").run()
    assert wanted == dict(itertools.islice(whole.items(), 2))
    assert {repr(query.plan) for query in answers} == {repr(answers[0].plan)}


def test_a_metric_and_all_events_take_them_first_too(sold):
    assert sold.measure.revenue.by("plan").sum().run() == sold.measure.revenue.sum().by("plan").run()
    assert sold.measure.revenue.by("hour").since("5d").anomalies().unit == "hour"
    assert sold.track.any.by("event").count().run() == {"Sale": 12}


def test_events_take_limit_and_offset_first(sold):
    assert sold.track.Sale.limit(2).offset(1).events().run() == sold.track.Sale.events().run()[1:3]


def test_a_wrong_argument_is_told_where_it_is_given(sold):
    for wrong in (
        lambda: sold.track.Sale.by(),
        lambda: sold.track.Sale.by("day", "month"),
        lambda: sold.track.Sale.limit(-1),
        lambda: sold.measure.revenue.vs("then"),
    ):
        with pytest.raises(InvalidQuery):
            wrong()


def test_what_can_not_be_grouped_says_so(sold):
    with pytest.raises(InvalidQuery, match=r"events\(\) has no by\(\)"):
        sold.track.Sale.by("plan").events()
    with pytest.raises(InvalidQuery, match=r"trend\(\) has no vs\(\)"):
        sold.measure.revenue.vs("prev").trend()
    with pytest.raises(AttributeError, match="name a number"):
        sold.track.Sale.by("plan").subscribe(print)
    with pytest.raises(InvalidQuery, match="a step is"):
        sold.track.funnel([sold.track.Sale.by("plan")])
