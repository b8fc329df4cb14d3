"""What is corrected: late elements, retractions, and results that rest on results, against naive oracles."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from bizcode import Business, ManualClock, this

START = datetime(2024, 1, 1, tzinfo=UTC)
ALLOWANCES = [("300m", "0s"), ("0s", "300m"), ("300m", "3m")]


def at(minutes: float) -> datetime:
    return START + timedelta(minutes=minutes)


@pytest.fixture
def shop():
    clock = ManualClock(START)
    with Business(":memory:", clock=clock, worker=False) as biz:
        yield biz, clock


def happen(biz, clock, seed, cut, names=("P",), count=60):
    """Jittered elements of two keys, some of them taken back; gives those that stay."""
    rng, cuts = random.Random(seed), random.Random(99)
    rows, gone = {}, set()
    for n in range(count):
        minute, name, key = n * 0.75 - rng.randint(0, 6), rng.choice(names), rng.choice("ab")
        record = biz.track[name]({"k": key, "v": n}, at=at(minute))
        rows[n] = (minute, name, key, n, record.id)
        if rng.random() < 0.15:
            taken = max(0, n - rng.randint(0, 3))
            if taken not in gone:
                gone.add(taken)
                biz.retract(rows[taken][4])
        if cuts.random() < cut:
            biz.drain()
    biz.drain()
    clock.advance("30d")
    for _ in range(3):
        biz.drain()
        clock.advance("2m")
    assert biz.dead_letters.list().run() == []
    return [row[:4] for n, row in rows.items() if n not in gone]


def tumbled(rows, minutes):
    """Values by key and window of (minute, key, value)."""
    found: dict = {}
    for minute, key, value in rows:
        found.setdefault((key, minute // minutes), []).append(value)
    return found


def out(biz, *fields):
    return sorted(
        (tuple(event[field] for field in fields) for event in biz.track.Out.events().limit(10_000).run()),
        key=str,
    )


@pytest.mark.parametrize("cut", [0, 0.3])
@pytest.mark.parametrize(("late", "unordered"), ALLOWANCES)
def test_windows_of_windows_count_each_result_once_as_it_stands(shop, late, unordered, cut):
    biz, clock = shop
    inner = (
        biz.stream.track.P.lateness(late)
        .out_of_order(unordered)
        .key_by("k")
        .window.tumbling("2m")
        .aggregate(n=biz.count())
        .filter(this.n != 2)
    )
    outer = (
        inner.key_by("k").window.tumbling("10m").aggregate(n=biz.sum("n"), most=biz.max("n"), of=biz.count())
    )
    outer.to.track.Out.to.measure.out(value="n").named("outer").start()
    rows = [(minute, key, n) for minute, _, key, n in happen(biz, clock, 1, cut)]
    passed = [(w * 2 + 1.9, k, len(v)) for (k, w), v in tumbled(rows, 2).items() if len(v) != 2]
    expected = [(k, sum(v), max(v), len(v)) for (k, _), v in tumbled(passed, 10).items()]
    assert out(biz, "k", "n", "most", "of") == sorted(expected)
    assert biz.measure.out.sum().run() == sum(row[1] for row in expected)


@pytest.mark.parametrize("cut", [0, 0.3])
@pytest.mark.parametrize(("late", "unordered"), ALLOWANCES)
def test_what_a_flat_map_makes_of_a_result_is_corrected_with_it(shop, late, unordered, cut):
    biz, clock = shop
    windows = biz.stream.track.P.lateness(late).out_of_order(unordered).key_by("k").window.tumbling("2m")
    each = windows.aggregate(all=biz.collect("v")).flat_map(lambda w: [{"v": v} for v in w.all if v % 3])
    each.to.track.Out.named("each").start()
    rows = happen(biz, clock, 2, cut)
    assert out(biz, "v") == sorted(((n,) for *_, n in rows if n % 3), key=str)


@pytest.mark.parametrize("cut", [0, 0.3])
@pytest.mark.parametrize(("late", "unordered"), ALLOWANCES)
def test_a_session_falls_apart_where_what_held_it_together_is_retracted(shop, late, unordered, cut):
    biz, clock = shop
    sessions = biz.stream.track.P.lateness(late).out_of_order(unordered).key_by("k").window.session("2m")
    counted = sessions.aggregate(n=biz.count(), all=biz.collect("v"))
    counted.to.track.Out.named("sessions").start()
    sessions.reduce(lambda state, e: {"n": state["n"] + 1}, {"n": 0}).to.measure.n(value="n").named(
        "n"
    ).start()
    rows = happen(biz, clock, 3, cut)
    expected = []
    for key in "ab":
        last = None
        for minute, n in sorted((minute, n) for minute, _, k, n in rows if k == key):
            if last is None or minute - last >= 2:
                expected.append((key, []))
            expected[-1][1].append(n)
            last = minute
    assert out(biz, "k", "all") == sorted(expected, key=str)
    assert biz.measure.n.sum().run() == len(rows)
    assert sorted(([row.k, row["all"]] for row in counted.run()), key=str) == sorted(
        map(list, expected), key=str
    )


def matched(rows, kind, within):
    """What a join gives of (minute, side, key, n), as (left, right, time, key)."""
    lefts = [row for row in rows if row[1] == "L"]
    rights = [row for row in rows if row[1] == "R"]
    if kind == "co_group":
        found = []
        for key in "ab":
            clusters: list = []
            for row in sorted(row for row in rows if row[2] == key):
                if clusters and row[0] - clusters[-1][-1][0] <= within:
                    clusters[-1].append(row)
                else:
                    clusters.append([row])
            for cluster in clusters:
                cluster.sort(key=lambda row: (row[0], row[3]))
                sides = [[n for _, s, _, n in cluster if s == side] for side in "LR"]
                found.append((*sides, cluster[-1][0], key))
        return found
    pairs = [
        (left[3], right[3], max(left[0], right[0]), left[2])
        for left in lefts
        for right in rights
        if left[2] == right[2] and abs(left[0] - right[0]) <= within
    ]
    if kind == "left_join":
        known = {pair[0] for pair in pairs}
        pairs += [(left[3], None, left[0], left[2]) for left in lefts if left[3] not in known]
    return pairs


def joined(biz, kind, late, unordered):
    def side(name):
        return biz.stream.track[name].lateness(late).out_of_order(unordered).key_by("k")

    def pair(left, right):
        if kind == "co_group":
            return {"l": [e.v for e in left], "r": [e.v for e in right]}
        return {"l": left.v, "r": right and right.v}

    return getattr(side("L"), kind)(side("R")).within("2m").on(pair)


@pytest.mark.parametrize("kind", ["join", "left_join", "co_group"])
@pytest.mark.parametrize(("late", "unordered"), ALLOWANCES)
def test_a_join_takes_back_what_was_made_of_a_retracted_or_unmatched_element(shop, kind, late, unordered):
    biz, clock = shop
    joined(biz, kind, late, unordered).to.track.Out.named("pairs").start()
    rows = happen(biz, clock, 4, 0.3, ("L", "R"))
    assert out(biz, "l", "r") == sorted((row[:2] for row in matched(rows, kind, 2)), key=str)


@pytest.mark.parametrize("kind", ["join", "left_join", "co_group"])
@pytest.mark.parametrize(("late", "unordered"), ALLOWANCES)
def test_a_window_after_a_join_holds_the_pairs_that_stand(shop, kind, late, unordered):
    biz, clock = shop
    windows = joined(biz, kind, late, unordered).window.tumbling("10m")
    windows.aggregate(n=biz.count()).to.track.Out.named("pairs").start()
    rows = happen(biz, clock, 5, 0.3, ("L", "R"))
    pairs = tumbled([(row[2], row[3], row) for row in matched(rows, kind, 2)], 10)
    assert out(biz, "key", "n") == sorted(((key, len(v)) for (key, _), v in pairs.items()), key=str)


def test_a_join_goes_on_with_its_pairs_after_a_restart(tmp_path):
    clock = ManualClock(START)
    ids = []
    for step in range(3):
        with Business(tmp_path, clock=clock, worker=False) as biz:
            joined(biz, "left_join", "1h", "0s").to.track.Out.named("pairs").start()
            if step == 0:
                biz.track.L({"k": 1, "v": 1}, at=at(0))
                biz.track.L({"k": 1, "v": 2}, at=at(30))
                biz.track.R({"k": 1, "v": 3}, at=at(30))
            elif step == 1:
                ids.append(biz.track.R({"k": 1, "v": 4}, at=at(1)).id)
            else:
                biz.retract(ids[0])
            biz.drain()
            expected = {0: [(1, None), (2, 3)], 1: [(1, 4), (2, 3)], 2: [(1, None), (2, 3)]}[step]
            assert out(biz, "l", "r") == sorted(expected, key=str)


def test_an_element_that_can_find_no_partner_any_more_is_late(shop):
    biz, _ = shop
    late = []
    left = biz.stream.track.L.late(lambda e: late.append(e.v)).key_by("k")
    left.join(biz.stream.track.R.key_by("k")).within("5s").on(lambda a, b: {"a": a.v}).named("pairs").start()
    for name in "LR":
        biz.track[name]({"k": 1, "v": 1}, at=at(2))
    biz.track.R({"k": 1, "v": 2}, at=at(0))
    biz.drain()
    assert late == [2]
    assert biz.stream.list().run()[0].late == 1


@pytest.mark.parametrize("ever", [True, False])
def test_an_idle_side_of_a_join_holds_up_the_other_no_longer(shop, ever):
    biz, clock = shop
    got = []
    pairs = biz.stream.track.L.key_by("k").left_join(biz.stream.track.R.key_by("k")).within("1m")
    pairs.on(lambda left, right: {"v": left.v}).to(lambda e: got.append(e.v)).named("pairs").start()
    if ever:
        biz.track.R(k=0, v=0)
    for n in range(8):
        biz.track.L(k=1, v=n)
        biz.drain()
        clock.advance("30s")
    assert got[:4] == [0, 1, 2, 3]


def test_an_emptied_window_fires_again_with_what_comes_late(shop):
    biz, _ = shop
    windows = biz.stream.track.P.lateness("1h").key_by("k").window.tumbling("10m")
    windows.aggregate(n=biz.count()).to.track.Out.named("n").start()
    first = biz.track.P({"k": 1}, at=at(1))
    biz.drain()
    biz.retract(first.id)
    biz.track.P({"k": 2}, at=at(20))
    biz.drain()
    biz.track.P({"k": 1}, at=at(2))
    biz.drain()
    assert out(biz, "k", "n") == [(1, 1)]


def test_records_keep_their_own_attributes_in_joins_and_reductions(shop):
    biz, clock = shop
    seen = []

    def fold(state, event):
        seen.append((event.type, event.entity, event.version, event.timestamp))
        return {"n": state["n"] + 1}

    created = biz.stream.Order.created.key_by("entity")
    created.window.tumbling("1h").reduce(fold, {"n": 0}).to.track.Out.named("n").start()
    paid = biz.stream.Order.paid.key_by("entity")
    created.join(paid).within("1h").on(
        lambda a, b: {"who": a.entity, "took": (b.timestamp - a.timestamp).total_seconds()}
    ).to.track.Paid.named("paid").start()
    biz.Order("o1").append("created", total=1)
    clock.advance("30s")
    biz.Order("o1").append("paid")
    biz.drain()
    clock.advance("3h")
    biz.drain()
    assert seen == [("Order.created", "o1", 1, START)]
    assert out(biz, "entity", "n") == [("o1", 1)]
    assert [(e.who, e.took) for e in biz.track.Paid.events().run()] == [("o1", 30.0)]


@pytest.mark.parametrize("since", [None, at(20)])
@pytest.mark.parametrize("again", [False, True])
def test_a_window_made_again_has_nothing_from_before_the_stream_began(tmp_path, since, again):
    clock, got = ManualClock(START), []

    def start(biz, since=None):
        windows = biz.stream.track.P.key_by("k").window.tumbling("1h").aggregate(total=biz.sum("v"))
        windows.to(lambda e: got.append(e.total)).named("w").start(since=since)
        biz.drain()

    with Business(tmp_path, clock=clock, worker=False) as biz:
        before = biz.track.P({"k": "x", "v": 1}, at=at(10))
        start(biz, since)
        first, _ = (biz.track.P({"k": "x", "v": v}, at=at(30)) for v in (10, 100))
        biz.drain()
        if not again:
            biz.retract(first.id)
            biz.retract(before.id)
            clock.advance("2h")
            biz.drain()
    if again:
        with Business(tmp_path, clock=clock, worker=False) as biz:
            start(biz)
            biz.track.P({"k": "x", "v": 1_000}, at=at(15))
            biz.retract(first.id)
            clock.advance("2h")
            biz.drain()
    assert got == [100 + 1_000 * (again and since is None)]


def test_a_running_fold_is_made_again_without_what_is_retracted(shop):
    biz, _ = shop
    keyed = biz.stream.track.P.key_by("k")
    keyed.aggregate(s=biz.sum("v")).to.view.sums.named("sums").start()
    keyed.reduce(lambda state, e: state + e.v, 0).to.view.folds.named("folds").start()
    records = [biz.track.P(k=1, v=v) for v in (1, 2, 4)]
    biz.drain()
    biz.retract(records[1].id)
    biz.drain()
    assert biz.view.sums.get(1).run().s == 5
    biz.track.P(k=1, v=8)
    biz.drain()
    assert (biz.view.sums.get(1).run().s, biz.view.folds.get(1).run().value) == (13, 13)


def test_numbers_beyond_64_bits_stop_no_stream(shop):
    biz, clock = shop
    windows = biz.stream.track.P.key_by("v").window.tumbling("1m")
    made = windows.aggregate(n=biz.count(), d=biz.distinct("v"), sd=biz.stddev("v"), s=biz.sum("v"))
    got = []
    made.to(got.append).named("n").start()
    for _ in range(2):
        biz.track.P(v=1e308)
    biz.drain()
    clock.advance("1h")
    biz.drain()
    assert [(e.n, e.d, e.sd, e.s) for e in got] == [(2, 1, float("inf"), float("inf"))]


@pytest.mark.parametrize("cut", [0, 0.3])
def test_a_running_fold_over_windows_counts_each_result_once_as_it_stands(shop, cut):
    biz, clock = shop
    windows = biz.stream.track.P.lateness("60d").key_by("k").window.tumbling("5m").aggregate(s=biz.sum("v"))
    windows.aggregate(total=biz.sum("s"), of=biz.count()).to.view.total.start()
    windows.reduce(lambda state, e: [*state, e.s], []).to.view.each.start()
    rows = happen(biz, clock, 7, cut)
    sums: dict = {}
    for (key, _), amounts in tumbled([(m, k, v) for m, _, k, v in rows], 5).items():
        sums.setdefault(key, []).append(sum(amounts))
    assert {row.key: (row.total, row.of) for row in biz.view.total.get()} == {
        key: (sum(found), len(found)) for key, found in sums.items()
    }
    assert {row.key: sorted(row.value) for row in biz.view.each.get()} == {
        key: sorted(found) for key, found in sums.items()
    }


def test_a_running_fold_of_nothing_leaves_its_view(shop):
    biz, _ = shop
    biz.stream.track.P.key_by("k").aggregate(n=biz.count()).to.view.direct.start()
    windows = biz.stream.track.P.lateness("1h").key_by("k").window.tumbling("5m").aggregate(n=biz.count())
    windows.aggregate(of=biz.count()).to.view.over_windows.start()
    record = biz.track.P({"k": 1}, at=at(0))
    biz.track.P({"k": 2}, at=at(6))
    biz.drain()
    assert [row.key for row in biz.view.direct.get()] == [1, 2]
    assert [row.key for row in biz.view.over_windows.get()] == [1]
    biz.retract(record.id)
    biz.drain()
    assert [row.key for row in biz.view.direct.get()] == [2]
    assert biz.view.over_windows.get().run() == []


@pytest.mark.parametrize("cut", [0, 0.3])
def test_what_was_written_of_a_record_goes_with_it(shop, cut):
    biz, clock = shop
    big = biz.stream.track.P.filter(this.v > 5).map(lambda e: {"k": e.k, "v": e.v * 2})
    big.to.track.Out.start()
    big.to.measure.amount(value="v").start()
    big.flat_map(lambda e: [e, {**e, "v": e.v + 1}]).to.track.Twice.start()
    big.key_by("k").to.view.latest.start()
    biz.stream.track.Out.to.track.Chained.start()
    left = [(key, 2 * v) for _, _, key, v in happen(biz, clock, 3, cut) if v > 5]
    amounts = sorted(v for _, v in left)
    assert sorted(e.v for e in biz.track.Out.events()) == amounts
    assert sorted(e.v for e in biz.track.Chained.events()) == amounts
    assert biz.measure.amount.sum().run() == sum(amounts)
    assert sorted(e.v for e in biz.track.Twice.events()) == sorted([*amounts, *(v + 1 for v in amounts)])
    assert {row.k: row.v for row in biz.view.latest.get()} == dict(left)


def test_what_was_written_of_a_record_goes_with_it_after_a_restart_and_anew(tmp_path):
    clock = ManualClock(START)

    def started(biz, **options):
        biz.stream.track.P.map(lambda e: {"v": e.v}).to.track.Out.start(**options)
        biz.drain()

    with Business(tmp_path, clock=clock, worker=False) as biz:
        started(biz)
        first = biz.track.P(v=1)
        second = biz.track.P(v=2)
        biz.drain()
        biz.store.segments.seal()
    with Business(tmp_path, clock=clock, worker=False) as biz:
        started(biz)
        biz.retract(first.id)
        biz.drain()
        assert [e.v for e in biz.track.Out.events()] == [2]
        biz.stream.track.P.map(lambda e: {"v": e.v}).to.track.Out.stop()
        started(biz, reset=True, since="start")
        assert [e.v for e in biz.track.Out.events()] == [2, 2]
        biz.retract(second.id)
        biz.drain()
        assert biz.track.Out.count().run() == 0
