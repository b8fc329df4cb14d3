"""Funnels and cohorts beside ClickHouse's engine in process (chdb): windowFunnel and the like on a native table in
the order of its keys. Which order is the layout's choice: by user suits a funnel and nothing else, by time is how the
segments lie; both are shown."""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from bizcode import Business, ManualClock

from .queries import START, clocked, files, fill

FUNNEL = """
SELECT level, count() FROM (
    SELECT user, windowFunnel(604800000000)(at, name = 'PageView', name = 'Signup', name = 'Purchase') AS level
    FROM events GROUP BY user) GROUP BY level ORDER BY level"""
COHORTS = """
SELECT cohort, week - cohort AS period, uniqExact(user) FROM (
    SELECT user, intDiv(at + 259200000000, 604800000000) AS week FROM events WHERE name = 'Purchase') p
JOIN (SELECT user, intDiv(min(at) + 259200000000, 604800000000) AS cohort FROM events WHERE name = 'Signup' GROUP BY user) s
USING user WHERE week >= cohort GROUP BY cohort, period ORDER BY cohort, period"""


def main() -> None:
    import chdb.session

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    parser.add_argument("--repeat", type=int, default=5)
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bizcode-bench-"))
    try:
        with Business(directory / "acme", worker=False, clock=ManualClock(START / 1e6 + 90 * 86400)) as biz:
            fill(biz, given.events, given.users)
            peer = chdb.session.Session(str(directory / "chdb"))
            for table, order in (("events", "at"), ("by_user", "user, at")):
                peer.query(
                    f"CREATE TABLE {table} (user String, name LowCardinality(String), at UInt64) "
                    f"ENGINE = MergeTree ORDER BY ({order})"
                )
                for name in ("PageView", "Signup", "Purchase"):
                    for file in files(biz, name)[2:-2].split("', '"):
                        peer.query(
                            f"INSERT INTO {table} SELECT assumeNotNull(user), '{name}', "
                            f"toUnixTimestamp64Micro(timestamp) FROM file('{file}', Parquet)"
                        )
                peer.query(f"OPTIMIZE TABLE {table} FINAL")
            steps = biz.track.funnel(["PageView", "Signup", "Purchase"]).within("7d")
            weeks = biz.track.cohort(anchor="Signup", activity="Purchase", periods=14, granularity="week")
            print(f"{given.events:,} events, {given.users:,} users; median of {given.repeat}; ms")
            print(f"{'':28}{'chdb, time':>12}{'chdb, user':>12}{'bizcode':>12}{'ratios':>14}")
            for what, sql, query in (
                ("ordered funnel of 3 steps", FUNNEL, steps),
                ("weekly cohorts", COHORTS, weeks),
            ):
                by_time = clocked(lambda sql=sql: peer.query(sql, "CSV"), given.repeat)
                other = sql.replace("FROM events", "FROM by_user")
                by_user = clocked(lambda sql=other: peer.query(sql, "CSV"), given.repeat)
                ours = clocked(query.run, given.repeat)
                ratios = f"{ours / by_time:.2f}, {ours / by_user:.2f}"
                print(f"{what:28}{by_time:12.1f}{by_user:12.1f}{ours:12.1f}{ratios:>14}")
            ours = clocked(lambda: steps.users(1).arrow(), given.repeat)
            print(f"{'users(1), ' + str(len(steps.users(1)))[:9]:28}{'':24}{ours:12.1f}")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
