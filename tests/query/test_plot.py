"""What a chart is made of, as Vega-Lite."""

from __future__ import annotations

import pytest

from bizcode import InvalidQuery


def layers(picture) -> list[dict]:
    return picture.to_dict()["layer"]


def values(picture) -> list[dict]:
    """The rows that all layers draw from."""
    return layers(picture)[0].get("data", picture.to_dict().get("data"))["values"]


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


@pytest.fixture
def campaigns(biz):
    """Two users a week and campaign, of whom one goes on; campaign names are the same for long."""
    for week in range(3):
        for name in ("a campaign of the year 2024", "a campaign of the year 2025", None):
            for n in range(2):
                user, at = f"{name}-{week}-{n}", f"2024-01-{1 + 7 * week:02}"
                biz.track.View({"user_id": user, "source": name}, at=at)
                if n:
                    biz.track.Signup({"user_id": user}, at=at)
    return biz


def test_conversion_by_week_and_property_is_a_line_for_each_value(campaigns):
    rows = values(campaigns.track.funnel(["View", "Signup"]).by("week", "source").plot())
    assert {row["series"] for row in rows} == {
        "a campaign of the year 2024",
        "a campaign of the year 2025",
        "(none)",
    }
    assert {row["value"] for row in rows} == {0.5}


def test_of_many_lines_of_conversion_those_of_most_users_are_drawn(biz):
    at = "2024-01-01"
    for source in range(9):
        for n in range(source + 1):
            biz.track.View({"user_id": f"{source}-{n}", "source": f"s{source}"}, at=at)
    biz.track.Signup({"user_id": "0-0"}, at=at)
    rows = values(biz.track.funnel(["View", "Signup"]).by("week", "source").plot())
    assert {row["series"] for row in rows} == {f"s{n}" for n in range(1, 9)}


def test_the_bars_of_a_funnels_groups_leave_room_by_their_scale_as_their_labels_do(campaigns):
    drawn = layers(campaigns.track.funnel(["View", "Signup"]).by("source").plot())
    assert all("height" not in layer["mark"] for layer in drawn)
    assert len({str(layer["encoding"]["yOffset"]) for layer in drawn}) == 1


def test_the_cohorts_of_groups_whose_names_are_cut_are_told_apart(campaigns):
    rows = values(campaigns.track.cohort("View", "Signup", periods=2).by("source").plot())
    assert len({row["row"] for row in rows}) == 9
    assert any(row["row"].startswith("a campaign of the yea…\u00a0\u00a0\u00a0") for row in rows)


def test_a_heat_map_of_many_cohorts_says_how_many_it_leaves_out(biz):
    for day in range(70):
        biz.track.View({"user_id": str(day)}, at=86_400 * (19_723 + day))
    chart = biz.track.cohort("View", "View", periods=1, granularity="day").plot().chart.to_dict()
    assert chart["title"]["subtitle"].endswith("the first 60 of 70")


def test_anomalies_of_nothing_are_nothing_to_draw(biz):
    with pytest.raises(InvalidQuery, match="nothing to draw"):
        biz.measure.nothing.anomalies().since("90d").plot()
