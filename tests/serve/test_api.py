"""The JSON API gives the library's own answers."""

from __future__ import annotations

import random
from dataclasses import dataclass

import httpx
import orjson
import pytest

from bizcode import Business, ManualClock
from bizcode.serve import Keys, background


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    clock = ManualClock("2024-03-10T12:00:00")
    with Business(
        tmp_path_factory.mktemp("api") / "shop", clock=clock, worker=False, timezone="Europe/Berlin"
    ) as biz:
        random.seed(7)
        events = []
        for n in range(2_000):
            user, day = f"u{random.randrange(150)}", random.randrange(1, 10)
            kind = random.choice(["View", "View", "View", "Signup", "Purchase"])
            data = {
                "plan": random.choice(["free", "pro", None]),
                "amount": random.randrange(1, 100),
                "path": "/a b",
            }
            events.append(
                {
                    "event": kind,
                    "data": data,
                    "user": user,
                    "at": f"2024-03-{day:02}T{n % 24:02}:00:00",
                    "id": f"e{n}",
                }
            )
        biz.track.batch(events)
        for day in range(1, 11):
            biz.measure.revenue(
                day * 10.5, {"region": "eu" if day % 2 else "us"}, at=f"2024-03-{day:02}T10:00"
            )
        biz.measure.seats.set(12)
        biz.goal.define("more", target=biz.measure.revenue.sum().reach(1_000), by="2024-06-30", owner="ann")
        biz.view.define(
            "spenders",
            source=biz.track.Purchase,
            group_by="user",
            compute={"spent": biz.sum("amount"), "n": biz.count()},
            order_by={"spent": "desc"},
        )

        @biz.aggregate("Order")
        @dataclass
        class Order:
            status: str = "new"
            total: float = 0

            def created(self, e):
                self.total = e.total

            def paid(self, e):
                self.status = "paid"

        for n in range(5):
            biz.Order(f"o/{n}").append("created", total=n, at_desk="<b>1</b>")
            biz.Order(f"o/{n}").append("paid")
        biz.experiment.define(
            "colour", variants=["red", "blue"], goal=biz.track.Purchase.count(), autostart=True
        )
        for n in range(40):
            biz.experiment("colour").assign(f"u{n}").run()
        biz.stream.track.Purchase.key_by("plan").window.tumbling("1d").aggregate(
            n=biz.count()
        ).to.measure.daily.named("by day").start(since="start")
        biz.measure.seats.alert(name="many seats", above=10, notify=print)
        biz.drain()
        yield biz


@pytest.fixture(scope="module")
def api(shop):
    with background(shop, rate=None) as url, httpx.Client(base_url=f"{url}/api/v1", timeout=30) as client:
        yield client


def ask(api, path, **parameters):
    answer = api.get(path, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def told(api, path, **parameters):
    answer = api.get(path, params=parameters)
    return answer.status_code, answer.json()["error"]["message"]


def test_numbers_are_the_librarys(api, shop):
    assert ask(api, "/track/View/count")["result"] == shop.track.View.count().run()
    assert ask(api, "/track/*/unique")["result"] == shop.track.any.unique().run()
    got = ask(api, "/track/Purchase/sum", property="amount", where='{"plan": "pro", "amount": {"gte": 50}}')
    assert got["result"] == shop.track.Purchase.where(plan="pro", amount__gte=50).sum("amount").run()
    got = ask(
        api, "/track/Purchase/percentile", property="amount", p=90, since="2024-03-03", until="2024-03-06"
    )
    assert (
        got["result"]
        == shop.track.Purchase.between("2024-03-03", "2024-03-06").percentile(90, "amount").run()
    )
    got = ask(api, "/track/View/count", by=["day", "plan"], since="7d")
    want = shop.track.View.count().since("7d").by("day", "plan").run()
    assert [(row["key"], row["value"]) for row in got["result"]] == [
        ([k[0].isoformat(), k[1]], v) for k, v in want.items()
    ]
    assert got["by"] == ["day", "plan"]
    got = ask(api, "/track/View/count", since="week", vs="prev")["result"]
    assert got == {f: getattr(shop.track.View.count().since("week").vs("prev").run(), f) for f in got}


def test_groups_are_cut_and_say_so(api):
    got = ask(api, "/track/View/count", by="user", limit=3)
    assert (len(got["result"]), got["truncated"]) == (3, True)
    more = ask(api, "/track/View/count", by="user", limit=3, offset=3)
    assert more["result"][0] not in got["result"]
    assert ask(api, "/track/View/count", by="plan")["truncated"] is False


def test_metrics(api, shop):
    assert ask(api, "/measure")["result"] == [
        {"name": "daily", "kind": None}, {"name": "revenue", "kind": None}, {"name": "seats", "kind": "gauge"},
    ]  # fmt: skip
    assert (
        ask(api, "/measure/revenue/sum", where='{"region": "eu"}')["result"]
        == shop.measure.revenue.where(region="eu").sum().run()
    )
    assert ask(api, "/measure/seats/current")["result"] == 12
    assert (
        ask(api, "/measure/revenue/rate", property="1d", since="7d")["result"]
        == shop.measure.revenue.rate("1d").since("7d").run()
    )
    trend = shop.measure.revenue.trend().run()
    assert ask(api, "/measure/revenue/trend")["result"] == {
        "slope": trend.slope,
        "direction": trend.direction,
        "r2": trend.r2,
        "p_value": trend.p_value,
    }
    assert isinstance(ask(api, "/measure/revenue/anomalies")["result"], list)
    assert ask(api, "/measure/revenue/events", limit=1)["result"][0]["value"] == 105.0


def test_events_by_cursor_are_each_seen_once(api, shop):
    want = [event.id for event in shop.track.View.events()]
    got, cursor = [], None
    while True:
        page = ask(api, "/track/View/events", limit=137, **({"cursor": cursor} if cursor else {}))
        got += [event["id"] for event in page["result"]]
        cursor = page["cursor"]
        if cursor is None:
            break
    assert got == want
    assert told(api, "/track/View/events", cursor="x")[0] == 400


def test_names_and_schemas(api, shop):
    assert ask(api, "/track")["result"] == ["Purchase", "Signup", "View"]
    assert set(ask(api, "/track/View/schema")["result"]["properties"]) == {"plan", "amount", "path"}


def test_funnels_and_cohorts(api, shop):
    body = {"steps": ["View", {"event": "Purchase", "where": {"plan": "pro"}}], "within": "3d"}
    got = api.post("/funnel", json=body).json()["result"]
    want = shop.track.funnel(["View", shop.step("Purchase").where(plan="pro")]).within("3d")
    found = want.run()
    assert got["conversion"] == found.conversion
    assert [step["count"] for step in got["steps"]] == [step.count for step in found.steps]
    assert got["steps"][1]["median_time"] == found.steps[1].median_time.total_seconds()
    got = api.post("/funnel", json={**body, "by": ["plan"]}).json()
    assert [row["key"][0] for row in got["result"]] == list(want.by("plan").run())
    users = api.post("/funnel/users", json={**body, "which": "dropped", "step": 2, "limit": 1000}).json()
    assert users["result"] == want.dropped(step=2).run()
    got = api.post(
        "/cohort",
        json={"anchor": "Signup", "activity": "*", "periods": 4, "granularity": "day", "sum": "amount"},
    ).json()["result"]
    want = shop.track.cohort("Signup", "*", periods=4, granularity="day").sum("amount").run()
    assert [row["retention"] for row in got["cohorts"]] == [row.retention for row in want]
    assert [row["values"] for row in got["cohorts"]] == [row.values for row in want]


def test_goals_experiments_views_streams_alerts(api, shop):
    goal = ask(api, "/goals")["result"][0]
    assert goal["progress"]["value"]["current"] == shop.goal("more").progress().run().current == 577.5
    assert ask(api, "/goals/more")["result"]["owner"] == "ann"
    assert len(ask(api, "/goals/more/history")["result"]) == 1
    assert ask(api, "/experiments")["result"][0]["variants"] == ["red", "blue"]
    got = ask(api, "/experiments/colour/results")["result"]
    want = shop.experiment("colour").results().run()
    assert {name: found["users"] for name, found in got["variants"].items()} == {
        n: v.users for n, v in want.variants.items()
    }
    assert got["verdict"] == want.verdict
    assert len(ask(api, "/experiments/colour/daily")["result"]) == 1
    got = ask(api, "/views/spenders", limit=3, where='{"n": {"gte": 2}}')["result"]
    assert got == [dict(row) for row in shop.view.spenders.where(n__gte=2).limit(3).get()]
    assert ask(api, "/views")["result"][0]["rows"] == len(shop.view.spenders.get())
    assert ask(api, "/streams")["result"][0]["name"] == "by day"
    assert ask(api, "/alerts")["result"][0]["name"] == "many seats"


def test_entities_by_type_search_and_version(api):
    assert ask(api, "/entities")["result"] == [{"type": "Order", "count": 5}]
    page = ask(api, "/entities/Order", limit=2)
    assert [one["id"] for one in page["result"]] == ["o/0", "o/1"]
    assert [one["id"] for one in ask(api, "/entities/Order", limit=9, after=page["cursor"])["result"]] == [
        "o/2",
        "o/3",
        "o/4",
    ]
    assert ask(api, "/entities/Order", q="/4")["result"] == [{"id": "o/4", "version": 2}]
    assert ask(api, "/entities/Order/o%2F3")["result"]["state"] == {"status": "paid", "total": 3}
    assert ask(api, "/entities/Order/o%2F3", version=1)["result"]["state"] == {"status": "new", "total": 3}
    assert [one["type"] for one in ask(api, "/entities/Order/o%2F3/events")["result"]] == [
        "Order.created",
        "Order.paid",
    ]
    assert told(api, "/entities/Order/none")[0] == 404
    assert told(api, "/entities/Nothing")[0] == 404


def test_the_overview_and_the_business(api, shop):
    got = ask(api, "/overview", since="7d")["result"]
    assert [one["name"] for one in got["events"]] == list(
        shop.track.any.count().since("7d").by("event").run()
    )
    assert got["events"][0]["count"]["current"] == shop.track.View.count().since("7d").run()
    assert got["goals"][0]["name"] == "more"
    assert got["experiments"][0]["value"]["verdict"]
    assert ask(api, "/info")["result"]["timezone"] == "Europe/Berlin"


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [
        ("/track/View/jump", 404, "count"),
        ("/track/View/count?since=soon", 400, "soon"),
        ("/track/View/count?wehre=1", 400, "where"),
        ("/track/View/count?where=plan", 400, "JSON"),
        ("/track/View/count?where=[]", 400, "object"),
        ('/track/View/count?where={"plan":{"near":1}}', 400, "near"),
        ("/track/View/sum", 400, "property"),
        ("/track/View/count?limit=-1", 400, "limit"),
        ("/track/View/count?since=7d&since=8d", 400, "twice"),
        ("/track/View/percentile?property=a&p=101", 400, "p"),
        ("/track/View/percentile?property=a&p=nan", 400, "p"),
        ("/track/%FF/count", 400, ""),
        ("/track/View/count?since=%FF", 400, "UTF-8"),
        ("/track/ /count", 400, "blank"),
        ("/goals/none", 404, "none"),
        ("/experiments/none/results", 404, "none"),
        ("/views/none", 404, "none"),
        ("/nothing", 404, "openapi"),
        ("/measure/seats/sum?property=x", 400, "property"),
        ("/live?events=A&after=soon", 400, "position"),
    ],
)
def test_what_is_wrong_is_said(api, path, status, said):
    answer = api.get(path)
    if path == "/track/%FF/count":
        assert answer.status_code in (200, 400)
        return
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]["message"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "steps"),
        ({"steps": []}, "from 1"),
        ({"steps": [3]}, "text"),
        ({"steps": ["A"], "wthin": "1d"}, "wthin"),
        ({"steps": ["A", "B"], "within": "0s"}, "0s"),
        ({"steps": ["A", {"event": "B", "optional": True}], "order": "strict"}, "ordered"),
        ({"steps": ["A"], "exclude": [{"event": "B"}]}, "exclude"),
        ([], "object"),
        (None, "object"),
    ],
    ids=str,
)
def test_wrong_bodies_are_said(api, body, said):
    answer = api.post("/funnel", content=orjson.dumps(body), headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert said in answer.json()["error"]["message"]
    assert api.post("/funnel", content=b"{}").status_code == 415
    assert api.get("/funnel").headers["allow"] == "POST"


def test_writing_by_the_api(shop, api):
    key = {"authorization": f"Bearer {Keys(shop.store).create('write')}"}
    body = {
        "events": [
            {"event": "Api", "data": {"n": 1}, "user": "u1", "id": "api-1"},
            {"event": "Api", "at": "soon"},
        ]
    }
    answer = api.post("/track", json=body, headers=key)
    assert answer.json() == {
        "accepted": 1,
        "rejected": [{"index": 1, "message": answer.json()["rejected"][0]["message"]}],
    }
    assert shop.track.Api.count().run() == 1
    answer = api.post(
        "/measure", json={"samples": [{"metric": "load", "value": 0.5, "tags": {"host": "a"}}]}, headers=key
    )
    assert answer.json()["accepted"] == 1
    assert shop.measure.load.current(host="a").run() == 0.5
    assert api.post("/track", json=body).status_code == 401
    assert api.post("/track", json={"events": [{"event": "A", "at": "soon"}]}, headers=key).status_code == 400
    shop.retract("api-1")
