"""`make bench`: every benchmark, one after the other."""

from __future__ import annotations

import subprocess
import sys

MODULES = (
    "writes",
    "bytes",
    "queries",
    "analyses",
    "experiments",
    "rollups",
    "streams",
    "views",
    "entities",
    "memory",
    "postgres",
    "spark",
    "serve",
)


def main() -> None:
    failed = []
    for name in MODULES:
        print(f"\n== {name}\n", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
