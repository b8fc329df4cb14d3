"""Streams against naive windows: any interleaving within the lateness and any cut gives the same."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from bizcode import AlreadyExists, Business, InvalidQuery, InvalidTime, ManualClock, this

START = datetime(2024, 1, 1, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


@pytest.fixture
def shop():
    clock = ManualClock(START)
    with Business(":memory:", clock=clock, worker=False) as biz:
        yield biz, clock


def emit(biz, minute, **data):
    return biz.stream.emit("Order.created", data, at=at(minute))


def finish(biz, clock):
    clock.advance("30d")
    biz.drain()


@pytest.mark.parametrize("seed", range(5))
def test_tumbling_windows_match_a_naive_sum_however_the_input_is_cut(shop, seed):
    biz, clock = shop
    rng = random.Random(seed)
    orders = (
        biz.stream.Order.created.filter(this.total > 10)
        .key_by("region")
        .out_of_order("30m")
        .window.tumbling("1h")
    )
    live = orders.aggregate(
        n=biz.count(), revenue=biz.sum("total"), items=biz.collect("total"), first=biz.first("total")
    )
    live.to.measure.revenue(value="revenue").to.view.hours.named("hours").start()
    got = []
    live.subscribe(got.append)
    rows = [(minute, rng.choice("ab"), rng.randrange(40)) for minute in sorted(rng.sample(range(600), 80))]
    jittered = sorted(rows, key=lambda row: row[0] + rng.uniform(0, 29))
    for minute, region, total in jittered:
        emit(biz, minute, region=region, total=total)
        if rng.random() < 0.2:
            biz.drain()
    finish(biz, clock)
    expected: dict = {}
    for minute, region, total in rows:
        if total > 10:
            expected.setdefault((region, at(minute // 60 * 60)), []).append(total)
    found = {(r.key, r.window_start): (r.n, r.revenue, r["items"], r.first) for r in got}
    assert len(got) == len(expected)
    assert found == {k: (len(v), sum(v), v, v[0]) for k, v in expected.items()}
    assert biz.measure.revenue.sum().run() == sum(map(sum, expected.values()))
    assert (
        biz.measure.revenue.sum().by("region").run()
        == {r: sum(sum(v) for (k, _), v in expected.items() if k == r) for r in {k for k, _ in expected}} | {}
    )
    assert sorted(map(str, live.run(since="start").run())) == sorted(map(str, got))


def test_sliding_windows(shop):
    biz, clock = shop
    got = []
    biz.stream.Order.created.key_by("r").window.sliding("1h", "20m").aggregate(n=biz.count()).subscribe(
        got.append
    )
    for minute in (5, 25, 50):
        emit(biz, minute, r="a")
    finish(biz, clock)
    assert [(r.window_start, r.n) for r in got] == [
        (at(-40), 1),
        (at(-20), 2),
        (at(0), 3),
        (at(20), 2),
        (at(40), 1),
    ]


@pytest.mark.parametrize("seed", range(5))
def test_sessions_merge_when_an_element_bridges_them(shop, seed):
    biz, clock = shop
    rng = random.Random(seed)
    got = []
    sessions = (
        biz.stream.track.View.key_by("user_id")
        .out_of_order("2h")
        .window.session("30m")
        .aggregate(n=biz.count())
    )
    sessions.subscribe(got.append)
    minutes = sorted(rng.sample(range(600), 30))
    for minute in sorted(minutes, key=lambda m: m + rng.uniform(0, 119)):
        biz.track.View({"user_id": "u"}, at=at(minute))
        if rng.random() < 0.3:
            biz.drain()
    finish(biz, clock)
    expected = [[minutes[0]]]
    for minute in minutes[1:]:
        if minute - expected[-1][-1] < 30:
            expected[-1].append(minute)
        else:
            expected.append([minute])
    assert [(r.window_start, r.window_end, r.n) for r in got] == [
        (at(s[0]), at(s[-1] + 30), len(s)) for s in expected
    ]


def test_late_elements_correct_then_go_to_late(shop):
    biz, clock = shop
    late = []
    stream = (
        biz.stream.Order.created.key_by("r")
        .lateness("1h")
        .late(late.append)
        .window.tumbling("1h")
        .aggregate(n=biz.count())
    )
    stream.to.measure.orders.named("o").start()
    emit(biz, 10, r="a")
    emit(biz, 70, r="a")
    biz.drain()
    assert biz.measure.orders.sum().run() == 1
    emit(biz, 20, r="a")
    biz.drain()
    assert (biz.measure.orders.count().run(), biz.measure.orders.sum().run()) == (1, 2)
    emit(biz, 200, r="a")
    biz.drain()
    emit(biz, 30, r="a")
    biz.drain()
    assert [e.r for e in late] == ["a"]
    assert biz.stream.list().run()[0].late == 1
    finish(biz, clock)
    assert biz.measure.orders.sum().run() == 4


@pytest.mark.parametrize("first", ["Order.created", "Payment.done"])
def test_the_key_of_a_join_is_named_as_the_left_side_names_it(shop, first):
    biz, clock = shop
    orders, payments = biz.stream.Order.created.key_by("order"), biz.stream.Payment.done.key_by("of")
    pairs = orders.left_join(payments).within("10m").on(lambda o, p: {"n": 1})
    pairs.to.measure.paid(value="n").named("paid").start()
    for name in sorted(("Order.created", "Payment.done"), key=lambda name: name != first):
        biz.stream.emit(name, {"order": 7, "of": 7}, at=at(0))
    finish(biz, clock)
    assert biz.measure.paid.sum().by("order").run() == {7: 1}


def test_joins_match_every_pair_within_the_bound(shop):
    biz, clock = shop
    rng = random.Random(3)
    orders, payments = biz.stream.Order.created.key_by("k"), biz.stream.Payment.done.key_by("k")
    pairs, lefts, groups = [], [], []
    orders.join(payments).within("10m").on(lambda o, p: {"o": o.n, "p": p.n}).subscribe(
        lambda r: pairs.append((r.o, r.p))
    )
    orders.left_join(payments).within("10m").on(lambda o, p: {"o": o.n, "p": p and p.n}).subscribe(
        lambda r: lefts.append((r.o, r.p))
    )
    orders.co_group(payments).within("10m").subscribe(lambda r: groups.append((len(r[0]), len(r[1]))))
    rows = sorted((rng.randrange(200), rng.choice("op"), rng.choice("xy"), n) for n in range(40))
    for minute, kind, key, n in rows:
        biz.stream.emit("Order.created" if kind == "o" else "Payment.done", {"k": key, "n": n}, at=at(minute))
        if rng.random() < 0.3:
            biz.drain()
    finish(biz, clock)
    expected = [
        (a[3], b[3])
        for a in rows
        for b in rows
        if a[1] == "o" and b[1] == "p" and a[2] == b[2] and abs(a[0] - b[0]) <= 10
    ]
    assert sorted(pairs) == sorted(expected)
    alone = [(a[3], None) for a in rows if a[1] == "o" and a[3] not in {o for o, _ in expected}]
    assert sorted(lefts, key=str) == sorted(expected + alone, key=str)
    assert (sum(a for a, _ in groups), sum(b for _, b in groups)) == (
        sum(1 for r in rows if r[1] == "o"),
        sum(1 for r in rows if r[1] == "p"),
    )


def test_a_stream_that_is_to_begin_at_no_time_is_not_there(shop):
    biz, _ = shop
    stream = biz.stream.track.P.to.track.Q.named("s")
    with pytest.raises(InvalidTime):
        stream.start(since="bogus")
    assert biz.stream.list().run() == []


def test_a_retracted_record_leaves_the_open_window(shop):
    biz, clock = shop
    biz.stream.track.P.key_by("r").window.tumbling("1h").aggregate(total=biz.sum("a")).to.measure.total.named(
        "t"
    ).start()
    event = biz.track.P({"r": "x", "a": 5}, at=at(1))
    biz.track.P({"r": "x", "a": 7}, at=at(2))
    biz.drain()
    biz.stream.retract(event.id)
    finish(biz, clock)
    assert biz.measure.total.sum().run() == 7


@pytest.mark.parametrize("vectorised", [False, True])
def test_a_source_is_idle_when_nothing_came_though_what_came_is_of_an_earlier_time(shop, vectorised):
    biz, clock = shop
    got = []
    orders = biz.stream.track.Order if vectorised else biz.stream.track.Order.map(lambda e: e)
    orders.window.tumbling("10m").aggregate(n=biz.count()).to(lambda e: got.append(e.n)).named("n").start()
    start = clock.now()
    clock.advance("10h")
    for part in (range(60), range(60, 120)):
        biz.track.batch(
            [
                {"event": "Order", "data": {"n": n}, "at": start / 1e6 + 60 + 3 * n}
                for n in part
                for _ in range(40)
            ]
        )
        biz.drain()
    assert got == []
    clock.advance("61s")
    biz.drain()
    assert sum(got) == 120 * 40


def test_days_follow_the_business_calendar(tmp_path):
    clock = ManualClock("2024-03-29T00:00:00Z")
    got = []
    with Business(tmp_path, timezone="Europe/Berlin", clock=clock, worker=False) as biz:
        biz.stream.track.P.key_by("r").window.tumbling("1d").aggregate(n=biz.count()).subscribe(got.append)
        for hour in range(72):
            biz.track.P({"r": "x"}, at=datetime(2024, 3, 29, 23, 30, tzinfo=UTC) + timedelta(hours=hour))
        clock.advance("10d")
        biz.drain()
    assert [r.n for r in got] == [24, 23, 24, 1]


def test_map_flat_map_enrich_reduce_throttle_and_sinks(shop):
    biz, clock = shop
    told, sums = [], []

    @biz.Customer.action
    def notify(customer, biz, element):
        told.append((customer.id, element.total))

    async def add(element, biz):
        return {**element, "double": element.total * 2}

    base = biz.stream.Order.created
    base.flat_map(lambda o: [o.data, o.data]).enrich(add).filter(double__gte=10).to.Customer(
        "who"
    ).notify.to.track.Big.named("a").start()
    base.key_by("who").window.tumbling("1h").reduce(
        lambda s, e: {"sum": s["sum"] + e.total}, {"sum": 0}
    ).subscribe(lambda r: sums.append(r.sum))
    throttled = []
    base.key_by("who").throttle("10m").subscribe(lambda e: throttled.append(e.total))
    for minute, total in ((0, 5), (5, 3), (20, 8)):
        emit(biz, minute, who="c1", total=total)
    finish(biz, clock)
    assert told == [("c1", 5), ("c1", 5), ("c1", 8), ("c1", 8)]
    assert biz.track.Big.count().run() == 4
    assert sums == [16]
    assert throttled == [5, 8]


def test_it_goes_on_where_it_was_and_refuses_another_under_its_name(tmp_path):
    clock = ManualClock(START)

    def pipeline(biz):
        return (
            biz.stream.Order.created.key_by("r")
            .window.tumbling("1h")
            .aggregate(n=biz.count())
            .to.measure.n.named("s")
        )

    with Business(tmp_path, clock=clock, worker=False) as biz:
        pipeline(biz).start()
        emit(biz, 1, r="a")
        biz.drain()
        pipeline(biz).stop()
        emit(biz, 2, r="a")
        biz.drain()
    with Business(tmp_path, clock=clock, worker=False) as biz:
        pipeline(biz).start()
        finish(biz, clock)
        assert biz.measure.n.current().run() == 2
        with pytest.raises(AlreadyExists, match="reset=True"):
            biz.stream.Order.created.to.track.X.named("s").start()
        biz.stream.Order.created.to.track.X.named("s").start(reset=True)


def test_what_raises_is_retried_then_a_dead_letter_and_the_stream_goes_on(shop):
    biz, _ = shop
    calls, errors = [], []

    def bad(element):
        calls.append(element.n)
        if element.n == 1:
            raise ValueError("no")
        return {"n": element.n}

    biz.stream.track.P.map(bad).retry(2).to.track.Q.named("q").start()
    biz.stream.track.P.map(lambda e: 1 / 0).retry(0).on_error(
        lambda error, e: errors.append(type(error))
    ).subscribe(print)
    for n in (1, 2):
        biz.track.P(n=n)
    biz.drain()
    assert calls == [1, 1, 1, 2]
    assert [letter.record.n for letter in biz.dead_letters.list(consumer="stream:q").run()] == [1]
    assert biz.track.Q.count().run() == 1
    assert errors == [ZeroDivisionError, ZeroDivisionError]


def test_refusals(shop):
    biz, _ = shop
    orders = biz.stream.Order.created
    with pytest.raises(InvalidQuery, match="slide"):
        orders.key_by("r").window.sliding("1h", "2h")
    with pytest.raises(InvalidQuery, match="key"):
        orders.join(biz.stream.Payment.done).within("1m").on(lambda o, p: {})
    with pytest.raises(InvalidQuery, match="name"):
        orders.start()
    with pytest.raises(InvalidQuery, match="value="):
        orders.key_by("r").window.tumbling("1h").aggregate(a=biz.count(), b=biz.sum("x")).to.measure.m.start()
    with pytest.raises(InvalidQuery, match="aggregate"):
        orders.window.tumbling("1h").map(len)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda biz, s: s.join(5), "need a key"),
        (lambda biz, s: s.join(s).within("1m").on(5), "on\\(\\) takes a function"),
        (lambda biz, s: s.join(s).to, "within"),
        (lambda biz, s: s.join(s.key_by("a", "b")).within("1m").on(print), "1 and 2 parts"),
        (lambda biz, s: s.aggregate(window_start=biz.count()), "window_start of its own"),
        (lambda biz, s: s.to.measure.m.named("m").start(), "which field"),
    ],
)
def test_what_can_not_be_meant_is_refused_where_it_is_said(shop, make, says):
    biz, _ = shop
    with pytest.raises(InvalidQuery, match=says):
        make(biz, biz.stream.track.P.key_by("k"))
    assert biz.stream.list().run() == []


def test_a_changed_option_of_time_is_named_in_the_refusal(shop):
    biz, _ = shop
    biz.stream.track.P.to.track.Q.named("copy").start()
    with pytest.raises(AlreadyExists, match="out_of_order 0:01:00"):
        biz.stream.track.P.out_of_order("1m").to.track.Q.named("copy").start()


def test_a_co_group_takes_a_function_of_the_two_lists(shop):
    biz, _ = shop
    left, right = biz.stream.track.L.key_by("k"), biz.stream.track.R.key_by("k")
    grouped = left.co_group(right).within("1m").on(lambda a, b: {"a": len(a), "b": len(b)})
    biz.track.L(k=1)
    biz.track.L(k=1)
    assert [(g.a, g.b) for g in grouped.run().run()] == [(2, 0)]


def test_a_view_of_a_stream_is_there_before_its_first_row(shop):
    biz, _ = shop
    biz.stream.track.P.key_by("k").to.view.rows.named("rows").start()
    assert biz.view.rows.get().run() == []


def test_begun_anew_a_stream_replaces_what_its_windows_gave(shop):
    biz, clock = shop

    def sums(least):
        keyed = biz.stream.track.P.filter(this.v > least).key_by("k")
        return keyed.window.tumbling("1h").aggregate(s=biz.sum("v")).to.measure.sums.named("sums")

    for v in (1, 2, 3):
        biz.track.P(v=v, k="a")
    for least, expected in ((0, 6), (0, 6), (1, 5), (2, 3)):
        sums(least).start(reset=True, since="start")
        biz.drain()
        clock.advance("3h")
        biz.drain()
        assert (biz.measure.sums.sum().run(), biz.measure.sums.count().run()) == (expected, 1)
