"""The browser SDKs of PostHog and Segment, in a page of another origin."""

from __future__ import annotations

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from bizcode import Business
from bizcode.serve import Keys, background

from .browser import chromium, watched

SDK = Path(__file__).parent / "sdk"
POSTHOG = """<!doctype html><title>Shop</title><link rel="icon" href="data:,"><script type="module">
import posthog from "/posthog-1.449.2.js";
posthog.init("{key}", {{api_host: "{url}", persistence: "localStorage", request_batching: {batching}, disable_compression: {plain},
  autocapture: false, opt_out_useragent_filter: true, capture_pageleave: true}});
posthog.capture("Clicked", {{n: 1}});
posthog.identify("u1", {{plan: "pro"}});
posthog.capture("Bought", {{amount: 9.5}});
document.body.id = "done";
</script><body></body>"""
# The snippet as PostHog gives it to be pasted into pages; it loads the SDK itself from the host.
SNIPPET = """!function(t,e){var o,n,p,r;e.__SV||(window.posthog=e,e._i=[],e.init=function(i,s,a){function g(t,e)\
{var o=e.split(".");2==o.length&&(t=t[o[0]],e=o[1]),t[e]=function(){t.push([e].concat(Array.prototype.slice\
.call(arguments,0)))}}(p=t.createElement("script")).type="text/javascript",p.crossOrigin="anonymous",p.async=!0,\
p.src=s.api_host.replace(".i.posthog.com","-assets.i.posthog.com")+"/static/array.js",\
(r=t.getElementsByTagName("script")[0]).parentNode.insertBefore(p,r);var u=e;for(void 0!==a?u=e[a]=[]:a="posthog",\
u.people=u.people||[],u.toString=function(t){var e="posthog";return"posthog"!==a&&(e+="."+a),t||(e+=" (stub)"),e},\
u.people.toString=function(){return u.toString(1)+".people (stub)"},o="init capture register identify alias reset \
group onFeatureFlags getFeatureFlag isFeatureEnabled reloadFeatureFlags".split(" "),n=0;n<o.length;n++)g(u,o[n]);\
e._i.push([i,s,a])},e.__SV=1)}(document,window.posthog||[]);"""
PASTED = """<!doctype html><title>Shop</title><link rel="icon" href="data:,"><body><button>Buy</button><script>{snippet}
posthog.init("{key}", {{api_host: "{url}", opt_out_useragent_filter: true, disable_surveys: false}});
posthog.onFeatureFlags((_, values) => {{
  if (document.body.id) return;
  document.body.id = "done";
  document.body.dataset.before = posthog.getFeatureFlag("pricing");
  posthog.capture("Viewed", {{page: "pricing"}});
  posthog.identify("u1", {{plan: "pro"}});
  posthog.group("company", "acme", {{seats: 3}});
  posthog.onFeatureFlags(() => {{
    if (document.body.dataset.after) return;
    document.body.dataset.after = posthog.getFeatureFlag("pricing");
    posthog.capture("Bought", {{amount: 9.5}}, {{$set: {{paying: true}}}});
    posthog.getSurveys((found) => {{ document.body.dataset.surveys = found.length; }});
    posthog.startSessionRecording();
    posthog.reset();
    posthog.capture("Left");
  }});
}});
</script></body>"""
SEGMENT = """<!doctype html><title>Shop</title><link rel="icon" href="data:,"><script src="/segment-1.84.3.js"></script><script>
const [analytics] = [AnalyticsNext.AnalyticsBrowser.load({{writeKey: "{key}", cdnURL: "{url}"}})];
(async () => {{
  await analytics.page("Shop", "Pricing");
  await analytics.track("Clicked", {{n: 1}});
  await analytics.identify("u1", {{plan: "pro"}});
  await analytics.track("Bought", {{amount: 9.5}});
  await analytics.group("g1", {{seats: 3}});
  document.body.id = "done";
}})();
</script><body></body>"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def shop(tmp_path):
    with Business(tmp_path / "shop", worker=False) as biz:
        yield biz


@pytest.fixture
def page_of():
    """Serves an HTML page and the SDKs; gives its URL."""
    servers = []

    def serve(html):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                file = SDK / f"{self.path[1:]}.gz"
                script = self.path.endswith(".js")
                content = gzip.decompress(file.read_bytes()) if script else html.encode()
                self.send_response(200)
                self.send_header("content-type", "text/javascript" if script else "text/html")
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("localhost", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://localhost:{server.server_port}/"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


def visit(browser, shop, page_of, html, wanted, **more):
    """Open the page, wait until all events have come, close it."""
    with background(shop) as url:
        key = Keys(shop.store).create("write")
        where = page_of(html.format(key=key, url=url, **more))
        context = browser.new_context()
        page, wrong = watched(context, {urlsplit(url).netloc, urlsplit(where).netloc})
        page.goto(where)
        page.wait_for_selector("body#done", state="attached", timeout=20_000)
        for _ in range(200):
            if wanted <= set(shop.track.names().run()):
                break
            page.wait_for_timeout(50)
        page.goto("about:blank")  # what is left goes by sendBeacon
        page.wait_for_timeout(300)
        context.close()
    return wrong


@pytest.mark.parametrize(
    ("batching", "plain"), [("true", "false"), ("false", "true")], ids=["batched", "single"]
)
def test_posthog_in_a_page(browser, shop, page_of, batching, plain):
    wanted = {"Clicked", "$identify", "Bought", "$pageview"}
    wrong = visit(browser, shop, page_of, POSTHOG, wanted, batching=batching, plain=plain)
    assert wrong == []
    assert wanted <= set(shop.track.names().run())
    assert shop.track.Bought.sum("amount").run() == 9.5
    assert shop.track.Clicked.count().by("user").run() == {"u1": 1}
    assert shop.track["$identify"].events().run()[0]["plan"] == "pro"
    bought = shop.track.Bought.events().run()[0]
    assert len(bought.id) == 36
    assert "token" not in bought


def test_posthogs_pasted_snippet_with_an_experiment(browser, shop, page_of):
    shop.experiment.define("pricing", variants=["a", "b"], goal=shop.track.Bought.unique(), autostart=True)
    wanted = {"$pageview", "Viewed", "$identify", "$groupidentify", "Bought", "Left"}
    wrong = visit(browser, shop, page_of, PASTED, wanted, snippet=SNIPPET)
    assert wrong == []
    assert wanted <= set(shop.track.names().run())
    called = shop.track["$feature_flag_called"].events().run()
    assert {event.user for event in called} >= {"u1"}
    # Before and after signing in she was shown one variant, so she counts; and what she bought counts with it.
    (variant,) = {event.experiments["pricing"] for event in called}
    counted = shop.experiment("pricing").results().run().variants
    assert (counted[variant].users, counted[variant].conversions) == (1, 1)
    assert shop.track.Left.events().run()[0].user not in ("u1", None)
    assert shop.track.Viewed.count().by("user").run() == {"u1": 1}


def test_segment_in_a_page(browser, shop, page_of):
    wanted = {"$pageview", "Clicked", "$identify", "Bought", "$groupidentify"}
    wrong = visit(browser, shop, page_of, SEGMENT, wanted)
    assert wrong == []
    assert wanted <= set(shop.track.names().run())
    assert shop.track["$pageview"].events().run()[0]["category"] == "Shop"
    assert shop.track.Clicked.count().by("user").run() == {"u1": 1}
    assert shop.track.Bought.events().run()[0]["context"]["page"]["url"].startswith("http://localhost")
