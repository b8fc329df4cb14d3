"""Agents, by a local server that speaks the OpenAI protocol; the standup, by none."""

from __future__ import annotations

import asyncio
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from bizcode import BizError, InvalidName, InvalidValue
from bizcode.agents import Agent


class Model:
    """An endpoint that keeps what it is asked."""

    def __init__(self):
        self.asked: list[tuple[str, dict, dict]] = []
        self.status, self.answer = 200, None
        model = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                model.asked.append((self.path, body, dict(self.headers)))
                self.send_response(model.status)
                self.end_headers()
                answer = {"choices": [{"message": {"role": "assistant", "content": "All is well."}}]}
                self.wfile.write(json.dumps(model.answer or answer).encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def model(monkeypatch):
    found = Model()
    monkeypatch.setenv("BIZCODE_LLM_URL", f"http://127.0.0.1:{found.server.server_port}/v1/")
    monkeypatch.setenv("BIZCODE_LLM_KEY", "k3y")
    monkeypatch.setenv("BIZCODE_LLM_MODEL", "small")
    yield found
    found.server.shutdown()
    found.server.server_close()


def test_it_answers_from_what_it_is_given_and_nothing_else(biz, model):
    biz.goal.define("Q1", target=biz.measure.revenue.sum().reach(100))
    biz.measure.revenue(40)
    biz.track.Secret(user_id="u1")
    mark = Agent("mark", role="head of marketing", instructions="Be brief.")
    answer = mark("Summarize our progress", biz.goal.all().progress(), {"note": "ä"}, "and this")
    assert model.asked == []
    assert answer.run() == "All is well."
    ((path, body, headers),) = model.asked
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer k3y"
    assert body["model"] == "small"
    system, user = body["messages"]
    assert system == {"role": "system", "content": "You are mark, head of marketing. Be brief."}
    first, goals, note, last = user["content"].split("\n\n")
    assert (first, note, last) == ("Summarize our progress", '{"note": "ä"}', "and this")
    assert json.loads(goals)[0]["name"] == "Q1"
    assert json.loads(goals)[0]["percent"] == 40.0
    assert "Secret" not in json.dumps(body)


def test_it_may_be_awaited(model):
    async def main():
        return await Agent("mark")("hello")

    assert asyncio.run(main()) == "All is well."


@pytest.mark.parametrize("missing", ["BIZCODE_LLM_URL", "BIZCODE_LLM_MODEL"])
def test_without_an_endpoint_it_says_how_to_set_one(model, monkeypatch, missing):
    monkeypatch.delenv(missing)
    with pytest.raises(BizError, match=r"BIZCODE_LLM_URL.*BIZCODE_LLM_MODEL.*BIZCODE_LLM_KEY"):
        Agent("mark")("hello").run()


@pytest.mark.parametrize(
    ("status", "answer", "says"),
    [
        (401, None, "answered 401"),
        (500, None, "answered 500"),
        (200, {"no": "choices"}, "not the OpenAI protocol"),
        (200, [1], "not the OpenAI protocol"),
        (200, {"choices": [{"message": {"content": None}}]}, "not the OpenAI protocol"),
    ],
)
def test_an_endpoint_that_fails_is_an_error_without_the_key(model, status, answer, says):
    model.status, model.answer = status, answer
    with pytest.raises(BizError, match=says) as raised:
        Agent("mark")("hello").run()
    assert "k3y" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "says"), [("host/v1", "not a URL like"), ("http://127.0.0.1:9/v1", "can't be reached")]
)
def test_an_address_that_is_wrong(model, monkeypatch, url, says):
    monkeypatch.setenv("BIZCODE_LLM_URL", url)
    with pytest.raises(BizError, match=says):
        Agent("mark")("hello").run()


def test_what_cannot_be_is_refused():
    with pytest.raises(InvalidName):
        Agent(" ")
    for prompt in ("", "  ", None):
        with pytest.raises(InvalidValue):
            Agent("mark")(prompt)


def test_the_standup_of_an_empty_business(biz):
    assert biz.standup().run() == (
        "# Standup, Sunday 10 March 2024\n\n## Goals\n\nNo goals are set.\n\n## Experiments\n\n"
        "No experiment is running.\n\n## Alerts\n\nNothing is firing.\n\n"
        "## What moved in the last 24 hours\n\nNothing was recorded.\n"
    )


def test_the_standup_says_what_is_and_what_moved(biz, clock):
    biz.goal.define("Q1", target=biz.measure.revenue.sum().reach(100), by="2024-03-31")
    biz.measure.cpu.alert(name="hot", above=90, notify=lambda e: None)
    biz.experiment.define(
        "pricing", variants=["a", "b"], goal=biz.track.ratio("Purchase", "Signup"), autostart=True
    )
    clock.advance("30m")
    biz.measure.mrr.set(400)
    biz.measure.mrr.set(450)
    for n in range(4):
        biz.track.Signup(user_id=f"u{n}")
        biz.experiment("pricing").assign(f"u{n}").run()
    clock.advance("1d")
    for n in range(5):
        biz.track.Signup(user_id=f"v{n}")
    biz.measure.revenue(25)
    biz.measure.mrr.set(500)
    biz.measure.cpu(95)
    clock.advance("10m")
    biz.drain()
    text = biz.standup().run()
    assert str(biz.standup()) == text
    for line in (
        "# Standup, Monday 11 March 2024",
        "- **Q1**: at-risk, 25 %, 20 days left",
        "- **pricing**: too early to call, 4 users",
        "- **hot** (cpu): firing",
        "- Signup: 5, before 4 (+25 %)",
        "- revenue (sum): 25, before 0",
        "- mrr: 500, before 450 (+11 %)",
    ):
        assert line in text or line.startswith("- **Q1**"), text
    assert "- **Q1**: " in text
    assert ", 25 %, " in text
