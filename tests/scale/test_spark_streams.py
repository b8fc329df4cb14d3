"""One suite of streams, run by the embedded runtime and with Spark keeping the windows: equal over random data.

Sums of doubles are compared to nine digits, because their last ones depend on the order in which workers add.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import spark_cluster
from test_spark import same

import bizcode
from bizcode import AlreadyExists, Business, InvalidQuery, ManualClock, StorageError, this
from bizcode.engine.spark.joins import Pairs
from bizcode.engine.spark.streaming import Streaming

START = 1_711_832_400  # Sat 30 March 2024, 22:00 in Berlin: the night loses an hour
NAMES = ("Tick", "Tick", "Tock")
VALUES = [None, 3, 2.5, 2.0, "x", True, -1, 7, [1, "a"]]


def everything(biz: Business, **more: Any) -> dict[str, Any]:
    return {
        "n": biz.count(), "total": biz.sum("v"), "mean": biz.avg("v"), "low": biz.min("v"), "high": biz.max("v"),
        "first": biz.first("v"), "last": biz.last("timestamp"), "kinds": biz.distinct("v"),
        "middle": biz.percentile(50, "v"), "spread": biz.stddev("v"), "items": biz.collect("v"),
        "latest": biz.max("timestamp"), **more,
    }  # fmt: skip


PIPELINES: dict[str, Any] = {
    "tumbling": lambda b: b.stream.track.Tick.filter(this.skip != True)  # noqa: E712
    .key_by("k").out_of_order("10m").window.tumbling("20m").aggregate(**everything(b)),
    "days of the calendar": lambda b: b.stream.track.Tick.filter(v__exists=True).key_by("k", "n.deep")
    .out_of_order("2h").window.tumbling("1d").aggregate(n=b.count(), total=b.sum("v"), ns=b.distinct("n.deep")),
    "sliding": lambda b: b.stream["track"]["*"].key_by("k").out_of_order("5m")
    .window.sliding("1h", "15m").aggregate(**everything(b)),
    "without a key, in order": lambda b: b.stream.measure.load.window.tumbling("5m")
    .aggregate(n=b.count(), total=b.sum("value"), hosts=b.distinct("host")),
    "entities": lambda b: b.stream.Order["*"].key_by("entity").out_of_order("1h")
    .window.tumbling("1h").aggregate(n=b.count(), total=b.sum("total")),
    "windows of windows": lambda b: b.stream.track.Tick.key_by("k").out_of_order("10m")
    .window.tumbling("10m").aggregate(n=b.count()).filter(this.n > 1).map(lambda e: {"n": e.n, "k": e.key})
    .key_by("k").window.tumbling("1h").aggregate(most=b.max("n"), all=b.sum("n")),
}  # fmt: skip


def scenario(place: Any, **options: Any) -> dict[str, Any]:
    """What comes out of every pipeline at each step of a story."""
    rng = random.Random(11)
    clock = ManualClock("2024-03-30T12:00:00+00:00")
    found: dict[str, list[Any]] = {}
    late: dict[str, list[Any]] = {}
    with Business(place, clock=clock, worker=False, timezone="Europe/Berlin", **options) as biz:
        biz.track.batch(tick(rng, 0) for _ in range(100))
        biz.store.segments.seal()
        for number, (name, make) in enumerate(PIPELINES.items()):
            out, after = found.setdefault(name, []), late.setdefault(name, [])
            stream = make(biz).late(lambda e, after=after: after.append(e.position))
            stream.to(lambda e, out=out: out.append(dict(e))).to.measure[f"m{number}"](
                value="most" if "most" in stream.steps[-1].compute else "n"
            ).to.view[f"rows{number}"].named(name).start(since="start" if number % 2 else None)
        shown = {}
        for part in range(3):
            ticks = biz.track.batch(tick(rng, part) for _ in range(150))
            for _ in range(40):
                at = START + part * 3_600 + rng.randrange(5_400)
                biz.measure.load(
                    rng.choice([rng.randrange(9), rng.random()]), {"host": rng.choice("ab")}, at=at
                )
                biz.Order(f"o{rng.randrange(4)}").append("paid", {"total": rng.randrange(9)}, at=at)
            if part == 1:
                biz.store.segments.seal()
                for one in rng.sample(ticks, 12):
                    biz.retract(one.id)
            biz.drain()
            # Nothing comes any more: after a minute the watermark follows the clock.
            clock.set(f"2024-03-{31 if part == 2 else 30}T{20 + part}:40:00+00:00")
            biz.drain()
            for number, name in enumerate(PIPELINES):
                shown[name, part] = [*found[name]], sorted(late[name]), biz.measure[f"m{number}"].sum().run()
                rows = biz.view[f"rows{number}"].get().run()
                shown[name, part, "rows"] = sorted(map(dict, rows), key=lambda row: repr(row["key"]))
        shown["standing"] = [(s.name, s.watermark, s.late, s.dead) for s in biz.stream.list().run()]
    return shown


def tick(rng: random.Random, part: int) -> dict[str, Any]:
    data: dict[str, Any] = {
        "k": rng.choice(["a", "b", 1, 1.0, None, 'a"|b', True]),
        "n": {"deep": rng.randrange(2)},
    }
    value = rng.choice(VALUES)
    if value is not None:
        data["v"] = value
    if rng.random() < 0.1:
        data["skip"] = True
    # Half an hour of disorder, more than some pipelines wait for.
    return {"event": rng.choice(NAMES), "data": data, "at": START + part * 3_600 + rng.randrange(5_400)}


@pytest.fixture(scope="module")
def both(cluster, tmp_path_factory):
    """The story as the embedded runtime tells it, and Spark."""
    place = tmp_path_factory.mktemp("streams")
    return scenario(place / "embedded"), scenario(place / "spark [1]", engine=cluster)


@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("name", PIPELINES)
def test_windows_kept_by_spark_give_what_the_embedded_runtime_gives(both, name, part):
    mine, theirs = both
    assert mine[name, 2][0], "there is nothing to compare"
    for what in ((name, part), (name, part, "rows")):
        assert same(*(as_compared(found[what]) for found in both)), f"{mine[what]}\n{theirs[what]}"


def as_compared(found: Any) -> Any:
    """Numbers by their value: an int in a column of doubles is one of those."""
    if type(found) is int:
        return float(found)
    if isinstance(found, Mapping):
        found = dict(found)
    if isinstance(found, dict):
        return [(key, as_compared(value)) for key, value in found.items()]
    return [as_compared(one) for one in found] if isinstance(found, (list, tuple)) else found


def test_watermark_and_counts_are_the_same(both):
    mine, theirs = both
    assert mine["standing"] == theirs["standing"]
    assert any(late for _, _, late, _ in mine["standing"])


PROGRAM = """
import os, signal, sys
from bizcode import Business, ManualClock
from bizcode.engine.spark.streaming import Streaming
from bizcode.stream.distributed_windows import DistributedWindows

place, engine, point, part = sys.argv[1], sys.argv[2] or None, sys.argv[3], int(sys.argv[4])

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def after(kind, name, armed=lambda: True):
    work = getattr(kind, name)
    def wrapped(*given):
        made = work(*given)
        if armed():
            die()
        return made
    setattr(kind, name, wrapped)

clock = ManualClock("2024-01-01")
with Business(place, clock=clock, worker=False, engine=engine) as biz:
    stream = biz.stream.track.Tick.key_by("k").window.tumbling("1m").aggregate(n=biz.count(), ids=biz.collect("n"))
    stream.to.measure.ticks(value="n").to.track.Window.named("s").start(since="start")
    biz.drain()
    for n in range(part * 100, part * 100 + 100):
        biz.track.Tick({"k": n % 3, "n": n}, at=1704067200 + n * 7, id=f"tick-{n}")
    if part == 1:
        biz.store.segments.seal()
    batches = []
    if point == "in the midst of a batch, before our commit":
        after(DistributedWindows, "_commit")
    elif point in ("between our commit and Spark's", "after the records, before their windows"):
        settle = Streaming.settle
        def dying(self, take):
            def one(batch, number, rows):
                batches.append(batch)
                if point.startswith("after") and len(batches) == 2:
                    die()
                take(batch, number, rows)
                if point.startswith("between"):
                    die()
            settle(self, one)
        Streaming.settle = dying
    biz.drain()
    if part == 3:
        clock.set("2024-01-02")
        biz.drain()
    print(sorted((e.timestamp.isoformat(), e.k, e.n, e.ids) for e in biz.track.Window.events()))
    print(biz.measure.ticks.count().run(), biz.measure.ticks.sum().run())
"""

KILLED = (
    "in the midst of a batch, before our commit",
    "between our commit and Spark's",
    "after the records, before their windows",
)


def told(
    place: Path, engine: str, point: str, part: int, env: dict[str, str], program: str = PROGRAM
) -> tuple[int, str, str]:
    """A process of its own: how it ended, what it said and complained of."""
    found = subprocess.run(
        [sys.executable, "-c", program, str(place), engine, point, str(part)],
        env={**os.environ, **env, "PYTHONPATH": str(Path(bizcode.__file__).parents[1])},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return found.returncode, found.stdout, found.stderr[-3000:]


def test_a_driver_killed_anywhere_in_a_batch_loses_and_doubles_nothing(cluster, tmp_path):
    """Each time another part of the input is taken, the next process goes on from what the killed one left."""
    env = spark_cluster.environment(tmp_path)
    for part, point in enumerate((*KILLED, "nowhere")):
        code, theirs, error = told(tmp_path / "spark", "local[2]", point, part, env)
        assert code == (0 if point == "nowhere" else -signal.SIGKILL), error
        _, mine, error = told(tmp_path / "embedded", "", "nowhere", part, {})
        assert mine, error
    assert theirs == mine
    assert theirs.count("T") > 100


@pytest.fixture
def business(cluster, tmp_path):
    with Business(tmp_path / "acme", clock=ManualClock("2024-01-01"), worker=False, engine=cluster) as biz:
        yield biz


def windows(stream: Any) -> Any:
    return stream.window.tumbling("1h")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda b, s: windows(s.map(lambda e: e)).aggregate(n=b.count()), r"map\(\) comes before the windows"),
        (lambda b, s: windows(s.filter(lambda e: e.n)).aggregate(n=b.count()), r"filter\(\) has a Python function"),
        (lambda b, s: windows(s.key_by(lambda e: e.n)).aggregate(n=b.count()), r"key_by\(\) has a Python function"),
        (lambda b, s: s.aggregate(n=b.count()), "without a window"),
        (lambda b, s: windows(s).reduce(lambda a, e: a, {}), "no aggregate"),
        (
            lambda b, s: windows(windows(s).reduce(lambda a, e: a, {})).aggregate(n=b.count()),
            r"reduce\(\) comes before",
        ),
        (lambda b, s: windows(s).aggregate(all=b.collect()), "name a field"),
        (lambda b, s: s.window.session("1h").aggregate(n=b.count()), "closes a session by its own batches"),
        (lambda b, s: windows(s.lateness("1h")).aggregate(n=b.count()), r"lateness\(\)"),
        (lambda b, s: s.window.sliding("1h", "25m").aggregate(n=b.count()), "divides the size"),
        (lambda b, s: s.window.sliding("2d", "1d").aggregate(n=b.count()), "calendar's days"),
        (lambda b, s: s.window.tumbling(timedelta(microseconds=1_500)).aggregate(n=b.count()), "whole milliseconds"),
        (lambda b, s: windows(s.buffer(3)).aggregate(n=b.count()), r"buffer\(\) comes before"),
        (lambda b, s: windows(s).aggregate(n=b.count()).buffer(3), r"buffer\('drop_oldest'\)"),
        (lambda b, s: s.filter(n=1), "no aggregate"),
    ],
)  # fmt: skip
def test_what_spark_cannot_be_given_is_refused_by_its_name_and_runs_inside_if_told_so(business, make, said):
    stream = make(business, business.stream.track.Tick).to(lambda e: None).named("s")
    with pytest.raises(InvalidQuery, match=f'(?si)Spark can\'t run this stream: .*{said}.*engine="embedded"'):
        stream.start()
    assert business.stream.list().run() == []
    stream.start(engine="embedded")
    assert business.stream.list().run()[0].state == "running"


def test_the_engine_of_a_stream_is_kept_by_its_name(business):
    stream = windows(business.stream.track.Tick).aggregate(n=business.count()).to.track.Hour.named("s")
    stream.start(engine="embedded").stop()
    with pytest.raises(AlreadyExists, match="kept by the engine 'embedded', not 'spark'"):
        stream.start()
    with pytest.raises(InvalidQuery, match='takes "spark" or "embedded"'):
        stream.start(engine="flink")


def test_a_business_without_spark_has_no_stream_on_it(tmp_path):
    with Business(tmp_path / "acme", worker=False) as biz:
        stream = windows(biz.stream.track.Tick).aggregate(n=biz.count()).to.track.Hour.named("s")
        with pytest.raises(InvalidQuery, match="the Spark that its business was opened with"):
            stream.start(engine="spark")


def test_a_window_made_again_has_nothing_from_before_the_stream_began(business):
    got: list[int] = []
    before = business.track.Tick({"k": "a", "n": 1}, at="2024-01-01T00:10")
    stream = windows(business.stream.track.Tick.key_by("k")).aggregate(n=business.sum("n"))
    stream.to(lambda e: got.append(e.n)).named("s").start()
    first, _ = (business.track.Tick({"k": "a", "n": n}, at="2024-01-01T00:20") for n in (10, 100))
    business.drain()
    business.retract(first.id)
    business.retract(before.id)
    business.track.Tick({"k": "b", "n": 0}, at="2024-01-01T01:00")
    business.drain()
    assert got == [100]


def test_what_spark_says_of_a_failure_is_told_without_its_plan():
    said = "[STREAM_FAILED] Query terminated with exception: no\n=== Streaming Query ===\n+- ~Scan"

    def fails() -> None:
        raise RuntimeError(said)

    streaming = Streaming(None, Path("/nowhere"), Pairs(1, 1, 0, False))
    streaming._query = SimpleNamespace(processAllAvailable=fails, stop=lambda: None)
    with pytest.raises(StorageError, match=r"could not go on with the stream: \[STREAM_FAILED\].*: no$"):
        streaming.settle(lambda *_: None)


def test_a_lost_checkpoint_is_told_and_a_stream_begun_anew_replaces_what_it_gave(business):
    stream = windows(business.stream.track.Tick.key_by("k")).aggregate(n=business.count())
    stream = stream.to.measure.hourly(value="n").named("s").start()
    for hour in range(3):
        business.track.Tick({"k": "a"}, at=f"2024-01-01T0{hour}:30")
    business.drain()
    assert business.measure.hourly.count().run() == 2
    stream.stop()
    shutil.rmtree(business.store.directory / "streams")
    stream.start()
    business.track.Tick({"k": "a"}, at="2024-01-01T03:30")
    with pytest.raises(StorageError, match="the checkpoint of stream:s is gone"):
        business.drain()
    stream.start(reset=True, since="start")
    business.drain()
    assert business.measure.hourly.count().run() == 3
    assert business.measure.hourly.sum().run() == 3
