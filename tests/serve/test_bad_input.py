"""Whatever arrives: a 4xx with a sentence, never a 500."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from urllib.parse import urlsplit

import httpx
import pytest

from bizcode import Business
from bizcode.serve import Keys, background

GOOD = {"event": "A", "distinct_id": "u1"}
WHERE = ["/e/", "/batch/", "/v1/track", "/v1/batch", "/flags/"]


@pytest.fixture(scope="module")
def door(tmp_path_factory):
    """One server for all the cases that store nothing: (client, business, write key)."""
    with Business(tmp_path_factory.mktemp("bad") / "shop", worker=False) as biz:
        key = Keys(biz.store).create("write")
        with background(biz) as url, httpx.Client(base_url=url) as client:
            yield client, biz, key


def refused(answer, *statuses):
    assert answer.status_code in statuses, (answer.status_code, answer.text)
    said = answer.json()
    assert len(said["detail"]) > 10
    assert said["detail"] == said["message"]
    return said["detail"]


@pytest.mark.parametrize("path", WHERE)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"api_key": ',
        b"not json",
        b"\xff\xfe\x00",
        b'{"event": "\xc3\x28"}',
        b'{"event": NaN}',
        b'"\\ud800"',
        b"null",
        b"3",
        b"[]",
        b"{}",
        b'{"batch": {}}',
        b"[" * 100_000,
        b"\x1f\x8b broken",
        b"data=%%%",
        b"data=",
        b"\x00" * 100,
    ],
    ids=range(19),
)
def test_what_is_no_event(door, path, body):
    refused(door[0].post(path, content=body), 400, 401, 429)


def test_broken_packing(http, key):
    text = json.dumps({**GOOD, "api_key": key}).encode()
    packed = gzip.compress(text)
    assert "cut off" in refused(http.post("/e", content=packed[:-6]), 400)
    assert "broken" in refused(http.post("/e", content=packed[:-8] + bytes(8)), 400)
    assert "gzip" in refused(http.post("/e", content=text, headers={"content-encoding": "gzip"}), 400)
    assert "zstd" in refused(http.post("/e", content=text, headers={"content-encoding": "zstd"}), 415)
    assert "lz64" in refused(http.post("/e?compression=lz64", content=text), 415)
    assert "base64" in refused(http.post("/e?compression=base64", content=b"data=***"), 400)
    packed = zlib.compress(text)
    assert http.post("/e", content=packed, headers={"content-encoding": "deflate"}).status_code == 200


def test_a_body_of_100_mb_is_refused(http, key):
    assert "larger" in refused(http.post("/e", content=b"x" * 100_000_000), 413)

    def stream():
        for _ in range(100):
            yield b"x" * 1_000_000

    assert "larger" in refused(http.post("/e", content=stream()), 413)
    bomb = gzip.compress(b"0" * 100_000_000)
    assert "unpacked" in refused(http.post("/e", content=bomb), 413)
    # The same connection goes on.
    assert http.post("/e", json={**GOOD, "api_key": key}).status_code == 200


def test_a_body_that_ends_early_stores_nothing(url, shop, key, http):
    parts = urlsplit(url)
    text = json.dumps({**GOOD, "api_key": key}).encode()
    with socket.create_connection((parts.hostname, parts.port)) as link:
        link.sendall(b"POST /e HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n" + text)
    assert http.post("/e", json={**GOOD, "api_key": key}).status_code == 200
    assert shop.track.A.count().run() == 1


def test_keys(http, shop, key):
    refused(http.post("/e", json=GOOD), 401)
    refused(http.post("/e", json={**GOOD, "api_key": "nobody"}), 401)
    refused(http.post("/e", json={**GOOD, "api_key": 17}), 401)
    refused(http.post("/e", json={**GOOD, "api_key": ["a"]}), 401)
    reading = Keys(shop.store).create("read")
    assert "reads" in refused(http.post("/e", json={**GOOD, "api_key": reading}), 403)
    refused(http.post("/v1/track", json={}, headers={"authorization": "Basic !!!"}), 401)
    refused(http.post("/v1/track", json={}, headers={"authorization": "Bearer x"}), 401)
    Keys(shop.store).revoke(key)
    refused(http.post("/e", json={**GOOD, "api_key": key}), 401)
    assert shop.track.names().run() == []


def test_guessing_keys_is_slowed_down(http, key):
    found = {http.post("/e", json={**GOOD, "api_key": f"guess-{n}"}).status_code for n in range(30)}
    assert found == {401, 429}
    # Whoever has the key isn't kept out by those who guess.
    assert http.post("/e", json={**GOOD, "api_key": key}).status_code == 200


def test_other_methods_and_paths(http):
    assert refused(http.get("/e/"), 405)
    assert refused(http.put("/v1/track"), 405)
    answer = http.post("/nothing/here")
    assert answer.status_code == 404
    assert "/capture" in answer.json()["error"]["message"]
    assert http.get("/nothing").status_code == 404
    assert http.get("/static/1/../../keys.py").status_code == 404
    assert http.post("/events").status_code == 405
    assert http.post("/v1/jump").status_code == 404


@pytest.mark.parametrize(
    "wrong",
    [
        {"event": "A" * 300},
        {"event": "a\x00b"},
        {"event": 5},
        {"event": None},
        {"distinct_id": ""},
        {"distinct_id": {}},
        {"distinct_id": "x" * 500},
        {"properties": []},
        {"properties": "x"},
        {"timestamp": "soon"},
        {"timestamp": {}},
        {"timestamp": True},
        {"timestamp": 1e300},
        {"timestamp": "0000-01-01"},
        {"sent_at": "never"},
        {"uuid": ""},
        {"uuid": {}},
        {"uuid": "x" * 600},
        {"properties": {"n": 2**63}},
        {"event": "$create_alias"},
        {"event": "$identify", "properties": {"$anon_distinct_id": []}},
    ],
    ids=str,
)
def test_each_wrong_field(door, wrong):
    http, shop, key = door
    answer = http.post("/e", json={**GOOD, **wrong, "api_key": key})
    refused(answer, 400)
    assert shop.track.names().run() == []


def test_deep_and_wide_properties(http, key):
    deep: dict = {}
    for _ in range(900):
        deep = {"a": deep}
    for properties in (deep, {f"p{n}": n for n in range(3_000)}, {"": 1}, {"é\U0001f600": "\u202e<b>"}):
        answer = http.post("/e", json={**GOOD, "properties": properties, "api_key": key})
        assert answer.status_code in (200, 400), answer.text


def test_asking_too_often(shop, key):
    with background(shop, rate=1) as url:
        answers = [httpx.post(f"{url}/e", json={**GOOD, "api_key": key}) for _ in range(30)]
    slowed = [answer for answer in answers if answer.status_code == 429]
    assert slowed
    assert slowed[0].headers["retry-after"] == "1"
    assert len(answers) - len(slowed) == shop.track.A.count().run()
