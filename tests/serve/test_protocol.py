"""Connections that would hold the server up: half requests, endless ones, bodies that trickle."""

from __future__ import annotations

import json
import socket
from urllib.parse import urlsplit

import httpx
import pytest

from bizcode.serve import body, protocol

HEAD = b"GET /api/v1/info HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def hasty(monkeypatch):
    monkeypatch.setattr(protocol, "SLOWEST_HEAD", 0.3)


@pytest.fixture
def link(url):
    """Opens connections; whatever a test leaves open is closed."""
    parts, opened = urlsplit(url), []

    def connect(*sent):
        opened.append(socket.create_connection((parts.hostname, parts.port), timeout=20))
        for part in sent:
            opened[-1].sendall(part)
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def rest(connection):
    """All that comes until the server closes the connection."""
    found = b""
    try:
        while part := connection.recv(65_536):
            found += part
    except ConnectionResetError:
        pass
    return found


@pytest.mark.parametrize("sent", [b"", b"G", HEAD, HEAD + b"X-Slow: a"])
def test_half_a_request_is_not_waited_for_long(hasty, link, sent):
    assert rest(link(sent)).startswith(b"HTTP/1.1 408")


def test_half_a_second_request_is_not_either(hasty, link):
    found = rest(link(HEAD + b"\r\n", HEAD))
    assert found.startswith(b"HTTP/1.1 200")


def test_a_head_without_end_is_cut_off(link):
    connection = link(HEAD + b"X-Long: ")
    try:
        for _ in range(200):
            connection.sendall(b"a" * 10_000)
    except OSError:
        pass
    assert rest(connection)[:12] in (b"HTTP/1.1 431", b"")


def test_a_long_body_is_no_long_head(http, key, shop):
    events = [{"event": "A", "distinct_id": "u", "properties": {"text": "x" * 1_000}}] * 500
    for _ in range(3):
        assert http.post("/batch", json={"api_key": key, "batch": events}).status_code == 200
    assert shop.track.A.count().run() == 1_500


def test_a_live_connection_stays_open(hasty, http, shop):
    with http.stream("GET", "/api/v1/live", params={"events": "A"}) as stream:
        lines = stream.iter_lines()
        assert next(lines) == "event: head"
        # Longer than a half request would be waited for, something else is asked meanwhile.
        for n in range(3):
            shop.track.A(n=n)
            assert any(f'"n":{n}' in line for line in lines)


def test_who_sends_slow_bodies_keeps_nobody_else_out(url, link, key, monkeypatch):
    slow = b"POST /e HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n{"
    for _ in range(body.MOST_OF_ONE):
        link(slow)
    large = {"api_key": key, "event": "A", "distinct_id": "u", "properties": {"text": "x" * 300_000}}
    content = json.dumps(large).encode()

    def parts():
        for start in range(0, len(content), 50_000):
            yield content[start : start + 50_000]

    with httpx.Client(base_url=url, timeout=20) as client:
        for _ in range(400):  # until all of them have been seen
            answer = client.post("/e", content=parts())
            if answer.status_code == 503:
                break
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "2"
        # Another address isn't concerned, and what fits into one part goes on.
        with body._place("10.0.0.7"):
            pass
        small = {"api_key": key, "event": "A", "distinct_id": "u"}
        assert client.post("/e", json=small).status_code == 200


def test_a_slow_body_ends(link, monkeypatch):
    monkeypatch.setattr(body, "SLOWEST", 0.3)
    found = rest(
        link(b"POST /e HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\nConnection: close\r\n\r\n{")
    )
    assert found.startswith(b"HTTP/1.1 408")
    assert b"longer than 0.3 s" in found
