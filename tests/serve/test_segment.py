"""Segment's HTTP API, driven by its own SDK and by hand."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
import segment.analytics as segment
from segment.analytics.client import Client


@pytest.fixture(params=[False, True], ids=["plain", "gzip"])
def client(url, key, request):
    errors = []
    made = Client(
        key,
        host=url,
        gzip=request.param,
        max_retries=0,
        upload_interval=0.05,
        on_error=lambda error, _: errors.append(error),
    )
    made.failures = errors
    yield made
    made.shutdown()


def test_the_python_sdk_sends_every_type(client, shop):
    client.track("u1", "Signup", {"plan": "pro"}, message_id="m1")
    client.page("u1", "Docs", "Pricing", {"path": "/pricing"})
    client.screen("u1", "App", "Home", {"tab": 1})
    client.group("u1", "g1", {"seats": 5})
    client.identify("u1", {"email": "a@b.c"}, anonymous_id="anon-1")
    client.track(anonymous_id="anon-1", event="View")
    client.alias("old-1", "u1")
    client.track("old-1", "View")
    client.flush()
    assert client.failures == []
    assert shop.track.names().run() == [
        "$create_alias", "$groupidentify", "$identify", "$pageview", "$screen", "Signup", "View",
    ]  # fmt: skip
    assert shop.track.Signup.events().run()[0].id == "m1"
    page = shop.track["$pageview"].events().run()[0]
    assert (page["name"], page["category"], page["path"], page.user) == ("Pricing", "Docs", "/pricing", "u1")
    assert shop.track["$groupidentify"].events().run()[0]["$group_key"] == "g1"
    assert shop.track["$identify"].events().run()[0]["email"] == "a@b.c"
    assert shop.track.View.count().by("user").run() == {"u1": 2}


def test_a_message_id_is_stored_once(client, shop):
    for _ in range(3):
        client.track("u1", "Pay", {"amount": 9}, message_id="pay-1")
    client.flush()
    assert shop.track.Pay.sum("amount").run() == 9


def test_a_wrong_key_is_told_to_the_sdk(url, shop):
    errors = []
    client = Client("wrong", host=url, max_retries=0, on_error=lambda error, _: errors.append(error))
    client.track("u1", "Signup")
    client.shutdown()
    assert isinstance(errors[0], segment.request.APIError)
    assert "write key" in str(errors[0])
    assert shop.track.names().run() == []


@pytest.mark.parametrize(
    ("type", "more", "name"),
    [
        ("track", {"event": "Signup"}, "Signup"),
        ("page", {"name": "Home"}, "$pageview"),
        ("screen", {"name": "Home"}, "$screen"),
        ("identify", {"traits": {"plan": "pro"}}, "$identify"),
        ("group", {"groupId": "g"}, "$groupidentify"),
        ("alias", {"previousId": "before"}, "$create_alias"),
    ],
)
def test_each_path_by_hand(http, shop, key, type, more, name):
    for path in (f"/v1/{type}", f"/v1/{type[0]}"):
        answer = http.post(path, json={"userId": "u1", **more}, auth=(key, ""))
        assert (answer.status_code, answer.json()) == (200, {"success": True})
    assert http.post(f"/v1/{type}", json={"userId": "u1", "writeKey": key, **more}).status_code == 200
    assert shop.track[name].count().run() == 3


def test_times_are_corrected_by_sent_at(http, shop, key):
    batch = [
        {"type": "track", "event": "A", "userId": "u", "timestamp": "2030-01-01T09:00:00Z"},
        {"type": "track", "event": "A", "userId": "u", "timestamp": "2030-01-01T10:00:00.000Z"},
    ]
    http.post("/v1/batch", json={"batch": batch, "sentAt": "2030-01-01T10:00:00.000Z"}, auth=(key, ""))
    found = [event.timestamp for event in shop.track.A.events().oldest_first()]
    assert found == [datetime(2024, 3, 10, 11, tzinfo=UTC), datetime(2024, 3, 10, 12, tzinfo=UTC)]


def test_what_is_missing_is_named(http, key):
    auth = (key, "")
    for body, said in [
        ({"type": "track", "event": "A"}, "userId"),
        ({"type": "track", "userId": "u"}, "event"),
        ({"type": "jump", "userId": "u"}, "track, page, screen"),
        ({"type": "alias", "userId": "u"}, "previousId"),
        ({"type": "group", "userId": "u"}, "groupId"),
        ({"type": "identify", "userId": "u", "traits": 4}, "traits"),
        ({"type": "track", "event": "A", "userId": "u", "timestamp": "soon"}, "soon"),
    ]:
        answer = http.post("/v1/batch", json={"batch": [body]}, auth=auth)
        assert answer.status_code == 400
        assert said in answer.json()["message"], answer.text
    for body in ({"batch": []}, {"batch": 3}, {}, [], None, 3):
        assert http.post("/v1/batch", json=body, auth=auth).status_code == 400 if body else True


def test_the_browser_sdk_is_sent_to_this_host(http, key, url):
    found = http.get(f"/v1/projects/{key}/settings").json()
    assert found["integrations"]["Segment.io"]["apiHost"] == f"{url.removeprefix('http://')}/v1"
