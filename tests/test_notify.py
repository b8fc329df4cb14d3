"""Notifiers: what each service is sent, what happens when it can't be reached, and what nobody may see."""

from __future__ import annotations

import json
import logging
import socketserver
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from processes import start

from bizcode import Business, InvalidName, InvalidValue, NotFound
from bizcode.notify import DeliveryError

SECRET = "T0KEN-s3cret"


class Service:
    """A service that keeps what it is sent, and answers as told."""

    def __init__(self):
        self.got: list[tuple[str, dict, dict]] = []
        self.status = 200
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                service.got.append((self.path, json.loads(body), dict(self.headers)))
                if service.status == 0:
                    self.wfile.write(b"nonsense\r\n\r\n")
                    return
                self.send_response(service.status)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def bodies(self):
        return [body for _, body, _ in self.got]


@pytest.fixture
def service():
    found = Service()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.mark.parametrize(
    ("kind", "path", "body"),
    [
        ("Slack", "/services/x", {"text": "hi"}),
        ("Discord", "/api/webhooks/1/x", {"content": "hi"}),
        ("Teams", "/x", {"text": "hi"}),
        ("Webhook", "/x", {"text": "hi"}),
        ("Telegram", "/bot1:x/sendMessage?chat_id=42", {"text": "hi", "chat_id": "42"}),
        ("Pager", "/x", {"text": "hi"}),
    ],
)
def test_each_service_gets_the_body_that_it_expects(biz, service, kind, path, body):
    biz.notifiers.add(kind, "ops", service.url + path)
    id = getattr(biz, kind)("ops").post("hi")
    assert service.got == []
    biz.drain()
    ((got, sent, headers),) = service.got
    assert (got, sent) == (path, body)
    assert headers["Content-Type"] == "application/json"
    assert headers["Idempotency-Key"] in id


def test_further_fields_are_part_of_the_body(biz, service):
    biz.notifiers.add("Slack", "ops", service.url)
    biz.Slack("ops").post("hi", blocks=[{"type": "divider"}], now=True)
    assert service.bodies == [{"text": "hi", "blocks": [{"type": "divider"}]}]


def test_the_address_may_come_from_the_environment(biz, service, monkeypatch):
    monkeypatch.setenv("BIZCODE_SLACK_OPS_TEAM", service.url)
    biz.Slack("ops-team").post("hi", now=True)
    assert service.bodies == [{"text": "hi"}]


def test_a_failed_post_is_retried_then_a_dead_letter(biz, service):
    service.status = 500
    biz.notifiers.add("Slack", "ops", f"{service.url}/{SECRET}")
    biz.Slack("ops").post("hi")
    biz.drain()
    assert service.bodies == [{"text": "hi"}] * 4
    assert len({headers["Idempotency-Key"] for _, _, headers in service.got}) == 1
    (letter,) = biz.dead_letters.list().run()
    assert letter.consumer == "notify:Slack(ops)"
    assert letter.error == "DeliveryError: Slack('ops') answered 500: Internal Server Error"
    assert letter.record["text"] == "hi"
    biz.drain()
    assert len(service.got) == 4

    service.status = 200
    biz.dead_letters.retry(letter)
    biz.drain()
    assert len(service.got) == 5
    assert biz.dead_letters.list().run() == []


def test_one_that_recovers_is_delivered_once(biz, service):
    service.status = 503
    biz.notifiers.add("Slack", "ops", service.url)
    biz.Slack("ops").post("hi")

    class Healing(list):
        def append(self, item):
            super().append(item)
            service.status = 200 if len(self) == 3 else 503

    service.got = Healing()
    biz.drain()
    assert len(service.got) == 3
    assert biz.dead_letters.list().run() == []


@pytest.mark.parametrize("status", [404, 500, 0])
def test_now_sends_at_once_and_raises(biz, service, status):
    service.status = status
    biz.notifiers.add("Slack", "ops", service.url)
    with pytest.raises(DeliveryError, match=r"Slack\('ops'\)"):
        biz.Slack("ops").post("hi", now=True)
    assert len(service.got) == 1
    biz.drain()
    assert len(service.got) == 1


def test_nobody_there(biz, service):
    service.server.server_close()
    biz.notifiers.add("Slack", "ops", f"{service.url}/{SECRET}")
    with pytest.raises(DeliveryError, match="can't be reached"):
        biz.Slack("ops").post("hi", now=True)
    service.server.shutdown()


def test_an_address_that_is_missing_says_how_to_set_it(biz):
    with pytest.raises(NotFound, match=r"biz\.notifiers\.add\('Slack', 'ops', url\) or by BIZCODE_SLACK_OPS"):
        biz.Slack("ops").post("hi", now=True)
    biz.Slack("ops").post("hi")
    biz.drain()
    assert "BIZCODE_SLACK_OPS" in biz.dead_letters.list().run()[0].error


def test_the_address_is_seen_nowhere(biz, service, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    said = []
    for status in (200, 500, 0):
        service.status = status
        biz.notifiers.add("Slack", "ops", f"{service.url}/{SECRET}")
        biz.notifiers.add("Telegram", "me", f"{service.url}/bot{SECRET}/send?chat_id=1")
        for notifier in (biz.Slack("ops"), biz.Telegram("me")):
            said.append(repr(notifier))
            notifier.post("hi")
            try:
                notifier.post("hi", now=True)
            except DeliveryError as error:
                said += [str(error), repr(error), repr(error.__cause__), repr(error.__context__ and "")]
        biz.drain()
    for url in (
        f"https://{SECRET}:bad port/",
        f"http://[{SECRET}",
        f"ftp://{SECRET}",
        SECRET,
        f"https://{SECRET} x",
    ):
        try:
            biz.notifiers.add("Slack", "bad", url)
            biz.Slack("bad").post("hi", now=True)
        except (InvalidValue, DeliveryError) as error:
            said.append(str(error))
        else:
            raise AssertionError("should not be reachable")
    said += [repr(biz.notifiers), str(biz.notifiers.list()), repr(biz.dead_letters.list().run())]
    said += [biz.standup().run(), caplog.text, *capfd.readouterr()]
    assert biz.dead_letters.list().run()
    assert not [text for text in said if SECRET in text]


def test_a_message_belongs_to_the_block_it_was_posted_in(biz, service):
    biz.notifiers.add("Slack", "ops", service.url)

    @biz.on.track.Signup
    def welcome(event):
        biz.Slack("ops").post(f"welcome {event.n}")
        if event.n < 0:
            raise RuntimeError

    biz.track.Signup(n=-1)
    biz.track.Signup(n=1)
    biz.drain()
    assert service.bodies == [{"text": "welcome 1"}]


def test_what_a_dead_process_left_is_sent_by_the_next(tmp_path, service):
    code = (
        "import os, sys; from bizcode import Business; biz = Business(sys.argv[1], worker=False)\n"
        "biz.notifiers.add('Slack', 'ops', sys.argv[2]); biz.Slack('ops').post('hi'); os._exit(9)"
    )
    assert start(tmp_path / "a", service.url, code=code).wait(30) == 9
    assert service.got == []
    with Business(tmp_path / "a", worker=False) as biz:
        biz.drain()
        biz.drain()
    assert service.bodies == [{"text": "hi"}]


def test_the_worker_sends_it(tmp_path, service):
    with Business(tmp_path / "a") as biz:
        biz.notifiers.add("Slack", "ops", service.url)
        biz.Slack("ops").post("hi")
        from processes import until

        until(lambda: service.got)
    assert service.bodies == [{"text": "hi"}]


class Mail(socketserver.StreamRequestHandler):
    """The least that a mail client is content with."""

    def handle(self):
        self.wfile.write(b"220 here\r\n")
        while line := self.rfile.readline():
            word = line[:4].upper()
            if word == b"EHLO":
                self.wfile.write(b"250-here\r\n250 AUTH PLAIN\r\n")
            elif word == b"AUTH":
                self.wfile.write(b"235 welcome\r\n")
            elif word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                text = b""
                while (line := self.rfile.readline()) != b".\r\n":
                    text += line
                self.server.got.append(text.decode())
                self.wfile.write(b"250 kept\r\n")
            elif word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            else:
                self.wfile.write(b"250 fine\r\n")


def test_email_is_sent_by_smtp(biz):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Mail) as server:
        server.got = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_address[1]
        biz.notifiers.add(
            "Email", "team", f"smtp://u:{SECRET}@127.0.0.1:{port}/?to=a@x.org&to=b@x.org&from=c@x.org"
        )
        biz.Email("team").post("Revenue is up\nby a fifth")
        biz.Email("team").post("text", subject="Standup")
        biz.drain()
        server.shutdown()
    assert biz.dead_letters.list().run() == []
    first, second = server.got
    assert "Subject: Revenue is up" in first
    assert "To: a@x.org, b@x.org" in first
    assert "From: c@x.org" in first
    assert "by a fifth" in first
    assert "Subject: Standup" in second


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (lambda biz: biz.Slack(""), InvalidName),
        (lambda biz: biz.Slack(None), InvalidName),
        (lambda biz: biz.Slack("ops").post(""), InvalidValue),
        (lambda biz: biz.Slack("ops").post("  \n"), InvalidValue),
        (lambda biz: biz.Slack("ops").post(None), InvalidValue),
        (lambda biz: biz.Webhook("ops").post({"a": 1}), InvalidValue),
        (lambda biz: biz.Webhook("ops").post(["a"], now=True), InvalidValue),
        (lambda biz: biz.Slack("ops").post("hi", extra=object()), InvalidValue),
        (lambda biz: biz.notifiers.add("slack", "ops", "https://x.org"), InvalidName),
        (lambda biz: biz.notifiers.add("", "ops", "https://x.org"), InvalidName),
        (lambda biz: biz.notifiers.add("Slack", "", "https://x.org"), InvalidName),
        (lambda biz: biz.notifiers.add("Slack", "ops", "x.org"), InvalidValue),
        (lambda biz: biz.notifiers.add("Slack", "ops", "https://"), InvalidValue),
        (lambda biz: biz.notifiers.add("Slack", "ops", None), InvalidValue),
    ],
)
def test_what_cannot_be_is_refused(biz, wrong, error):
    with pytest.raises(error):
        wrong(biz)
