"""Server-sent events."""

from __future__ import annotations

import json
import threading

import httpx


def messages(url, count, **parameters):
    """Reads so many messages on a thread: (list, go, thread). `go` is set once the first has come."""
    found, go = [], threading.Event()
    headers = parameters.pop("headers", {})

    def read():
        with httpx.stream(
            "GET", f"{url}/api/v1/live", params=parameters, headers=headers, timeout=30
        ) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            message = {}
            for line in answer.iter_lines():
                if not line:
                    if "event" in message:
                        found.append((message["event"], json.loads(message["data"]), message.get("id")))
                        go.set()
                    message = {}
                    if len(found) >= count:
                        return
                else:
                    name, _, value = line.partition(": ")
                    message[name] = value

    thread = threading.Thread(target=read)
    thread.start()
    return found, go, thread


def test_records_come_after_their_commit(url, shop):
    shop.track.Before(n=0)
    found, go, thread = messages(url, 4, events="Signup")
    assert go.wait(20)
    shop.track.Other(n=1)
    event = shop.track.Signup(user_id="u1", plan="<b>pro</b>")
    shop.compact()
    second = shop.track.Signup(user_id="u2")
    thread.join(20)
    records = [data for kind, data, _ in found if kind == "record"]
    assert [one["id"] for one in records] in ([event.id, second.id], [event.id])
    assert records[0]["data"]["plan"] == "<b>pro</b>"
    assert found[0][0] == "head"


def test_it_goes_on_where_it_was_cut(url, shop):
    events = [shop.track.Signup(n=n) for n in range(5)]
    shop.compact()
    events += [shop.track.Signup(n=n) for n in range(5)]
    found, _, thread = messages(url, 9, events="*", headers={"last-event-id": str(events[1].position)})
    thread.join(20)
    assert [data["id"] for kind, data, _ in found if kind == "record"] == [event.id for event in events[2:]]
    assert found[-1][2] == str(events[-1].position)


def test_views_come_as_they_change(url, shop):
    shop.view.define("n", source=shop.track.Signup, group_by="plan", compute={"n": shop.count()})
    found, go, thread = messages(url, 4, views="n")
    assert go.wait(20)
    shop.track.Signup(plan="pro")
    thread.join(20)
    views = [data for kind, data, _ in found if kind == "view"]
    assert views == [{"name": "n", "rows": []}, {"name": "n", "rows": [{"plan": "pro", "n": 1}]}]


def test_an_unknown_view_is_an_error_message(url):
    found, _, thread = messages(url, 1, views="none")
    thread.join(20)
    assert found[0][0] == "error"
    assert "none" in found[0][1]["message"]
