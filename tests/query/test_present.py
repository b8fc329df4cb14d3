"""Answers as tables."""

from __future__ import annotations

from datetime import timedelta

from bizcode.query.text import text


def test_a_schema_is_one_row_per_property(biz):
    biz.track.Signup(plan="pro", seats=3)
    biz.track.Signup(plan=7)
    table = biz.track.Signup.schema().table()
    assert table.columns == ("name", "types", "first_seen", "last_seen", "version")
    assert [row[:2] for row in table.rows] == [("plan", ("int", "text")), ("seats", ("int",))]
    assert "SchemaProperty" not in repr(biz.track.Signup.schema())


def test_the_schema_of_what_was_never_seen_is_an_empty_table(biz):
    assert biz.track.Nothing.schema().table().rows == []
    assert repr(biz.track.Nothing.schema())
    assert len(biz.track.Nothing.schema().df()) == 0


def test_a_target_says_its_question_in_one_line(biz):
    assert repr(biz.measure.revenue.sum().reach(100_000)) == "Reach(revenue: sum above 100,000)"
    assert repr(biz.measure.churn.reach(0.02, direction="below")).endswith("below 0.02)")


def test_a_time_below_a_second_has_a_unit_that_fits():
    times = (timedelta(0), timedelta(microseconds=28), timedelta(milliseconds=1.5), timedelta(seconds=2.5))
    assert [text(time) for time in times] == ["0s", "28µs", "1.5ms", "2.5s"]
