"""What `where` takes, on one record and asked of the store."""

from __future__ import annotations

import pytest


@pytest.fixture
def mixed(biz):
    values = [1, 101, 200.5, "200", None, True, [300], {"x": 300}]
    biz.track.batch([{"event": "Seen", "data": {"n": n, "a": value}} for n, value in enumerate(values)])
    biz.track.Seen(n=99)
    return biz


@pytest.mark.parametrize("sealed", [False, True])
def test_a_functions_comparison_with_a_missing_property_or_another_type_is_false(mixed, sealed):
    if sealed:
        mixed.compact()
    found = sorted(event.n for event in mixed.track.Seen.where(lambda e: e.a > 100).events().run())
    assert found == [1, 2]
    assert mixed.track.Seen.where(lambda e: 100 < e.missing <= 200).count().run() == 0


def test_every_other_error_of_a_function_is_the_callers(mixed):
    with pytest.raises(TypeError, match="len"):
        mixed.track.Seen.where(lambda e: len(e.n) > 1).count().run()
    with pytest.raises(TypeError, match="datetime"):
        mixed.track.Seen.where(lambda e: e.timestamp > "2024-01-01").count().run()


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"a": {"gte": 101}}, [1, 2]),
        ({"a__gte": 101}, [1, 2]),
        ({"a__gte": 101, "n": {"lt": 2}}, [1]),
        ({"odd__in": {"eq": 7}}, [50]),
        ({"odd__in": [6, 7]}, []),
    ],
)
def test_a_mapping_takes_operators_as_keywords_do(mixed, given, found):
    mixed.track.Seen({"n": 50, "odd__in": 7})
    events = mixed.track.Seen.where(given).events().run()
    assert sorted(event.n for event in events) == found
    assert sorted(e.n for e in mixed.track.Seen.where(**given).events().run()) == found
