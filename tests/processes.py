"""Other processes for tests: start one with code, hear what it says, wait for what must come."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Timer

import bizcode

SOURCE = str(Path(bizcode.__file__).parents[1])
PATIENCE = 30


def start(*arguments: object, code: str | None = None, env: dict[str, str] | None = None) -> subprocess.Popen:
    """A Python process that runs code (or a module's or file's arguments) with bizcode on its path."""
    given = [str(a) for a in arguments]
    return subprocess.Popen(
        [sys.executable, *(["-c", code] if code is not None else []), *given],
        env={**os.environ, "PYTHONPATH": SOURCE, "PYTHONUNBUFFERED": "1", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def heard(process: subprocess.Popen, word: str) -> str:
    """Wait until it prints a line with the word in it; that line."""
    timer = Timer(PATIENCE, process.kill)
    timer.start()
    found = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            found.append(line)
            if word in line:
                return line
    finally:
        timer.cancel()
    raise AssertionError(f"ended without {word!r}: {''.join(found)}")


def until(condition: Callable[[], object], seconds: float = PATIENCE) -> float:
    """Wait until a condition holds; how long it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > seconds:
            raise AssertionError(f"did not come within {seconds} s")
        time.sleep(0.005)
    return time.monotonic() - begin
