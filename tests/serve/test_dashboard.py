"""The dashboard in a real browser, over the demo's store: every page, against the library's own numbers."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from bizcode import Business, ManualClock
from bizcode.demo import END, load_cdnow
from bizcode.serve import Keys, background
from bizcode.serve.pages import PAGES
from bizcode.serve.showcase import showcase

from .browser import chromium, opening, settled, watched

NASTY = '<img src=x onerror="window.hacked=1">'
TOKEN = "a token that is long enough"


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    clock = ManualClock(END)
    with Business(tmp_path_factory.mktemp("dashboard") / "acme", clock=clock, worker=False) as biz:
        load_cdnow(biz)
        biz.compact()
        showcase(biz, clock)

        @biz.on.track[NASTY]
        def broken(event):
            raise ValueError(f"can't take {NASTY}")

        yield biz


@pytest.fixture(scope="module")
def url(demo):
    with background(demo, rate=None) as found:
        yield found


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def opened(browser, url):
    """Opens a page of the demo's dashboard."""
    with opening(browser, url) as go:
        yield go


def value(page, selector, attribute):
    return float(page.locator(selector).first.get_attribute(attribute))


@pytest.mark.parametrize("path", PAGES)
def test_each_page_loads_quietly_and_fits(opened, path):
    page = opened(path)
    assert page.locator("h1").inner_text() == PAGES[path]
    assert page.locator("nav a[aria-current=page]").inner_text() == PAGES[path]
    for scheme, width in (("light", 1280), ("dark", 1280), ("dark", 390), ("light", 390)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size({"width": width, "height": 850})
        assert page.locator("[role=alert]").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = page.evaluate(
        """[...document.querySelectorAll('input, select, button, a')].filter((one) =>
        !(one.textContent.trim() || one.getAttribute('aria-label') || one.labels?.length)).length"""
    )
    assert unnamed == 0


def test_the_overview_has_the_librarys_numbers(opened, demo):
    page = opened()
    assert (
        value(page, "[data-name=revenue] [data-value]", "data-value")
        == demo.measure.revenue.sum().since("28d").run()
    )
    assert (
        value(page, "[data-name=Purchase] [data-value]", "data-value")
        == demo.track.Purchase.count().since("28d").run()
    )
    change = demo.measure.revenue.sum().since("28d").vs("prev").run()
    assert f"{change.percent:.1f} %" in page.locator("[data-name=revenue]").inner_text()
    goal = demo.goal("Revenue of 1998").progress().run()
    assert page.locator(f"[data-current='{goal.current}']").count() == 1
    assert goal.status in page.locator("a.tile", has_text="Revenue of 1998").inner_text()
    results = demo.experiment("A/A: nothing was changed").results().run()
    assert results.verdict in page.locator("main").inner_text()
    page.get_by_role("button", name="1 year").click()
    settled(page)
    assert value(page, "[data-name=revenue] [data-value]", "data-value") == pytest.approx(
        demo.measure.revenue.sum().since("1y").run()
    )


def test_events_are_explored_grouped_and_filtered(opened, demo, url):
    page = opened("events?event=Purchase&since=90d")
    assert value(page, "[data-total]", "data-total") == demo.track.Purchase.count().since("90d").run()
    page.get_by_label("Number").select_option("sum")
    settled(page)
    want = demo.track.Purchase.sum("amount").since("90d").run()
    page.get_by_label("of", exact=True).select_option("amount")
    settled(page)
    assert value(page, "[data-total]", "data-total") == pytest.approx(want)
    page.get_by_role("button", name="Add condition").click()
    page.get_by_label("Property").fill("cds")
    page.get_by_label("Condition", exact=True).select_option("gte")
    page.get_by_label("Value", exact=True).fill("5")
    page.get_by_label("Value", exact=True).press("Tab")
    settled(page)
    assert value(page, "[data-total]", "data-total") == pytest.approx(
        demo.track.Purchase.where(cds__gte=5).sum("amount").since("90d").run()
    )
    page.get_by_label("Every").select_option("")
    page.get_by_label("Split by").select_option("cds")
    settled(page)
    best = next(
        iter(demo.track.Purchase.where(cds__gte=5).sum("amount").since("90d").by("cds").run().items())
    )
    row = page.locator("tbody tr").first.locator("td").all_inner_texts()
    assert (row[0], row[1]) == (str(best[0]), f"{best[1]:,.2f}")
    # What was asked stands in the address.
    again = opened(page.url.removeprefix(f"{url}/"))
    assert again.locator("tbody tr").first.locator("td").all_inner_texts() == row


def test_metrics_funnels_and_cohorts(opened, demo):
    page = opened("metrics?metric=revenue&since=90d")
    assert value(page, "[data-total]", "data-total") == pytest.approx(
        demo.measure.revenue.sum().since("90d").run()
    )
    page = opened("funnels?within=30d")
    want = demo.track.funnel(["Purchase", "Purchase"]).within("30d").run()
    got = [int(one.get_attribute("data-count")) for one in page.locator("[data-count]").all()]
    assert got == [step.count for step in want.steps]
    assert value(page, "[data-conversion]", "data-conversion") == want.conversion
    page.get_by_role("button", name="Who stopped before").click()
    page.get_by_text("Who reached step 1, but not step 2").wait_for()
    page = opened("cohorts?periods=6")
    want = demo.track.cohort("Purchase", "Purchase", periods=6, granularity="month").run()
    rows = [row.locator("td").all_inner_texts() for row in page.locator("table.heat tbody tr").all()[1:]]
    assert [row[0] for row in rows] == [f"{cohort.size:,}" for cohort in want]
    assert [row[1:] for row in rows] == [
        [f"{int(share * 100 + 0.5)} %" for share in cohort.retention] for cohort in want
    ]


def test_experiments_goals_views_streams_and_entities(opened, demo):
    page = opened("experiments")
    want = demo.experiment("A/A: nothing was changed").results().run()
    text = page.locator("main").inner_text()
    assert all(f"{variant.users:,}" in text for variant in want.variants.values())
    page.get_by_text("Lift by day").click()
    page.locator("details .u-over").wait_for()
    page = opened("goals")
    assert demo.goal("Orders of the first half").progress().run().status in page.locator("main").inner_text()
    page = opened("views")
    page.locator("tbody tr").first.wait_for()
    best = demo.view["Best customers"].limit(1).get().run()[0]
    assert page.locator("tbody tr").first.locator("td").all_inner_texts()[:3] == [
        best.customer_id,
        f"{best.spent:,.2f}",
        str(best.orders),
    ]
    page = opened("streams")
    assert "none" in page.locator("tbody tr", has_text="Purchases by week").inner_text()
    page = opened("entities?type=Customer")
    page.get_by_label("Search").fill("0759")
    page.get_by_role("button", name="07592").click()
    state = demo.Customer("07592").state().run()
    page.get_by_role("row", name=f"orders {state['orders']}").wait_for()
    page.get_by_label("Version to look at").fill("3")
    earlier = demo.Customer("07592").state(version=3).run()
    page.get_by_role("row", name=f"spent {earlier['spent']:,.2f}").wait_for()
    assert page.locator(".timeline li.after").count() == state["orders"] - 3


def test_what_is_recorded_appears_at_once(opened, demo):
    events, views, overview = opened("events?event=Live"), opened("views"), opened("")
    events.get_by_label("Event", exact=True).select_option("*")
    events.locator(".dot.on").wait_for()
    views.locator("tbody tr").first.wait_for()
    overview.locator(".dot.on").wait_for()
    before = value(overview, "[data-name=Purchase] [data-value]", "data-value")
    demo.track.Purchase({"customer_id": "new-here", "cds": 1, "amount": 99_999.5}, at="1998-06-30T20:00:00")
    events.get_by_text("customer_id: new-here").wait_for(timeout=10_000)
    views.get_by_role("row", name="new-here 99,999.50").wait_for(timeout=10_000)
    overview.locator(f"[data-name=Purchase] [data-value='{int(before) + 1}']").wait_for(timeout=15_000)


def test_html_is_shown_and_never_run(opened, demo):
    demo.track[NASTY]({NASTY: NASTY, "note": NASTY}, user=NASTY)
    demo.Note(NASTY).append("written", text=NASTY)
    demo.measure[NASTY](1, {NASTY: NASTY})
    demo.view.define(NASTY, source=demo.track[NASTY], group_by="note", compute={"n": demo.count()})
    clock = demo.clock
    for _ in range(6):
        demo.drain()
        clock.advance("5m")
    assert demo.dead_letters.list().run()
    pages = [
        opened(),
        opened("events"),
        opened("views"),
        opened("entities?type=Note"),
        opened("dead-letters"),
        opened("goals"),
    ]
    pages[1].get_by_label("Event", exact=True).select_option(NASTY)
    pages[1].get_by_label("Split by").select_option("note")
    pages[2].get_by_label("View").select_option(NASTY)
    pages[2].get_by_role("row", name=NASTY).wait_for()
    pages[3].get_by_role("button", name=NASTY).click()
    pages[3].locator(".timeline li").wait_for()
    metrics = opened("metrics")
    metrics.get_by_label("Metric").select_option(NASTY)
    for page in [*pages, metrics]:
        settled(page)
        assert page.locator("main img").count() == 0
        assert page.evaluate("window.hacked") is None
    assert NASTY in pages[4].locator("tbody").inner_text()
    # And then the dead letter is discarded.
    pages[4].get_by_role("button", name="Discard").click()
    pages[4].get_by_text("None. What a handler").wait_for()
    assert demo.dead_letters.list().run() == []


def test_by_keyboard_alone(opened):
    page = opened("goals")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the page"
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main"
    page.set_viewport_size({"width": 390, "height": 844})
    menu = page.get_by_role("button", name="Menu")
    menu.focus()
    page.keyboard.press("Enter")
    assert menu.get_attribute("aria-expanded") == "true"
    link = page.get_by_role("link", name="Funnels")
    assert link.is_visible()
    link.focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/funnels*")
    settled(page)


def test_texts_can_be_told_from_their_ground(opened):
    script = """(() => {
      const style = getComputedStyle(document.documentElement), paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
      const light = (name) => { paint.fillStyle = style.getPropertyValue(name); paint.fillRect(0, 0, 1, 1);
        return [...paint.getImageData(0, 0, 1, 1).data].slice(0, 3).map((one) => one / 255).map((one) => one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4)
          .reduce((sum, one, n) => sum + one * [.2126, .7152, .0722][n], 0); };
      const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + .05) / (y + .05); };
      return [['--ink', '--card'], ['--ink', '--ground'], ['--faint', '--card'], ['--faint', '--ground'], ['--faint', '--hover'], ['--accent', '--card'], ['--on-accent', '--accent'],
        ['--good', '--good-ground'], ['--bad', '--bad-ground'], ['--warn', '--warn-ground'], ['--good', '--card'], ['--bad', '--card']].map(([a, b]) => [a, b, ratio(a, b)]);
    })()"""
    for scheme in ("light", "dark"):
        for ink, ground, ratio in opened("connect", color_scheme=scheme).evaluate(script):
            assert ratio >= 4.5, (scheme, ink, ground, ratio)


def test_the_theme_is_kept(opened):
    page = opened("connect")
    dark = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(dark)
    page.get_by_role("button", name="Dark theme").click()
    assert page.evaluate(dark) != before
    page.reload()
    assert page.get_by_role("button", name="Light theme").is_visible()


def test_signing_in_and_out(browser, demo):
    with background(demo, token=TOKEN) as url:
        context = browser.new_context()
        page, wrong = watched(context, {urlsplit(url).netloc})
        page.goto(f"{url}/goals")
        page.get_by_label("Token").fill("a wrong one")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("isn't known here").wait_for()
        page.get_by_label("Token").fill(Keys(demo.store).create("write"))
        page.get_by_role("button", name="Sign in").click()
        page.get_by_text("only writes").wait_for()
        page.get_by_label("Token").fill(TOKEN)
        page.get_by_role("button", name="Sign in").click()
        page.locator("#page .tile").first.wait_for()
        cookie = next(one for one in context.cookies() if one["name"] == "bizcode_session")
        assert cookie["httpOnly"]
        assert cookie["sameSite"] == "Strict"
        assert TOKEN not in cookie["value"]
        page.goto(f"{url}/funnels")
        settled(page)
        assert page.locator("[data-conversion]").count() == 1
        page.get_by_role("button", name="Sign out").click()
        page.goto(f"{url}/funnels")
        assert page.get_by_label("Token").is_visible()
        # Chromium notes the 401 and 403 of the sign-in page itself; nothing else was wrong.
        assert [one for one in wrong if "40" not in one] == []
        context.close()
