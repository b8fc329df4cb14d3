"""Rows in order, the same however they came there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bizcode.record import Row
from bizcode.view.order import Sorted, key_of, place_of, sort_key

VALUE = st.sampled_from([None, True, False, 0, 1, 1.5, "a", "b", "é"])
ROWS = st.dictionaries(
    st.tuples(VALUE).map(place_of), st.fixed_dictionaries({"x": VALUE, "y": VALUE}).map(Row), max_size=12
)
ORDER = st.lists(st.tuples(st.sampled_from("xy"), st.booleans()), max_size=2).map(tuple)


@given(before=ROWS, after=ROWS, order_by=ORDER, limit=st.one_of(st.none(), st.integers(1, 5)))
def test_rows_moved_one_by_one_stand_as_those_sorted_anew(before, after, order_by, limit):
    kept = Sorted(order_by)
    kept.first(before, None)
    for place in before.keys() | after.keys():
        if before.get(place) is not after.get(place):
            kept.changed(place, before.get(place))
    found = list(kept.first(after, limit).items())
    assert found == list(Sorted(order_by).first(after, limit).items())
    assert found == sorted(after.items(), key=lambda item: sort_key(*item, order_by))[:limit]


@given(key=st.tuples(VALUE, VALUE))
def test_a_place_stands_for_one_key(key):
    assert [(type(part), part) for part in key_of(place_of(key))] == [(type(part), part) for part in key]


def test_true_and_one_are_two_places():
    assert len({place_of((True,)), place_of((1,)), place_of((False,)), place_of((0,))}) == 4
