"""Joins, run by the embedded runtime and with Spark keeping both sides: one story, told alike."""

from __future__ import annotations

import shutil
import signal
from typing import Any

import pytest
import spark_cluster
from join_story import Story
from test_spark_streams import told

from bizcode import Business, InvalidQuery, ManualClock, StorageError

NAMES = ["one stream with itself, by two names", "late ones"]


@pytest.fixture(scope="module")
def both(cluster, tmp_path_factory):
    """The story as the embedded runtime tells it, and Spark."""
    place = tmp_path_factory.mktemp("joins")
    return [
        Story(6, 0, NAMES).told(place / engine, url) for engine, url in (("in", None), ("spark", cluster))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_a_join_kept_by_spark_gives_what_the_embedded_runtime_gives(both, name):
    mine, theirs = both
    assert mine[-1][0][name], "there is nothing to compare"
    for one, other in zip(mine, theirs, strict=True):
        assert one[0][name] == other[0][name]
        assert one[1][name] == other[1][name]
    assert mine[-1][2] == theirs[-1][2]


PROGRAM = """
import os, signal, sys
from bizcode import Business, ManualClock
from bizcode.engine.spark.streaming import Streaming
from bizcode.stream.distributed_joins import DistributedJoin

place, engine, point, part = sys.argv[1], sys.argv[2] or None, sys.argv[3], int(sys.argv[4])

def after(kind, name):
    work = getattr(kind, name)
    def wrapped(*given):
        work(*given)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(kind, name, wrapped)

clock = ManualClock("2024-01-01")
with Business(place, clock=clock, worker=False, engine=engine) as biz:
    orders, paid = biz.stream.track.Order.key_by("k"), biz.stream.track.Paid.key_by("k")
    pairs = orders.left_join(paid).within("30s").on(lambda o, p: {"o": o.n, "p": p and p.n, "one": 1})
    pairs.to.measure.pairs(value="one").to.track.Pair.named("s").start(since="start")
    for n in range(part * 100, part * 100 + 100):
        name = "Paid" if n % 5 == 1 else "Order"
        biz.track[name]({"k": n % 3, "n": n}, at=1704067200 + n * 7, id=f"tick-{n}")
    if part == 1:
        biz.store.segments.seal()
        biz.retract("tick-96")
    if point == "before our commit, when Spark is done":
        after(DistributedJoin, "_commit")
    elif point == "between two batches of Spark's":
        settle = Streaming.settle
        def dying(self, take):
            def one(batch, number, rows):
                take(batch, number, rows)
                os.kill(os.getpid(), signal.SIGKILL)
            settle(self, one)
        Streaming.settle = dying
    biz.drain()
    if part == 2:
        clock.set("2024-01-02")
        biz.drain()
    print(sorted((e.timestamp.isoformat(), e.o, e.p or -1) for e in biz.track.Pair.events()))
    print(biz.measure.pairs.count().run())
"""
KILLED = ("before our commit, when Spark is done", "between two batches of Spark's")


def test_a_driver_killed_anywhere_in_a_range_loses_and_doubles_no_pair(cluster, tmp_path):
    """Each time another part of the input is taken, the next process goes on from what the killed one left."""
    env = spark_cluster.environment(tmp_path)
    for part, point in enumerate((*KILLED, "nowhere")):
        code, theirs, error = told(tmp_path / "spark", "local[2]", point, part, env, PROGRAM)
        assert code == (0 if point == "nowhere" else -signal.SIGKILL), error
        _, mine, error = told(tmp_path / "embedded", "", "nowhere", part, {}, PROGRAM)
        assert mine, error
    assert theirs == mine
    assert theirs.count("T") > 100


@pytest.fixture
def business(cluster, tmp_path):
    with Business(tmp_path / "acme", clock=ManualClock("2024-01-01"), worker=False, engine=cluster) as biz:
        yield biz


def test_a_left_element_alone_is_given_to_the_microsecond(business):
    left, right = business.stream.track.L.key_by("k"), business.stream.track.R.key_by("k")
    alone = left.left_join(right).within("10s").on(lambda one, other: {"k": one.k, "had": other is not None})
    alone.to.track.Given.named("s").start()
    business.track.L({"k": 1}, at="2024-01-01T00:00:00.000001Z")
    for n, moment in enumerate(("00:00:10.000001Z", "00:00:10.000002Z")):
        for name in "LR":
            business.track[name]({"k": n + 2}, at=f"2024-01-01T{moment}")
        business.drain()
        assert [(e.k, e.had) for e in business.track.Given.events().oldest_first()] == [
            *([(1, False)] if n else []),
            *((k, True) for k in range(2, n + 3)),
        ]


@pytest.mark.parametrize("within", ["3650d", "36500d"])
def test_a_bound_may_be_as_long_as_a_business_lives(business, within):
    left, right = business.stream.track.L.key_by("k"), business.stream.track.R.key_by("k")
    pairs = left.left_join(right).within(within).on(lambda one, other: {"r": other and other.n})
    pairs.to.track.Given.named("s").start()
    business.track.L({"k": 1}, at="2024-01-01")
    business.track.R({"k": 1, "n": 2}, at="2030-01-01")
    business.drain()
    assert [e.r for e in business.track.Given.events()] == [2]


def joined(left: Any, right: Any, how: str = "join") -> Any:
    return getattr(left, how)(right).within("1h").on(lambda one, other: {"n": 1})


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda b, s: joined(s.map(lambda e: e).key_by("n"), s.key_by("n")), r"map\(\) comes before the join"),
        (lambda b, s: joined(s.key_by("n"), s.filter(lambda e: e.n).key_by("n")), r"filter\(\) has a Python function"),
        (lambda b, s: joined(s.key_by("n"), s.key_by(lambda e: e.n)), r"key_by\(\) has a Python function"),
        (lambda b, s: joined(s.key_by("n"), s.key_by("m").key_by("n")), r"right side of its join has two key_by\(\)"),
        (
            lambda b, s: joined(s.key_by("n").window.tumbling("1h").aggregate(n=b.count()), s.key_by("n")),
            r"left side of its join has aggregate\(\). Give that a sink",
        ),
        (lambda b, s: joined(joined(s.key_by("n"), s.key_by("n")), s.key_by("n")), "left side of its join is a join"),
        (lambda b, s: joined(s.key_by("n"), s.key_by("n"), "co_group"), r"co_group\(\) gives a cluster whole"),
        (lambda b, s: joined(s.key_by("n"), s.key_by("n").lateness("1h"), "left_join"), r"lateness\(\) takes back"),
        (lambda b, s: joined(s.key_by("n"), s.key_by("n")).buffer(3), r"buffer\('drop_oldest'\)"),
    ],
)  # fmt: skip
def test_a_join_that_spark_cannot_be_given_is_refused_by_its_name_and_runs_inside_if_told_so(
    business, make, said
):
    stream = make(business, business.stream.track.Tick).to(lambda e: None).named("s")
    with pytest.raises(InvalidQuery, match=f'(?si)Spark can\'t run this stream: .*{said}.*engine="embedded"'):
        stream.start()
    assert business.stream.list().run() == []
    stream.start(engine="embedded")
    assert business.stream.list().run()[0].state == "running"


def test_a_pair_that_fails_is_a_dead_letter_and_a_lost_checkpoint_is_told(business):
    broken = [True]

    def pair(left: Any, right: Any) -> Any:
        if broken[0]:
            raise ValueError("no")
        return {"n": left.n + right.n}

    left, right = business.stream.track.L.key_by("k"), business.stream.track.R.key_by("k")
    pairs = (
        left.join(right)
        .within("1h")
        .on(pair)
        .retry(1, backoff="1ms")
        .to.measure.both(value="n")
        .named("s")
        .start()
    )
    for name in "LR":
        business.track[name]({"k": 1, "n": 2}, at="2024-01-01")
    business.drain()
    broken.clear()
    broken.append(False)
    (letter,) = business.dead_letters.list(consumer="s").run()
    business.dead_letters.retry(letter.id)
    business.drain()
    assert business.measure.both.sum().run() == 4
    pairs.stop()
    shutil.rmtree(business.store.directory / "streams")
    pairs.start()
    business.track.L({"k": 1, "n": 3}, at="2024-01-01")
    with pytest.raises(StorageError, match="the checkpoint of stream:s is gone"):
        business.drain()
