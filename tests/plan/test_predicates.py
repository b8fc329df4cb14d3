"""Conditions as SQL, beside what the same condition means for one record."""

from __future__ import annotations

import pytest

from bizcode import this

VALUES = [1, 1.5, True, "1", "one", "", None, [1, "one"], [], [{"b": 1}], {"b": 5}, {}]


@pytest.mark.parametrize("wanted", [1, 1.0, 1.5, "one", "1", "", True, None])
@pytest.mark.parametrize("sealed", [False, True])
def test_contains_is_false_of_every_other_type(biz, wanted, sealed):
    biz.track.batch([{"event": "Seen", "data": {"n": n, "a": value}} for n, value in enumerate(VALUES)])
    biz.track.Seen(n=99)
    if sealed:
        biz.compact()
    asked = this.a.contains(wanted)
    found = sorted(event.n for event in biz.track.Seen.where(asked).events().run())
    assert found == sorted(e.n for e in biz.track.Seen.events().run() if asked.matches(e))


@pytest.mark.parametrize("sealed", [False, True])
@pytest.mark.parametrize(
    "asked",
    [
        this.a.in_([{"b": 5}]),
        ~this.a.in_([{"b": 5}, 1, None]),
        this.a.in_([[1.0, "one"], []]),
        this.a == [1.0, "one"],
        this.a.contains({"b": 1.0}),
        this.a.contains([1]),
    ],
    ids=str,
)
def test_lists_and_objects_are_compared_by_value_wherever_they_stand(biz, asked, sealed):
    rows = [*VALUES, {"b": {"c": 1}}, [[1], {"b": 1, "a": 2}], {"b": 5.0}]
    biz.track.batch([{"event": "Seen", "data": {"n": n, "a": value}} for n, value in enumerate(rows)])
    biz.track.Seen(n=99)
    if sealed:
        biz.compact()
    found = sorted(event.n for event in biz.track.Seen.where(asked).events().run())
    assert found == sorted(e.n for e in biz.track.Seen.events().run() if asked.matches(e))


@pytest.mark.parametrize("wanted", [[1, "one"], [], [{"b": 1}], [2], {"b": 5}, {}, {"b": 6}])
@pytest.mark.parametrize("sealed", [False, True])
def test_equality_with_a_list_or_an_object_is_false_of_every_other_type(biz, wanted, sealed):
    biz.track.batch([{"event": "Seen", "data": {"n": n, "a": value}} for n, value in enumerate(VALUES)])
    if sealed:
        biz.compact()
    asked = this.a == wanted
    found = sorted(event.n for event in biz.track.Seen.where(asked).events().run())
    assert found == sorted(e.n for e in biz.track.Seen.events().run() if asked.matches(e))


@pytest.mark.parametrize("sealed", [False, True])
def test_value_of_a_sample_is_its_number_unless_a_tag_has_that_name(biz, sealed):
    for value in (1, 2.5, -3):
        biz.measure.price(value, plan="pro")
    biz.measure.price(100, value="tag")
    if sealed:
        biz.compact()
    price = biz.measure.price
    for asked in (price.where(this.value > 1), price.where(lambda sample: sample.value > 1)):
        assert asked.sum().run() == 102.5
    assert price.where(value__gt=1).sum().run() == 2.5
    assert price.where(value="tag").sum().run() == 100
    assert price.where(value__between=(-3, 1)).count().run() == 2
    assert price.where(this.value.in_([1, 100])).count().run() == 2
    assert price.where(this.value != 1).count().run() == 3
    assert biz.track.any.where(this.value > 1).count().run() == 0
