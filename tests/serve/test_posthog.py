"""PostHog's wire, driven by its own SDK and by hand."""

from __future__ import annotations

import base64
import gzip
import json
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from posthog import Posthog

from bizcode import Business
from bizcode.serve import Keys


def events(biz, name=None):
    asked = biz.track.any if name is None else biz.track[name]
    return asked.events().oldest_first().run()


@pytest.fixture(params=[False, True], ids=["plain", "gzip"])
def client(url, key, request):
    errors = []
    made = Posthog(
        key,
        host=url,
        gzip=request.param,
        flush_interval=0.05,
        max_retries=0,
        on_error=lambda error, _: errors.append(error),
    )
    made.failures = errors
    yield made
    made.shutdown()


def test_the_python_sdk_captures(client, shop):
    client.capture("Signup", distinct_id="u1", properties={"plan": "pro", "seats": 3})
    client.capture("Signup", distinct_id="u2", properties={"plan": "free"})
    client.flush()
    assert client.failures == []
    assert shop.track.Signup.count().by("plan").run() == {"free": 1, "pro": 1}
    assert shop.track.Signup.unique().run() == 2
    first = events(shop, "Signup")[0]
    assert (first.user, first["seats"]) == ("u1", 3)
    assert "token" not in first
    # The SDK's clock is real, the business's stands in 2024: the difference is taken off.
    assert abs(first.timestamp - shop.now()) < timedelta(seconds=20)


def test_the_python_sdk_sets_a_person_and_an_alias(client, shop):
    client.capture("View", distinct_id="anon-1")
    client.set(distinct_id="u1", properties={"plan": "pro"})
    client.capture("View", distinct_id="u1")
    client.alias(previous_id="anon-1", distinct_id="u1")
    client.flush()
    assert client.failures == []
    assert shop.track.View.unique().run() == 1
    assert shop.track.View.count().by("user").run() == {"u1": 2}
    assert events(shop, "$set")[0]["plan"] == "pro"


def test_the_python_sdk_sends_a_uuid_twice_and_it_is_stored_once(client, shop):
    for _ in range(2):
        client.capture("Pay", distinct_id="u1", uuid="0190c2b4-0000-7000-8000-000000000001")
    client.flush()
    assert shop.track.Pay.count().run() == 1
    assert events(shop)[0].id == "0190c2b4-0000-7000-8000-000000000001"


def test_the_python_sdk_asks_for_flags_and_gets_none(client):
    assert client.get_all_flags("u1") == {}


@pytest.mark.parametrize("compression", ["gzip", "deflate", "none"])
def test_the_python_sdk_captures_by_its_newer_protocol(url, key, shop, compression):
    errors = []
    client = Posthog(
        key,
        host=url,
        capture_mode="v1",
        capture_compression=compression,
        flush_interval=0.05,
        on_error=lambda error, _: errors.append(error),
    )
    client.capture("Signup", distinct_id="u1", properties={"plan": "pro", "$session_id": "s1"})
    client.set(distinct_id="u1", properties={"city": "Berlin"})
    client.capture("", distinct_id="u1", uuid="0190c2b4-0000-7000-8000-000000000009")
    client.shutdown()
    signup = events(shop, "Signup")[0]
    assert (signup.user, signup["plan"], signup["$session_id"]) == ("u1", "pro", "s1")
    assert abs(signup.timestamp - shop.now()) < timedelta(seconds=20)
    assert events(shop, "$set")[0]["city"] == "Berlin"
    # What can't be taken is told by its uuid, and not sent again.
    (error,) = errors
    assert [id for id, _ in error.drops] == ["0190c2b4-0000-7000-8000-000000000009"]


def test_a_client_that_trusts_its_own_clock(http, shop, key):
    now = "2024-03-10T17:00:00Z"
    for n, event in enumerate(
        [{"properties": {"$ignore_sent_at": True}}, {"options": {"disable_skew_correction": True}}, {}]
    ):
        body = one(
            key, event=f"E{n}", timestamp="2024-03-10T09:00:00Z", sent_at=now, **{"properties": {}, **event}
        )
        assert http.post("/e", json=body).status_code == 200
    assert [event.timestamp.hour for event in events(shop)] == [4, 9, 9]


def test_the_newer_protocol_by_hand(http, shop, key):
    path, bearer = "/i/v1/analytics/events", {"authorization": f"Bearer {key}"}
    batch = [{"event": "A", "distinct_id": "u", "uuid": "a"}, {"event": "B", "uuid": "b"}, 3]
    answer = http.post(path, json={"batch": batch}, headers=bearer)
    assert answer.status_code == 200
    found = answer.json()["results"]
    assert (found["a"]["result"], found["b"]["result"]) == ("ok", "drop")
    assert "distinct_id" in found["b"]["details"]
    assert http.post(path, json={"batch": batch}).status_code == 401
    stamped = {**bearer, "posthog-request-timestamp": "soon"}
    assert http.post(path, json={"batch": batch}, headers=stamped).status_code == 400
    for body in ([], [batch[0]], batch[0], {}, {"batch": []}, {"batch": {}}, 3):
        assert http.post(path, json=body, headers=bearer).status_code in (200, 400), body
    assert shop.track.A.count().run() == 1


def test_what_is_not_kept_is_turned_off(http, key):
    assert http.post("/s/", content=b"recording").json()["quota_limited"] == ["recordings"]
    assert http.get("/api/surveys/", params={"token": key}).json() == {"surveys": []}
    assert http.get("/api/early_access_features/", params={"token": key}).json() == {
        "earlyAccessFeatures": []
    }
    assert http.get("/api/surveys/").status_code == 401
    assert "surveys" not in http.get(f"/array/{key}/config").json()


def test_the_script_of_the_snippet(http):
    answer = http.get("/static/array.js", headers={"origin": "https://shop.example"})
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert answer.headers["content-encoding"] == "gzip"
    assert "posthog" in answer.text
    assert http.get("/static/array.js", headers={"accept-encoding": "identity"}).text == answer.text


def test_a_wrong_key_is_told_to_the_sdk(url, shop):
    errors = []
    client = Posthog("phc_wrong", host=url, max_retries=0, on_error=lambda error, _: errors.append(error))
    client.capture("Signup", distinct_id="u1")
    client.shutdown()
    assert "401" in str(errors[0])
    assert "write key" in str(errors[0])
    assert events(shop) == []


def one(key, **more):
    return {"api_key": key, "event": "Signup", "distinct_id": "u1", "properties": {"plan": "pro"}, **more}


@pytest.mark.parametrize("path", ["/capture/", "/capture", "/e/", "/i/v0/e/", "/batch/"])
def test_every_path_takes_one_event(http, shop, key, path):
    answer = http.post(path, json=one(key))
    assert (answer.status_code, answer.json()) == (200, {"status": 1})
    assert shop.track.Signup.count().by("plan").run() == {"pro": 1}


def test_the_forms_of_a_body(http, shop, key):
    text = json.dumps(one(key)).encode()
    plain = base64.b64encode(text).decode()
    listed = json.dumps([{"event": "Signup", "properties": {"distinct_id": "u1", "token": key}}]).encode()
    form = {"content-type": "application/x-www-form-urlencoded"}
    for number, (path, body, headers) in enumerate(
        [
            ("/e/?compression=gzip-js", gzip.compress(text), {"content-type": "text/plain"}),
            ("/e/?compression=gzip-js&ip=1&_=1710072000000", gzip.compress(listed), {}),
            ("/e/?compression=base64", f"data={quote(plain)}".encode(), form),
            ("/e/", f"data={quote(plain.rstrip('='))}".encode(), form),
            ("/e/", f"data={quote(text.decode())}".encode(), form),
            ("/e/?compression=base64", plain.encode(), {}),
            ("/capture/", gzip.compress(text), {"content-encoding": "gzip"}),
            ("/e/", text, {"content-type": "text/plain; charset=utf-8"}),
        ],
        start=1,
    ):
        answer = http.post(path, content=body, headers=headers)
        assert answer.status_code == 200, (number, answer.text)
        assert shop.track.Signup.count().run() == number
    assert shop.track.Signup.unique().run() == 1


def test_identify_merges_the_anonymous_id(http, shop, key):
    http.post("/e", json=one(key, event="View", distinct_id="anon"))
    identify = one(
        key,
        event="$identify",
        properties={"$anon_distinct_id": "anon", "$set": {"email": "a@b.c"}},
        uuid="i1",
    )
    for _ in range(3):
        assert http.post("/e", json=identify).status_code == 200
    assert shop.track.View.count().by("user").run() == {"u1": 1}
    assert events(shop, "$identify")[0]["email"] == "a@b.c"
    assert shop.sql("select count(*) n from events").run()[0]["n"] == 2
    # A second person on the same machine doesn't become the first.
    http.post("/e", json=one(key, event="View", distinct_id="u2"))
    http.post(
        "/e", json=one(key, event="$identify", distinct_id="u2", properties={"$anon_distinct_id": "anon"})
    )
    assert shop.track.View.count().by("user").run() == {"u1": 1, "u2": 1}


def test_ids_that_broken_pages_send_merge_nobody(http, shop, key):
    for user in ("u1", "u2"):
        http.post("/e", json=one(key, event="View", distinct_id=user))
        http.post(
            "/e", json=one(key, event="$identify", distinct_id=user, properties={"$anon_distinct_id": "null"})
        )
        http.post(
            "/e", json=one(key, event="$create_alias", distinct_id="undefined", properties={"alias": user})
        )
    assert shop.track.View.unique().run() == 2


def test_a_wrong_clock_is_corrected(http, shop, key):
    now = datetime(2024, 3, 10, 12, tzinfo=UTC)
    wrong = now + timedelta(hours=5)
    body = one(key, timestamp=(wrong - timedelta(minutes=3)).isoformat(), sent_at=wrong.isoformat())
    http.post("/e", json=body)
    assert events(shop)[0].timestamp == now - timedelta(minutes=3)
    # A right clock's times stay exactly as they are, and so does the past.
    http.post("/e", json=one(key, timestamp="2023-01-01T00:00:00Z", sent_at="2024-03-10T11:59:58Z"))
    assert events(shop)[0].timestamp == datetime(2023, 1, 1, tzinfo=UTC)
    http.post("/e", json=one(key, event="Late", offset=60_000))
    assert events(shop, "Late")[0].timestamp == now - timedelta(minutes=1)
    # What can't have happened yet happened now, and says so.
    http.post("/e", json=one(key, event="Odd", timestamp="2031-01-01T00:00:00Z"))
    odd = events(shop, "Odd")[0]
    assert (odd.timestamp, odd["$timestamp_given"]) == (now, "2031-01-01T00:00:00Z")


def test_a_batch_takes_the_good_and_lists_the_rest(http, shop, key):
    batch = [
        {"event": "A", "distinct_id": "u1"},
        {"event": "", "distinct_id": "u1"},
        {"event": "A"},
        {"event": "A", "distinct_id": "u1", "properties": {"n": 2**63}},
        {"event": "A", "distinct_id": 7, "timestamp": "yesterday"},
        {"event": "A", "distinct_id": 7},
        "A",
    ]
    answer = http.post("/batch", json={"api_key": key, "batch": batch})
    assert answer.status_code == 200
    found = answer.json()
    assert found["accepted"] == 2
    assert [one["index"] for one in found["rejected"]] == [1, 2, 3, 4, 6]
    assert all(one["message"] for one in found["rejected"])
    assert shop.track.A.count().by("user").run() == {"7": 1, "u1": 1}


def test_flags_and_config_are_empty(http, key):
    asked = {"api_key": key, "distinct_id": "u1"}
    assert http.post("/flags/?v=2", json=asked).json()["flags"] == {}
    assert http.post("/decide/?v=3", json=asked).json()["featureFlags"] == {}
    assert http.get(f"/array/{key}/config").json()["sessionRecording"] is False
    assert key in http.get(f"/array/{key}/config.js").text
    assert http.get("/array/none/config").status_code == 401


def test_pages_of_any_origin_may_send(http, key):
    origin = {"origin": "https://shop.example", "access-control-request-headers": "content-type"}
    answer = http.options("/e/", headers=origin)
    assert answer.status_code == 204
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    answer = http.post("/e/", json=one(key), headers={"origin": "https://shop.example"})
    assert answer.headers["access-control-allow-origin"] == "https://shop.example"


def test_a_key_reaches_its_own_tenant(http, shop):
    key = Keys(shop.store).create("write", "eu", tenant="eu")
    http.post("/e", json=one(key))
    assert events(shop) == []
    with Business(shop.store.root, tenant="eu", worker=False) as eu:
        assert eu.track.Signup.count().run() == 1


def test_the_quota_answers_429_and_stores_nothing_past_it(http, shop, key):
    shop.quota.set(events_per_day=3)
    batch = {"api_key": key, "batch": [{"event": "A", "distinct_id": "u"}] * 2}
    assert http.post("/batch", json=batch).status_code == 200
    answer = http.post("/batch", json=batch)
    assert answer.status_code == 429
    assert "quota" in answer.json()["detail"]
    assert "retry-after" in answer.headers
    assert shop.track.A.count().run() == 2


def test_an_activated_user_is_attributed(http, shop, key):
    shop.experiment.define("colour", variants=["red", "blue"], autostart=True)
    variant = shop.experiment("colour").activate("u1").run()
    http.post("/e", json=one(key))
    http.post("/e", json=one(key, distinct_id="u2"))
    assert [event.experiments for event in events(shop)] == [{"colour": variant}, {}]
