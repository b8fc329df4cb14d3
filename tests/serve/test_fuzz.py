"""Any JSON at any door of the SDKs: taken, or refused by a sentence."""

from __future__ import annotations

import httpx
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bizcode import Business, ManualClock
from bizcode.serve import Keys, background

scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(max_size=20)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
times = anything | st.sampled_from(
    ["2024-03-10T12:00:00Z", "2024-02-30", "9999-12-31T23:59:59Z", "0001-01-01", "24:00", 1e18, -1e18]
)
users = anything | st.sampled_from(["u1", "", "null", "\u202e", 7])
names = anything | st.sampled_from(["$identify", "$create_alias", "$set", "A", "a" * 300])


def thing(**fields):
    return st.fixed_dictionaries({}, optional=fields) | anything


posthog = thing(
    event=names,
    distinct_id=users,
    properties=thing(**{"$anon_distinct_id": users, "alias": users, "$set": anything}),
    timestamp=times,
    uuid=anything,
    offset=anything,
    **{"$set": anything},
)
segment = thing(
    type=st.sampled_from(["track", "page", "screen", "identify", "group", "alias"]) | anything,
    event=names,
    userId=users,
    anonymousId=users,
    previousId=users,
    groupId=users,
    properties=anything,
    traits=anything,
    timestamp=times,
    sentAt=times,
    messageId=anything,
    context=anything,
)
QUIETLY = settings(
    max_examples=80, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    clock = ManualClock("2024-03-10T12:00:00")
    with Business(tmp_path_factory.mktemp("fuzz") / "shop", clock=clock, worker=False) as biz:
        with background(biz, rate=None) as url, httpx.Client(base_url=url) as client:
            yield client, Keys(biz.store).create("write")
        assert biz.doctor().ok


def sent(client, path, body, **more):
    answer = client.post(path, content=orjson.dumps(body), **more)
    assert answer.status_code in (200, 400), (answer.status_code, answer.text, body)
    found = answer.json()
    assert answer.status_code == 200 or len(found["detail"]) > 10
    assert all(len(one["message"]) > 5 for one in found.get("rejected", ()))


@QUIETLY
@given(events=st.lists(posthog, max_size=5), when=times, single=posthog)
def test_posthog(door, events, when, single):
    client, key = door
    sent(client, "/batch", {"api_key": key, "batch": events, "sent_at": when})
    sent(client, f"/e?api_key={key}", events)
    if isinstance(single, dict):
        sent(client, "/capture", {**single, "api_key": key, "token": key})


@QUIETLY
@given(
    messages=st.lists(segment, max_size=5),
    when=times,
    single=segment,
    path=st.sampled_from(["track", "identify", "alias", "g"]),
)
def test_segment(door, messages, when, single, path):
    client, key = door
    sent(client, "/v1/batch", {"batch": messages, "sentAt": when}, auth=(key, ""))
    sent(client, f"/v1/{path}", single, auth=(key, ""))
