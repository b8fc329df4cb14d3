"""A headless Chromium, and pages that say what went wrong on them."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import sync_playwright

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "chromium"
)
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]


@contextmanager
def chromium():
    """A browser for as long as the block lasts."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


def watched(context, hosts):
    """A new page and the list of what is wrong on it: console errors, exceptions, dialogs, requests elsewhere."""
    page, wrong = context.new_page(), []
    page.on(
        "console",
        lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None,
    )
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))

    def asked(request):
        if urlsplit(request.url).netloc not in hosts and not request.url.startswith(("data:", "blob:")):
            wrong.append(f"asked {request.url}")

    page.on("request", asked)
    return page, wrong


def settled(page):
    """Wait until everything on the page has been filled."""
    page.wait_for_selector("#page[aria-busy=false]", timeout=30_000)
    page.wait_for_selector("#page [aria-busy=true]", state="detached", timeout=30_000)


@contextmanager
def opening(browser, url):
    """Opens pages of a server by their paths; at the end nothing was wrong on any."""
    contexts, everything = [], []

    def go(path="", width=1280, **options):
        contexts.append(browser.new_context(viewport={"width": width, "height": 860}, **options))
        page, wrong = watched(contexts[-1], {urlsplit(url).netloc})
        everything.append(wrong)
        page.goto(f"{url}/{path}")
        settled(page)
        return page

    yield go
    for context in contexts:
        context.close()
    assert everything == [[] for _ in everything]
