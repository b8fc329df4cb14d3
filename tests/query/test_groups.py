"""Groups whose keys Python takes for equal."""

from __future__ import annotations

from bizcode import Business, ManualClock


def test_true_and_one_are_two_groups_with_and_without_buckets():
    with Business(":memory:", clock=ManualClock("2024-03-10T12:00"), worker=False) as biz:
        for x in (True, 1, 1, "a"):
            biz.track.View({"x": x})
        day = biz.now().replace(hour=0)
        assert biz.track.View.count().by("x").run() == {1: 2, "True": 1, "a": 1}
        found = biz.track.View.count().by("day", "x").run()
        assert sorted(found.values()) == [1, 1, 2]
        assert found[day, 1] == 2
        assert found[str(day), "True"] == 1
