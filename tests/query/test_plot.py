"""What a chart is made of, as Vega-Lite."""

from __future__ import annotations

import pytest

from bizcode import InvalidQuery


def layers(picture) -> list[dict]:
    return picture.to_dict()["layer"]


@pytest.fixture
def small(biz):
    for day in range(1, 9):
        biz.measure.rate(day / 40, {}, at=f"2024-03-{day:02}")
        biz.measure.large(day * 1000, {}, at=f"2024-03-{day:02}")
    return biz


def test_small_numbers_have_no_milli_on_their_axis(small):
    formats = {
        name: layers(small.measure[name].avg().by("day").plot())[0]["encoding"]["y"]["axis"]["format"]
        for name in ("rate", "large")
    }
    assert formats == {"rate": "~f", "large": "~s"}


def test_the_points_of_one_series_are_not_gaps_in_its_line(small):
    points = layers(small.measure.rate.avg().by("day").plot())[-1]
    assert points["mark"]["filled"]
    assert "fill" not in points["mark"]
    assert points["encoding"]["color"]["value"] != "white"


def test_a_trend_is_its_samples_around_their_line(small):
    picture = small.measure.rate.trend().plot()
    rows = layers(picture)[0].get("data", picture.to_dict().get("data"))["values"]
    assert [row["value"] for row in rows[:8]] == [day / 40 for day in range(1, 9)]
    for row in rows[:8]:
        assert row["low"] == pytest.approx(row["value"])
        assert row["high"] == pytest.approx(row["value"])


def test_a_trend_without_samples_has_nothing_to_draw(biz):
    with pytest.raises(InvalidQuery, match="too few samples"):
        biz.measure.none.trend().plot()


def test_weeks_are_marked_where_they_begin(small):
    axis = layers(small.measure.rate.avg().by("week").plot())[0]["encoding"]["x"]["axis"]
    assert [(tick["month"], tick["date"]) for tick in axis["values"]] == [(2, 26), (3, 4)]
    for query in (
        small.measure.rate.avg().by("day"),
        small.measure.rate.avg().between("2024-03-04", "2024-03-05").by("hour"),
    ):
        assert "values" not in layers(query.plot())[0]["encoding"]["x"]["axis"]


def test_events_and_samples_are_drawn_by_their_numbers(biz):
    for n in range(3):
        biz.track.Seen(x=n)
        biz.measure.price(n)
    assert biz.track.Seen.events().plot()
    assert biz.measure.price.events().plot()
