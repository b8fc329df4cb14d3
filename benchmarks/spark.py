"""Questions put to Spark beside the same questions in hand-written Spark SQL, over the same files, in one run.

    python -m benchmarks.spark [--events N] [--repeat N] [--engine local[2]] [--only funnel]
    python -m benchmarks.spark --streams [--events N] [--repeat N] [--engine local[2]]

Both go to one Spark. Raw reads the same Parquet files with the schema given, its views made before the clock starts;
what it measures is Spark alone. Ours resolves the range, follows the log, finds the files in the catalog, translates
the statement and hands back Python values. Repetitions of both alternate; the median counts. The funnel's raw form is
the usual one: joins of each step to the earliest later event of the next, by aggregation.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bizcode import Business, ManualClock

START = 1_704_067_200
DAYS = 56
NAMES = ["PageView"] * 6 + ["Signup", "Cart", "Buy"]

SUM = "SELECT plan, sum(amount) FROM views GROUP BY plan"
DAY = "SELECT date_trunc('day', timestamp), count(DISTINCT user) FROM views GROUP BY 1 ORDER BY 1"
MEDIAN = "SELECT country, median(amount) FROM views GROUP BY country"
COUNT = "SELECT count(*) FROM views WHERE plan = 'pro' AND amount >= 50"
FUNNEL = """
WITH a AS (SELECT v.user, v.timestamp AS t1, min(c.timestamp) AS t2 FROM views v LEFT JOIN carts c
             ON c.user = v.user AND c.timestamp > v.timestamp AND c.timestamp <= v.timestamp + INTERVAL 7 DAYS
           GROUP BY v.user, v.timestamp),
     b AS (SELECT a.user, a.t1, a.t2, min(y.timestamp) AS t3 FROM a LEFT JOIN buys y
             ON y.user = a.user AND y.timestamp > a.t2 AND y.timestamp <= a.t1 + INTERVAL 7 DAYS
           GROUP BY a.user, a.t1, a.t2),
     u AS (SELECT user, max(CASE WHEN t3 IS NOT NULL THEN 3 WHEN t2 IS NOT NULL THEN 2 ELSE 1 END) AS level
           FROM b GROUP BY user)
SELECT count(*), count_if(level >= 2), count_if(level >= 3) FROM u
"""

QUESTIONS: dict[str, tuple[Callable[[Business], Any], str]] = {
    "count where": (lambda biz: biz.track.PageView.count().where(plan="pro", amount__gte=50), COUNT),
    "sum by plan": (lambda biz: biz.track.PageView.sum("amount").by("plan"), SUM),
    "unique by day": (lambda biz: biz.track.PageView.unique().by("day"), DAY),
    "median by country": (lambda biz: biz.track.PageView.median("amount").by("country"), MEDIAN),
    "funnel of 3, within 7d": (
        lambda biz: biz.track.funnel(["PageView", "Cart", "Buy"]).within("7d"),
        FUNNEL,
    ),
}


def fill(directory: Path, events: int) -> ManualClock:
    """A store of random events, all sealed."""
    rng = random.Random(1)
    clock = ManualClock("2024-03-01")
    with Business(directory, clock=clock, worker=False) as biz:
        for _ in range(0, events, 20_000):
            biz.track.batch(
                {
                    "event": rng.choice(NAMES),
                    "at": START + rng.randrange(DAYS * 86_400),
                    "user": f"u{rng.randrange(max(1, events // 20))}",
                    "data": {
                        "plan": rng.choice(["free", "pro", "team"]),
                        "amount": round(rng.random() * 100, 2),
                        "country": f"c{rng.randrange(30)}",
                    },
                }
                for _ in range(20_000)
            )
        biz.store.segments.seal()
        biz.store.segments.merge()
    return clock


def timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def ordered(directory: Path, events: int, names: Sequence[str], users: int) -> ManualClock:
    """A store of events as they come: in order but for a minute."""
    rng = random.Random(1)
    with Business(directory, clock=ManualClock("2024-03-01"), worker=False) as biz:
        for start in range(0, events, 20_000):
            biz.track.batch(
                {
                    "event": names[n % len(names)],
                    "at": START + (start + n) * DAYS * 86_400 / events + rng.random() * 60,
                    "user": f"u{rng.randrange(users)}",
                    "data": {"amount": round(rng.random() * 100, 2), "country": f"c{rng.randrange(30)}"},
                }
                for n in range(20_000)
            )
        biz.store.segments.seal()
        biz.store.segments.merge()
    return ManualClock("2024-03-01")


def streamed_raw(session: Any, files: Path, place: Path) -> int:
    """The same windows by hand; how many there were."""
    from pyspark.sql import functions as F  # pyright: ignore[reportMissingImports]

    frame = (
        session.readStream.schema("timestamp timestamp, amount double, country string")
        .parquet(str(files / "PageView"))
        .withWatermark("timestamp", "10 minutes")
        .groupBy("country", F.window("timestamp", "1 hour"))
        .agg(F.count("*"), F.sum("amount"), F.max("amount"))
    )
    return counted(frame, place)


def counted(frame: Any, place: Path) -> int:
    """Run a query to its end; how many rows it gave."""
    found: list[int] = []
    query = (
        frame.writeStream.outputMode("append")
        .foreachBatch(lambda batch, _: found.append(batch.toArrow().num_rows))
        .option("checkpointLocation", f"file://{place}")
        .start()
    )
    query.processAllAvailable()
    query.stop()
    return sum(found)


def streamed(biz: Business, name: str) -> int:
    """Ours; how many results there were."""
    views = biz.stream.track.PageView.key_by("country").out_of_order("10m")
    hourly = views.window.tumbling("1h").aggregate(
        n=biz.count(), total=biz.sum("amount"), most=biz.max("amount")
    )
    running = hourly.to.measure[name](value="n").named(name).start(since="start")
    biz.drain()
    running.stop()
    return biz.measure[name].count().run()


def joined_raw(session: Any, files: Path, place: Path) -> int:
    """The same pairs by hand; how many there were."""
    from pyspark.sql import functions as F  # pyright: ignore[reportMissingImports]

    def read(name: str, side: str) -> Any:
        frame = session.readStream.schema("timestamp timestamp, user string, position long").parquet(
            str(files / name)
        )
        frame = frame.withWatermark("timestamp", "10 minutes")
        return frame.select(*(F.col(column).alias(f"{side}_{column}") for column in frame.columns))

    near = "l_timestamp BETWEEN r_timestamp - INTERVAL 2 HOURS AND r_timestamp + INTERVAL 2 HOURS"
    frame = read("PageView", "l").join(read("Buy", "r"), F.expr(f"l_user = r_user AND {near}"))
    return counted(frame, place)


def joined(biz: Business, name: str) -> int:
    """Ours; how many pairs there were."""
    views = biz.stream.track.PageView.key_by("user").out_of_order("10m")
    buys = biz.stream.track.Buy.key_by("user").out_of_order("10m")
    pairs = (
        views.join(buys).within("2h").on(lambda view, buy: {"amount": buy.amount, "country": view.country})
    )
    running = pairs.to.measure[name](value="amount").named(name).start(since="start")
    biz.drain()
    running.stop()
    return biz.measure[name].count().run()


def streams(events: int, repeat: int, engine: str) -> None:
    """Raw and ours, alternating."""
    print(f"{events:,} events, {engine}; seconds, median of {repeat}\n")
    print("| | raw Structured Streaming | bizcode | raw / bizcode |\n|---|---|---|---|")
    views = ("PageView",)
    beside("windows of an hour by country", events, repeat, engine, (views, 1_000), streamed_raw, streamed)
    kinds = ((*views * 9, "Buy"), 20_000)
    beside("pairs by user within two hours", events, repeat, engine, kinds, joined_raw, joined)


def beside(
    title: str,
    events: int,
    repeat: int,
    engine: str,
    kinds: tuple[Sequence[str], int],
    raw: Callable[..., int],
    ours: Callable[..., int],
) -> None:
    """A line of the table; `kinds`: names of events, and how many users there are."""
    with tempfile.TemporaryDirectory(prefix="bizcode-bench-") as place:
        directory = Path(place) / "acme"
        clock = ordered(directory, events, *kinds)
        times: list[tuple[float, float]] = []
        made = 0
        with Business(directory, clock=clock, worker=False, engine=engine) as biz:
            session = biz.store.engine.cluster.streaming()  # type: ignore[attr-defined]
            for n in range(repeat + 1):
                started = time.perf_counter()
                theirs = raw(session, directory / "segments" / "event", Path(place) / f"raw{n}")
                between = time.perf_counter()
                made = ours(biz, f"hourly{n}")
                times.append((between - started, time.perf_counter() - between))
                assert made >= theirs > 0, (made, theirs)
        one, other = (statistics.median(column) for column in zip(*times[1:], strict=True))
        print(f"| {title}, {made:,} results | {one:.2f} | {other:.2f} | {one / other:.2f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--engine", default="local[2]")
    parser.add_argument("--only", default="", help="questions with this in their name")
    parser.add_argument("--streams", action="store_true", help="streams in place of questions")
    given = parser.parse_args()
    if given.streams:
        streams(given.events, given.repeat, given.engine)
        return
    with tempfile.TemporaryDirectory(prefix="bizcode-bench-") as place:
        directory = Path(place) / "acme"
        clock = fill(directory, given.events)
        with Business(directory, clock=clock, worker=False, engine=given.engine) as biz:
            spark = biz.store.engine.cluster.session()  # type: ignore[attr-defined]
            catalog = biz.store.segments.catalog()
            for view, name in (("views", "PageView"), ("carts", "Cart"), ("buys", "Buy")):
                files = [str(biz.store.segments.place.local(s.file)) for s in catalog.of("event", name)]
                frame = spark.read.schema(
                    "timestamp timestamp, user string, plan string, amount double, country string"
                ).parquet(*files)
                frame.createOrReplaceTempView(view)
            print(f"{given.events:,} events, {given.engine}; seconds, median of {given.repeat}\n")
            print("| | raw Spark SQL | bizcode | raw / bizcode |\n|---|---|---|---|")
            for title, (make, sql) in QUESTIONS.items():
                if given.only not in title:
                    continue
                ours = make(biz)
                pairs = [
                    (timed(lambda sql=sql: spark.sql(sql).collect()), timed(ours.run))
                    for _ in range(given.repeat + 1)
                ][1:]
                one, other = (statistics.median(times) for times in zip(*pairs, strict=True))
                print(f"| {title} | {one:.2f} | {other:.2f} | {one / other:.2f} |", flush=True)


if __name__ == "__main__":
    main()
