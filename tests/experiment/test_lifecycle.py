"""From draft to graduated: which steps there are, and what each state means for users."""

from __future__ import annotations

from datetime import timedelta

import orjson
import pytest

from bizcode import Business, Conflict, InvalidValue
from bizcode.experiment.lifecycle import FROM

TWO = ["control", "value"]
PATHS = {
    "draft": [],
    "running": ["running"],
    "paused": ["running", "paused"],
    "stopped": ["running", "stopped"],
    "graduated": ["running", "graduated"],
}
STEPS = {
    "running": lambda e: e.start(),
    "paused": lambda e: e.pause(),
    "stopped": lambda e: e.stop(),
    "graduated": lambda e: e.graduate("value"),
}


@pytest.mark.parametrize("state", PATHS)
@pytest.mark.parametrize("step", STEPS)
def test_every_step_from_every_state(biz, state, step):
    experiment = biz.experiment.define("x", TWO)
    for earlier in PATHS[state]:
        STEPS[earlier](experiment)
    if state in FROM[step]:
        STEPS[step](experiment)
        assert experiment.info().run().status == step
    else:
        with pytest.raises(Conflict) as raised:
            STEPS[step](experiment)
        assert f"from {state} to {step}" in str(raised.value)
        assert "'x'" in str(raised.value)
        assert experiment.info().run().status == state


def test_paused_keeps_known_users_and_takes_no_new_ones(biz, pricing):
    known = pricing.assign("known").run()
    pricing.pause()
    assert pricing.assign("known").run() == known
    assert pricing.assign("new").run() is None
    assert biz.track.Purchase({"user_id": "known"}, experiment="pricing").experiments == {"pricing": known}
    assert biz.track.Purchase({"user_id": "new"}, experiment="pricing").experiments == {}
    pricing.start()
    assert pricing.assign("new").run() in TWO


def test_a_pause_is_kept_over_a_restart(tmp_path, clock):
    with Business(tmp_path / "b", clock=clock, worker=False) as first:
        experiment = first.experiment.define("x", TWO, autostart=True)
        known = experiment.assign("known").run()
        experiment.pause()
    with Business(tmp_path / "b", clock=clock, worker=False) as second:
        assert second.experiment("x").assign("known").run() == known
        assert second.experiment("x").assign("new").run() is None


def test_stopped_assigns_nobody(biz, pricing):
    pricing.assign("u1").run()
    pricing.stop()
    assert pricing.assign("u1").run() is None
    assert biz.track.Purchase({"user_id": "u1"}, experiment="pricing").experiments == {}


def test_graduated_gives_everyone_the_winner(biz):
    experiment = biz.experiment.define("x", TWO, audience={"plan": "pro"}, autostart=True)
    experiment.graduate("value")
    assert {experiment.assign(f"u{n}", plan="free").run() for n in range(20)} == {"value"}
    assert experiment.info().run().winner == "value"
    assert biz.track.Purchase({"user_id": "u1"}, experiment="x").experiments == {"x": "value"}
    assert experiment.results().run().variants["value"].users == 0


def test_only_a_variant_can_be_graduated(biz, pricing):
    with pytest.raises(InvalidValue, match="it has control, value"):
        pricing.graduate("usage")
    assert pricing.info().run().status == "running"


def test_another_process_sees_each_step(tmp_path, clock):
    with (
        Business(tmp_path / "b", clock=clock, worker=False) as one,
        Business(tmp_path / "b", clock=clock, worker=False) as other,
    ):
        one.experiment.define("x", TWO)
        seen = other.experiment("x")
        assert seen.assign("u1").run() is None
        one.experiment("x").start()
        assert seen.assign("u1").run() in TWO
        seen.pause()
        assert one.experiment("x").assign("u2").run() is None


def test_steps_inside_do_are_one_transaction(biz, pricing):
    def broken():
        with biz.do():
            pricing.pause()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert pricing.info().run().status == "running"
    with biz.do():
        pricing.stop()
        pricing.graduate("value")
    assert pricing.info().run().status == "graduated"


def test_the_duration_ends_it_by_the_clock_even_without_a_worker(biz, clock):
    experiment = biz.experiment.define("x", TWO, goal=biz.track.Buy.unique(), duration="14d", autostart=True)
    start = biz.now()
    variant = experiment.assign("u1").run()
    clock.advance("13d")
    assert experiment.info().run().status == "running"
    clock.advance("1d")
    biz.track.Buy(user_id="u1")
    clock.advance("5d")
    info = experiment.info().run()
    assert (info.status, info.reason, info.ended) == ("stopped", "duration", start + timedelta(days=14))
    assert experiment.assign("u1").run() is None
    biz.track.Buy(user_id="u1")
    found = experiment.results().run()
    assert found.status == "stopped"
    assert found.days == 14
    assert found.variants[variant].conversions == 1
    with pytest.raises(Conflict, match="stopped"):
        experiment.pause()


def test_what_happens_after_the_end_does_not_count(biz, clock, pricing):
    variant = pricing.assign("u1").run()
    clock.advance("1h")
    pricing.stop()
    clock.advance("1h")
    biz.track.Purchase(user_id="u1")
    assert pricing.results().run().variants[variant].conversions == 0


def statuses(biz, name):
    rows = [row for row in biz.store.log.read(0) if row.kind == "system" and row.name == "experiment-status"]
    found = [orjson.loads(row.data) for row in rows]
    return [(data["status"], data.get("reason")) for data in found if data["experiment"] == name]


def test_drain_ends_it_and_tells_once(biz, clock):
    told = []
    experiment = biz.experiment.define("x", TWO, duration="14d", autostart=True, notify=told.append)
    experiment.assign("u1").run()
    biz.drain()
    assert told == []
    clock.advance("15d")
    biz.drain()
    biz.drain()
    assert [(result.name, result.status, result.days) for result in told] == [("x", "stopped", 14.0)]
    assert statuses(biz, "x") == [("running", None), ("stopped", "duration")]


def test_enough_users_end_an_experiment_without_a_duration(biz, clock):
    told = []
    experiment = biz.experiment.define("x", TWO, min_sample_size=5, autostart=True, notify=told.append)
    biz.drain()
    for n in range(40):
        experiment.assign(f"u{n}").run()
    assert experiment.info().run().status == "running"
    clock.advance("2m")
    biz.drain()
    assert experiment.info().run().status == "stopped"
    assert experiment.info().run().reason == "min_sample_size"
    assert len(told) == 1


def test_a_duration_is_waited_for_whatever_the_sample(biz, clock):
    experiment = biz.experiment.define("x", TWO, min_sample_size=2, duration="14d", autostart=True)
    for n in range(40):
        experiment.assign(f"u{n}").run()
    clock.advance("2d")
    biz.drain()
    assert experiment.info().run().status == "running"


def test_a_definition_can_be_awaited(biz):
    import asyncio

    async def define():
        experiment = await biz.experiment.define("x", TWO)
        await experiment.start()
        return (await experiment.activate("u1")), await experiment.info()

    variant, info = asyncio.run(define())
    assert variant in TWO
    assert info.status == "running"
