"""What records or changes something acts at once, and may be awaited too."""

from __future__ import annotations

import asyncio

import pytest

CALLS = {
    "batch": lambda biz: biz.track.batch([{"event": "Seen"}]),
    "no batch": lambda biz: biz.track.batch([]),
    "append_many": lambda biz: biz.Order("o").append_many(["created", "paid"]),
    "append": lambda biz: biz.Order("o").append("created"),
    "gauge": lambda biz: biz.measure.load.set(3),
    "counter": lambda biz: biz.measure.hits.increment(),
    "goal": lambda biz: biz.goal.define("g", target=biz.measure.load.reach(5)),
    "update": lambda biz: CALLS["goal"](biz).update(owner="me"),
    "archive": lambda biz: CALLS["goal"](biz).archive(),
    "delete": lambda biz: CALLS["goal"](biz).delete(),
    "experiment": lambda biz: biz.experiment.define("e", variants=["a", "b"]),
    "start": lambda biz: CALLS["experiment"](biz).start(),
    "activate": lambda biz: CALLS["start"](biz).activate("u1"),
    "stream": lambda biz: biz.stream.track.Seen.to.track.Again.start(),
    "stop": lambda biz: CALLS["stream"](biz).stop(),
    "emit": lambda biz: biz.stream.emit("Order.created", {}),
    "set": lambda biz: biz.data.set("k", 1),
    "quota": lambda biz: biz.quota.set(events_per_day=10),
    "notifier": lambda biz: biz.notifiers.add("Slack", "ops", "https://example.com/x"),
    "post": lambda biz: biz.Slack("ops").post("hello"),
    "identify": lambda biz: biz.identify("a", "b"),
    "retract": lambda biz: biz.retract(biz.track.Seen().id),
    "forget": lambda biz: biz.forget("nobody"),
    "rollup": lambda biz: biz.measure.load.rollup(granularity=["hour"], aggregates=["sum"]),
    "drop": lambda biz: CALLS["rollup"](biz).drop(),
    "alert": lambda biz: biz.measure.load.alert(above=5, notify=print),
    "disable": lambda biz: CALLS["alert"](biz).disable(),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_that_acts_may_be_awaited_for_what_it_returns(biz, name):
    async def awaited():
        returned = CALLS[name](biz)
        return returned, await returned

    returned, found = asyncio.run(awaited())
    assert found == returned or (found is None and not returned)


def test_what_may_be_awaited_is_what_it_would_be_otherwise(biz):
    assert isinstance(biz.track.batch([{"event": "Seen"}]), list)
    assert biz.forget("nobody") == 0
    assert repr(biz.data.set("k", 1)) == "done"
