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
        assert found[day, "True"] == 1


def test_no_group_is_lost_to_a_key_that_looks_the_same():
    with Business(":memory:", clock=ManualClock("2024-03-10T12:00"), worker=False) as biz:
        for x in (1, True, "True", "'True'", 2**53, float(2**53)):
            biz.track.View({"x": x})
        day = biz.now().replace(hour=0)
        found = biz.track.View.count().by("x").run()
        assert found[1] == found["True"] == found["'True'"] == 1
        assert sum(found.values()) == len(found) == 6
        assert {key[0] for key in biz.track.View.count().by("day", "x").run()} == {day}


def test_a_limit_changes_no_key():
    with Business(":memory:", clock=ManualClock("2024-03-10T12:00"), worker=False) as biz:
        for x in (True, True, 1, "a"):
            biz.track.View({"x": x})
            biz.measure.seen(1, {"x": x})
        biz.measure.seen.rollup(granularity=["day"])
        for query in (biz.track.View.count(), biz.measure.seen.sum(), biz.measure.seen.stddev()):
            whole = list(query.by("x").run().items())
            assert len(whole) == 3
            for n in range(4):
                assert list(query.by("x").limit(n).run().items()) == whole[:n]
                assert list(query.by("x").offset(n).run().items()) == whole[n:]


def test_funnels_and_cohorts_keep_true_and_one_apart():
    with Business(":memory:", clock=ManualClock("2024-03-10T12:00"), worker=False) as biz:
        for n, x in enumerate((True, 1, 1, "a")):
            biz.track.View(user_id=str(n), x=x)
        funnels = biz.track.funnel(["View"]).by("x").run()
        assert {key: found[0].count for key, found in funnels.items()} == {1: 2, "True": 1, "a": 1}
        cohorts = biz.track.cohort(anchor="View", activity="View").by("x").run()
        assert {key: found[0].size for key, found in cohorts.items()} == {1: 2, "True": 1, "a": 1}


def test_a_list_and_the_text_that_reads_as_it_does_are_two_groups():
    with Business(":memory:", clock=ManualClock("2024-03-10T12:00"), worker=False) as biz:
        for n, x in enumerate(([1, 2], [1, 2], "[1,2]", "'[1,2]'", None)):
            biz.track.View(user_id=str(n), x=x)
        expected = {"''[1,2]''": 2, "[1,2]": 1, "'[1,2]'": 1, None: 1}
        assert biz.track.View.count().by("x").run() == expected
        found = biz.track.View.count().by("day", "x").run()
        assert {key: value for (_, key), value in found.items()} == expected
        funnels = biz.track.funnel(["View"]).by("x").run()
        assert {key: found[0].count for key, found in funnels.items()} == expected
        cohorts = biz.track.cohort(anchor="View", activity="View").by("x").run()
        assert {key: found[0].size for key, found in cohorts.items()} == expected
