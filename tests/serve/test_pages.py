"""What pages say about time, people and nothing: over a small business whose clock stands at noon."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from bizcode import Business, ManualClock
from bizcode.serve import background
from bizcode.serve.pages import PAGES, title

from .browser import chromium, opening, settled

ZONE = ZoneInfo("America/New_York")


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def york(tmp_path):
    clock = ManualClock(datetime(2024, 3, 12, 12, tzinfo=ZONE))
    with Business(tmp_path / "york", clock=clock, timezone="America/New_York", worker=False) as biz:
        yield biz


@pytest.fixture
def opened(browser, york):
    """Opens a page of that business."""
    with background(york) as url, opening(browser, url) as go:
        yield go


def numbers(page):
    """The table below the chart, row by row."""
    page.get_by_text("The numbers as a table").click()
    page.locator("details table").wait_for()
    return [row.locator("td").all_inner_texts() for row in page.locator("details table tbody tr").all()]


def test_a_bucket_that_is_not_whole_is_told_from_the_others(opened, york):
    for day in range(1, 13):
        for hour in (3, 20):
            york.track.Signup({"user_id": "u1"}, at=datetime(2024, 3, day, hour, tzinfo=ZONE))
    page = opened("events?event=Signup&since=7d&every=day")
    rows = numbers(page)
    # The week begins at noon of the 5th and ends at noon of the 12th, over the change to summer time.
    want = york.track.Signup.count().since("7d").by("day").run()
    assert [row[1] for row in rows] == [str(value) for value in want.values()]
    assert rows[0] == ["5 Mar 2024 (in part)", "1"]
    assert rows[-1] == ["12 Mar 2024 (in part)", "1"]
    assert not any("part" in row[0] for row in rows[1:-1])
    assert "only a part lies in this range" in page.locator("main").inner_text()
    # Of all time, only today isn't over.
    assert [
        row[0] for row in numbers(opened("events?event=Signup&since=&every=day")) if "part" in row[0]
    ] == ["12 Mar 2024 (in part)"]


def test_a_bucket_that_has_not_begun_is_not_drawn(opened, york):
    york.clock.set(datetime(2024, 3, 20, tzinfo=ZONE))
    for day in range(1, 20):
        york.track.Signup({"user_id": "u1"}, at=datetime(2024, 3, day, 12, tzinfo=ZONE))
    page = opened("events?event=Signup&since=7d&every=day")
    rows = numbers(page)
    assert (rows[0][0], rows[-1][0]) == ("13 Mar 2024", "19 Mar 2024")
    assert "only a part" not in page.locator("main").inner_text()
    assert numbers(opened())[-1][0] == "19 Mar 2024"


def test_today_goes_by_hours(opened, york):
    york.track.Signup({"user_id": "u1"}, at=datetime(2024, 3, 12, 9, 30, tzinfo=ZONE))
    page = opened("?since=today")
    assert page.locator("h2", has_text="By hour").count() == 1
    rows = numbers(page)
    assert [row[0] for row in rows if row[1] == "1"] == ["12 Mar 2024, 09:00"]
    page = opened("events")
    page.get_by_role("button", name="Today").click()
    settled(page)
    assert page.get_by_label("Every").input_value() == "hour"
    page.get_by_role("button", name="28 days").click()
    settled(page)
    assert page.get_by_label("Every").input_value() == "day"


def test_a_user_leads_to_all_that_she_did(opened, york):
    york.track.Signup(user_id="ann")
    york.track.Purchase({"customer_id": "ann & <b>bob</b>", "amount": 3})
    york.track.Purchase({"amount": 7}, user="ann")
    page = opened("events?event=Purchase")
    page.get_by_role("link", name="ann", exact=True).click()
    page.wait_for_url("**/events?event=*")
    settled(page)
    assert page.locator(".lines tbody b").all_inner_texts() == ["Purchase", "Signup"]
    page = opened("events?event=Purchase")
    page.get_by_role("link", name="ann & <b>bob</b>").click()
    page.wait_for_url("**where=*")
    settled(page)
    assert page.locator(".lines tbody b").all_inner_texts() == ["Purchase"]


def test_a_goal_is_drawn_to_its_deadline(opened, york):
    york.clock.set(datetime(2024, 3, 1, tzinfo=ZONE))
    york.goal.define("hundred", target=york.track.Signup.count().reach(100), by="2024-03-31")
    for day in range(1, 12):
        for n in range(2 + day % 2):
            york.track.Signup({"user_id": f"u{n}"}, at=datetime(2024, 3, day, 9, n, tzinfo=ZONE))
    york.clock.set(datetime(2024, 3, 12, 12, tzinfo=ZONE))
    page = opened("goals")
    page.locator(".u-over").wait_for()
    rows = numbers(page)
    progress = york.goal("hundred").progress().run()
    assert rows[0][0] == "1 Mar 2024"
    assert rows[-1][0] == "31 Mar 2024"
    assert float(rows[-1][3].replace(",", "")) == pytest.approx(progress.projected, abs=0.005)
    # Orders are counted whole, so is their projection.
    assert page.get_by_role("row", name=f"projected {progress.projected:,.0f}").count() == 1


@pytest.mark.parametrize("path", PAGES)
def test_a_page_of_an_empty_business_says_how_to_begin(opened, path):
    page = opened(path)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 850})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(
            "[...document.querySelectorAll('main p, main pre')].every((one) => one.getBoundingClientRect().right <= innerWidth)"
        )
    if path != "dead-letters":
        assert page.locator("main pre").count() >= 1


def test_a_snippet_is_copied_or_else_selected(opened):
    page = opened("connect")
    code = page.locator("section", has_text="PostHog, in pages").locator("pre")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == code.text_content()
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.get_by_role("button", name="Copy").first.click()
    page.get_by_role("button", name="Selected").wait_for()
    assert page.evaluate("getSelection().toString()").startswith("from posthog")


def test_the_overview_fills_when_the_first_event_comes(opened, york):
    page = opened()
    page.get_by_text("Begin here").wait_for()
    page.locator(".dot.on").wait_for()
    york.track.Signup(user_id="u1")
    page.locator("[data-name=Signup]").wait_for(timeout=15_000)
    assert page.get_by_text("Begin here").count() == 0


def test_the_heat_map_is_legible_at_every_strength(opened, york):
    for n in range(4):
        for day in range(1, 12 - 2 * n):
            york.track.Visit({"user_id": f"u{n}"}, at=datetime(2024, 3, day, 9, tzinfo=ZONE))
    page = opened("cohorts?by=day&periods=10")
    script = """() => { const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
      const card = getComputedStyle(document.querySelector('.card')).backgroundColor;
      const light = (...shades) => { paint.globalCompositeOperation = 'source-over';
        for (const shade of shades) { paint.fillStyle = shade; paint.fillRect(0, 0, 1, 1); }
        return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map((one) => one / 255).map((one) => one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4)
          .reduce((sum, one, n) => sum + one * [.2126, .7152, .0722][n], 0); };
      return [...document.querySelectorAll('td.cell')].map((cell) => { const style = getComputedStyle(cell);
        const [x, y] = [light(style.color), light(card, style.backgroundColor)].sort((p, q) => q - p); return (x + .05) / (y + .05); }); }"""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        found = page.evaluate(script)
        assert len(found) == 10
        assert min(found) >= 4.5, scheme


def test_a_business_in_its_usual_place_is_called_by_its_directory(tmp_path):
    with Business(tmp_path / "acme" / ".bizcode", worker=False) as biz:
        assert title(biz) == "acme"
