"""The facts under the results: exposures, attribution, activation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Thread

import orjson
import pytest

import bizcode
from bizcode import Business, InvalidValue

TWO = ["control", "value"]


def exposures(biz):
    rows = [row for row in biz.store.log.read(0) if row.kind == "system" and row.name == "exposure"]
    return [(row.user, orjson.loads(row.data)["variant"]) for row in rows]


def other(variant):
    return TWO[1 - TWO.index(variant)]


def test_the_first_assignment_is_logged_once(biz, pricing):
    query = pricing.assign("u1", plan="pro")
    assert exposures(biz) == []
    variant = query.run()
    query.run()
    pricing.assign("u1").run()
    pricing.activate("u1")
    biz.track.Purchase({"user_id": "u1"}, experiment="pricing")
    assert exposures(biz) == [("u1", variant)]


def test_once_among_threads_and_processes(tmp_path, clock):
    with Business(tmp_path / "b", clock=clock, worker=False) as biz:
        biz.experiment.define("x", TWO, autostart=True)
        code = (
            "import sys; from bizcode import Business\n"
            "with Business(sys.argv[1], worker=False) as biz:\n"
            "    print([biz.experiment('x').assign(f'u{n}').run() for n in range(20)])"
        )
        env = {"PYTHONPATH": str(Path(bizcode.__file__).parents[1])}
        command = [sys.executable, "-c", code, str(tmp_path / "b")]
        children = [subprocess.Popen(command, env=env, stdout=subprocess.PIPE) for _ in range(2)]
        threads = [
            Thread(target=lambda: [biz.experiment("x").assign(f"u{n}").run() for n in range(20)])
            for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        outputs = [child.communicate(timeout=60)[0] for child in children]
        assert outputs[0] == outputs[1] != b""
        found = exposures(biz)
        assert sorted(user for user, _ in found) == sorted(f"u{n}" for n in range(20))
        assert [biz.experiment("x").assign(user).run() for user, _ in found] == [v for _, v in found]


def test_an_exposure_is_no_tracked_event(biz, pricing):
    pricing.assign("u1").run()
    assert biz.track.any.count().run() == 0
    assert biz.track.names().run() == []


def test_the_events_variant_is_the_users(biz, pricing):
    event = biz.track.Purchase({"user_id": "u1", "amount": 5}, experiment="pricing")
    assert event.experiments == {"pricing": pricing.assign("u1").run()}
    assert biz.track.any.count().by("experiment:pricing").run() == {event.experiments["pricing"]: 1}
    assert (
        biz.track.batch([{"event": "Purchase", "data": {"user_id": "u1"}, "experiment": "pricing"}])[
            0
        ].experiments
        == event.experiments
    )


def test_variant_given_wins_and_being_seen_in_two_is_reported(biz, pricing):
    mine = pricing.assign("u1").run()
    event = biz.track.Purchase({"user_id": "u1"}, experiment="pricing", variant=other(mine))
    assert event.experiments == {"pricing": other(mine)}
    pricing.assign("u2").run()
    found = pricing.results().run()
    assert found.excluded == 1
    assert sum(variant.users for variant in found.variants.values()) == 1
    assert "1 user was seen in two variants and left out." in found.warnings


def test_an_unknown_variant_is_refused(biz, pricing):
    with pytest.raises(InvalidValue, match="it has control, value"):
        biz.track.Purchase({"user_id": "u1"}, experiment="pricing", variant="usage")
    with pytest.raises(InvalidValue, match="variant="):
        biz.track.Purchase({"user_id": "u1"}, variant="value")
    assert biz.track.Purchase.count().run() == 0


def test_an_attributed_event_at_another_time_is_an_exposure_at_that_time(biz, pricing, clock):
    biz.track.Purchase({"user_id": "u1"}, experiment="pricing", at="2024-03-01")
    biz.track.Purchase({"user_id": "u1"}, at="2024-03-02")
    found = pricing.results().run()
    assert sum(variant.conversions for variant in found.variants.values()) == 1


def test_a_known_id_exposes_nobody(biz, pricing):
    biz.track.Purchase({"user_id": "u1"}, id="a")
    biz.track.Purchase({"user_id": "u1"}, id="a", experiment="pricing")
    assert exposures(biz) == []


def test_activation_is_carried_by_every_later_event_in_any_process(tmp_path, clock):
    with (
        Business(tmp_path / "b", clock=clock, worker=False) as one,
        Business(tmp_path / "b", clock=clock, worker=False, durability="buffered") as two,
    ):
        experiment = one.experiment.define("x", TWO, autostart=True)
        assert one.track.Before(user_id="u1").experiments == {}
        activation = experiment.activate("u1")
        assert activation.variant == experiment.assign("u1").run() == activation
        carried = {"x": activation.variant}
        assert one.track.After(user_id="u1").experiments == carried
        two.track.After(user_id="u1")
        with two.do():
            two.track.After(user_id="u1")
        two.flush()
        assert [event.experiments for event in two.track.After.events()] == [carried] * 3
        assert two.track.After(user_id="u2").experiments == {}
        assert one.measure.revenue(5, user_id="u1").user == "u1"


def test_two_activations_are_carried_side_by_side(biz, pricing):
    second = biz.experiment.define("second", TWO, autostart=True)
    first = pricing.activate("u1").variant
    carried = {"pricing": first, "second": second.activate("u1").variant}
    assert biz.track.Purchase(user_id="u1").experiments == carried
    event = biz.track.Purchase({"user_id": "u1"}, experiment="pricing", variant=other(first))
    assert event.experiments == {**carried, "pricing": other(first)}


def test_activation_ends_with_the_experiment(biz, pricing, clock):
    variant = pricing.activate("u1").variant
    pricing.pause()
    assert biz.track.Purchase(user_id="u1").experiments == {"pricing": variant}
    pricing.stop()
    assert biz.track.Purchase(user_id="u1").experiments == {}
    pricing.graduate("value")
    assert biz.track.Purchase(user_id="u1").experiments == {"pricing": "value"}


def test_who_is_not_in_it_is_not_activated(biz):
    experiment = biz.experiment.define("x", TWO, audience={"plan": "pro"}, autostart=True)
    activation = experiment.activate("u1", plan="free")
    assert activation.variant is None
    assert not activation
    assert biz.track.Purchase(user_id="u1").experiments == {}


def test_inside_do_an_exposure_is_kept_with_the_rest_or_not_at_all(biz, pricing):
    def broken():
        with biz.do():
            pricing.activate("u1")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert exposures(biz) == []
    assert biz.track.Purchase(user_id="u1").experiments == {}
    with biz.do():
        variant = pricing.activate("u1").variant
        event = biz.track.Purchase(user_id="u1")
    assert exposures(biz) == [("u1", variant)]
    assert event.experiments == {"pricing": variant}


def test_a_merged_user_counts_once(biz, pricing, clock):
    anonymous = pricing.assign("anon").run()
    named = next(f"u{n}" for n in range(50) if pricing.assign(f"u{n}").run() == anonymous)
    before = sum(variant.users for variant in pricing.results().run().variants.values())
    biz.identify("anon", named)
    assert sum(variant.users for variant in pricing.results().run().variants.values()) == before - 1
    assert pricing.results().run().excluded == 0


def test_forget_leaves_nothing_of_a_user(biz, pricing):
    for user in ("u1", "u2"):
        pricing.activate(user, email=f"{user}@example.org")
        biz.track.Purchase(user_id=user)
    biz.forget("u1")
    assert [user for user, _ in exposures(biz)] == ["u2"]
    assert biz.store.log.scan("activation")[0][0] == "u2"
    assert [key for key, _ in biz.store.log.scan("exposure:pricing")] == ["u2"]
    assert sum(variant.users for variant in pricing.results().run().variants.values()) == 1
    pricing.assign("u1").run()
    assert [user for user, _ in exposures(biz)] == ["u2", "u1"]
