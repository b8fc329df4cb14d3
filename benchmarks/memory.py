"""The peak of a process that asks everything of many events, and whether it grows in a loop."""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
from pathlib import Path

from bizcode import Business, ManualClock

from .queries import START, fill


def resident() -> float:
    """MiB that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--users", type=int, default=200_000)
    given = parser.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="bizcode-bench-"))
    try:
        clock = ManualClock(START / 1e6 + 90 * 86400)
        with Business(directory / "acme", worker=False, clock=clock) as biz:
            fill(biz, given.events, given.users)
        with Business(directory / "acme", worker=False, clock=clock) as biz:
            asked = {
                "sum by property": biz.track.PageView.sum("amount").by("plan"),
                "median": biz.track.PageView.median("amount"),
                "distinct users": biz.track.any.unique(),
                "funnel": biz.track.funnel(["PageView", "Signup", "Purchase"]).within("7d"),
                "cohorts": biz.track.cohort(anchor="Signup", activity="Purchase"),
            }
            before = resident()
            for name, query in asked.items():
                query.run()
                print(f"{name:20}{resident() - before:10.0f} MiB more than before it all")
            for event in biz.track.Signup.events():
                event.user  # noqa: B018 - streamed, not kept
            print(f"{'events, streamed':20}{resident() - before:10.0f} MiB")
            loop = []
            for _ in range(4):
                for query in asked.values():
                    query.run()
                loop.append(resident())
            print("in a loop, MiB:", " ".join(f"{size:.0f}" for size in loop))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
