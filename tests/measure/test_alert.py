"""Alerts against a naive state machine, and each of their options."""

from __future__ import annotations

import random

import pytest

from bizcode import AlreadyExists, InvalidQuery, this


@pytest.mark.parametrize("seed", range(8))
def test_incidents_match_a_naive_machine_over_random_series(biz, clock, seed):
    rng = random.Random(seed)
    fired, resolved = [], []
    biz.measure.cpu.alert(name="hot", above=90, for_="5m", notify=fired.append, resolve=resolved.append)
    state, since, expected = "ok", None, []
    value = None
    for minute in range(120):
        if rng.random() < 0.5:
            value = rng.choice([50, 80, 95, 99])
            biz.measure.cpu(value)
        if value is not None and value > 90:
            since = minute if since is None else since
            if state == "ok" and minute - since >= 5:
                state = "firing"
                expected.append(("fire", minute))
        else:
            if state == "firing":
                expected.append(("resolve", minute))
            state, since = "ok", None
        counts = (len(fired), len(resolved))
        biz.drain()
        told = [("fire", minute)] * (len(fired) - counts[0]) + [("resolve", minute)] * (
            len(resolved) - counts[1]
        )
        assert told == [e for e in expected if e[1] == minute], minute
        clock.advance("1m")


def test_by_tags_each_set_has_its_state(biz, clock):
    alert = biz.measure.cpu.alert(name="hot", above=90, by=["host"], notify=lambda e: None)
    biz.measure.cpu(95, host="a")
    biz.measure.cpu(10, host="b")
    biz.drain()
    assert (alert.state, alert.states) == ("firing", {"a": "firing", "b": "ok"})


def test_it_clears_at_another_threshold_and_keeps_firing(biz, clock):
    resolved = []
    alert = biz.measure.cpu.alert(
        name="x", above=90, resolve_below=80, keep_firing_for="5m", resolve=resolved.append
    )
    for value in (95, 85):
        biz.measure.cpu(value)
        biz.drain()
        assert alert.state == "firing"
    biz.measure.cpu(70)
    biz.drain()
    assert alert.state == "firing"
    clock.advance("5m")
    biz.drain()
    assert (alert.state, len(resolved)) == ("ok", 1)


def test_silence_fires(biz, clock):
    fired = []
    alert = biz.measure.beat.alert(name="silent", absent="10m", notify=fired.append)
    biz.measure.beat(1)
    clock.advance("9m")
    biz.drain()
    assert not fired
    clock.advance("1m")
    biz.drain()
    assert (alert.state, len(fired)) == ("firing", 1)
    biz.measure.beat(1)
    biz.drain()
    assert alert.state == "ok"


def test_it_tells_again_every_so_long(biz, clock):
    fired = []
    biz.measure.cpu.alert(name="x", condition=this.value > 5, every="1h", notify=fired.append)
    biz.measure.cpu(6)
    for _ in range(4):
        biz.drain()
        clock.advance("30m")
    assert len(fired) == 2


def test_on_any_query_with_enough_samples(biz, clock):
    fired = []
    alert = (
        biz.track.ratio("Activate", "Signup")
        .since("1d")
        .alert(name="low", below=0.3, min_samples=3, notify=fired.append)
    )
    for n in range(3):
        biz.track.Signup()
        biz.drain()
        assert len(fired) == (n == 2)
    assert fired[0].value == 0.0
    clock.advance("2d")
    biz.drain()
    assert alert.name == "low"


def test_pending_survives_a_restart(tmp_path, clock):
    from bizcode import Business

    fired = []
    with Business(tmp_path, clock=clock, worker=False) as biz:
        alert = biz.measure.cpu.alert(name="x", above=90, for_="5m", notify=fired.append)
        biz.measure.cpu(95)
        biz.drain()
        assert alert.state == "pending"
    clock.advance("6m")
    with Business(tmp_path, clock=clock, worker=False) as biz:
        biz.measure.cpu.alert(name="x", above=90, for_="5m", notify=fired.append)
        biz.drain()
    assert len(fired) == 1


def test_disable_enable_delete_and_refusals(biz):
    fired = []
    alert = biz.measure.cpu.alert(name="x", above=90, notify=fired.append)
    alert.disable()
    biz.measure.cpu(95)
    biz.drain()
    assert not fired
    alert.enable()
    biz.measure.cpu(96)
    biz.drain()
    assert len(fired) == 1
    with pytest.raises(AlreadyExists):
        biz.measure.cpu.alert(name="x", above=91)
    assert [a.name for a in biz.alerts.list().run()] == ["x"]
    alert.delete()
    assert biz.alerts.list().run() == []
    with pytest.raises(InvalidQuery):
        biz.measure.cpu.alert(name="y")
    with pytest.raises(InvalidQuery):
        biz.measure.cpu.alert(name="y", above="high")


@pytest.mark.parametrize(
    "options",
    [
        {"above": float("nan")},
        {"below": float("inf")},
        {"above": True},
        {"above": 90, "resolve_below": 95},
        {"below": 5, "resolve_above": 3},
        {"above": 90, "resolve_above": 95},
        {"below": 5, "resolve_below": 3},
        {"absent": "5m", "resolve_below": 3},
        {"above": 90, "resolve_below": "low"},
        {"above": 90, "notify": 3},
        {"above": 90, "resolve": "slack"},
        {"above": 90, "by": 3},
        {"above": 90, "by": ["host", 3]},
        {"above": 90, "by": [""]},
    ],
)
def test_options_that_can_not_be_meant_are_refused_and_nothing_is_defined(biz, options):
    with pytest.raises(InvalidQuery, match=rf"{list(options)[-1]}="):
        biz.measure.cpu.alert(name="x", **options)
    assert biz.alerts.list().run() == []


def test_an_incident_is_not_over_while_the_other_limit_is_passed(biz):
    over = []
    alert = biz.measure.cpu.alert(name="x", above=90, below=5, resolve_below=80, resolve=over.append)
    for value in (95, 3):
        biz.measure.cpu(value)
        biz.drain()
    assert alert.state == "firing"
    assert not over
    biz.measure.cpu(50)
    biz.drain()
    assert alert.state == "ok"
    assert len(over) == 1


def test_a_notification_that_fails_is_retried_then_a_dead_letter(biz):
    calls = []

    def notify(event):
        calls.append(event)
        raise OSError("down")

    biz.measure.cpu.alert(name="x", above=90, notify=notify)
    biz.measure.cpu(95)
    biz.drain()
    biz.drain()
    assert len(calls) == 4
    assert len(biz.dead_letters.list(consumer="alert:x").run()) == 1


def test_on_a_query_by_tags_each_is_told(biz, clock):
    fired = []
    alert = (
        biz.track.Order.sum("amount")
        .since("1h")
        .alert(name="x", above=10, by=["plan"], min_samples=2, notify=fired.append)
    )
    for plan, amount in (("pro", 6), ("pro", 6), ("free", 6), ("gold", 99)):
        biz.track.Order(plan=plan, amount=amount)
    biz.drain()
    assert [event.tags for event in fired] == [{"plan": "pro"}]
    assert alert.states == {"pro": "firing", "free": "ok", "gold": "ok"}
    with pytest.raises(InvalidQuery, match="grouped by 1"):
        biz.track.Order.count().by("plan").alert(name="y", above=1, by=["plan", "region"])


def test_the_tags_of_a_grouped_query_have_its_names(biz):
    fired = []
    biz.track.Order.count().by("plan", "region").alert(name="x", above=1, notify=fired.append)
    biz.track.Order(plan="pro", region="eu")
    biz.track.Order(plan="pro", region="eu")
    biz.drain()
    assert [event.tags for event in fired] == [{"plan": "pro", "region": "eu"}]


@pytest.mark.parametrize("operation", ["count", "avg"])
def test_a_query_that_finds_nothing_any_more_is_over(biz, clock, operation):
    over = []
    query = biz.track.Order.since("1h")
    asked = query.count() if operation == "count" else query.avg("amount")
    grouped = asked.by("plan").alert(name="grouped", above=1, notify=print, resolve=over.append)
    single = asked.alert(name="single", above=1, notify=print, resolve=over.append)
    biz.track.Order(plan="pro", amount=5)
    biz.track.Order(plan="pro", amount=5)
    biz.drain()
    assert grouped.state == single.state == "firing"
    clock.advance("2h")
    biz.drain()
    assert grouped.state == single.state == "ok"
    assert sorted(event.alert for event in over) == ["grouped", "single"]


def test_silence_of_what_a_query_looks_at(biz, clock):
    fired, over = [], []
    options = {"absent": "10m", "notify": fired.append, "resolve": over.append}
    biz.track.Order.count().since("1d").alert(name="all", **options)
    biz.track.Order.count().alert(name="each", by="plan", **options)
    clock.advance("5m")
    biz.track.Order(plan="pro")
    clock.advance("9m")
    biz.drain()
    assert not fired
    clock.advance("1m")
    biz.drain()
    assert [(event.alert, event.tags) for event in fired] == [("all", {}), ("each", {"plan": "pro"})]
    biz.track.Order(plan="free")
    biz.drain()
    assert [event.alert for event in over] == ["all"]


def test_silence_counts_from_the_definition_where_nothing_ever_was(biz, clock):
    fired = []
    biz.track.Order.count().alert(name="x", absent="10m", notify=fired.append)
    biz.drain()
    clock.advance("9m")
    biz.drain()
    assert not fired
    clock.advance("1m")
    biz.drain()
    assert len(fired) == 1


def test_only_a_query_of_numbers_takes_an_alert(biz):
    for query in (
        biz.track.Order.count().since("1d").vs("prev"),
        biz.track.Order.events(),
        biz.track.funnel(["A", "B"]),
        biz.measure.cpu.trend(),
    ):
        with pytest.raises(InvalidQuery, match="query of numbers"):
            query.alert(name="x", above=1)
    assert biz.alerts.list().run() == []


def test_a_condition_on_a_query_that_raises_stops_no_other_alert(biz):
    fired = []

    def broken(value):
        raise RuntimeError("no")

    biz.track.Order.count().alert(name="a", condition=broken)
    biz.track.Order.count().alert(name="b", above=0, notify=fired.append)
    biz.track.Order()
    biz.drain()
    biz.track.Order()
    biz.drain()
    assert len(fired) == 1
    [letter] = biz.dead_letters.list().run()
    assert (letter.consumer, letter.error) == ("alert:a", "RuntimeError: no")
    biz.dead_letters.retry(letter.id)
    biz.drain()


def test_text_is_beyond_no_limit(biz):
    fired = []
    biz.track.Order.count().by("plan").alert(name="n", above=0, notify=fired.append)
    biz.track.Order.max("plan").alert(name="x", above=1, below=0, notify=fired.append)
    biz.track.Order(plan="pro")
    biz.drain()
    assert [event.alert for event in fired] == ["n"]


def test_an_alert_on_another_query_under_its_name_is_refused(biz):
    for _ in range(2):
        biz.track.ratio("Activate", "Signup").since("1d").alert(name="x", below=0.3)
        biz.track.Order.count().since("1d").alert(name="y", below=3)
    with pytest.raises(AlreadyExists):
        biz.track.ratio("Buy", "Signup").since("1d").alert(name="x", below=0.3)
    with pytest.raises(AlreadyExists):
        biz.track.Refund.count().since("1d").alert(name="y", below=3)
