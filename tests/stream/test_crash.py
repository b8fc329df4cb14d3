"""Killed at any moment, a stream's sink holds what its input says, once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import bizcode
from bizcode import Business

SOURCE = Path(bizcode.__file__).parents[1]

WORKER = """
import sys
from bizcode import Business
biz = Business(sys.argv[1], worker=False)
orders = biz.stream.track.Order.key_by("region").out_of_order("1h").window.tumbling("1m")
orders.aggregate(n=biz.count(), total=biz.sum("amount")).to.measure.revenue(value="total").named("r").start(since="start")
print("up", flush=True)
biz.drain()
print("done", flush=True)
"""


def test_killed_twenty_times_the_sum_of_the_sink_is_that_of_the_input(tmp_path):
    rng = random.Random(4)
    amounts: dict[int, int] = {}
    with Business(tmp_path, worker=False) as biz:
        base = 1_700_000_040
        for part in range(12):
            batch = []
            for n in range(500):
                second = base + part * 500 + n + rng.randrange(-300, 300)
                amount = rng.randrange(100)
                amounts[second // 60] = amounts.get(second // 60, 0) + amount
                data = {"region": rng.choice("abc"), "amount": amount}
                batch.append({"event": "Order", "data": data, "at": second})
            biz.track.batch(batch)
            if part == 6:
                biz.store.segments.seal()
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-c", WORKER, str(tmp_path)]
    killed = 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "up"
        if killed < 20:
            time.sleep(rng.random() * 0.05)
            process.send_signal(signal.SIGKILL)
            process.wait()
            killed += 1
            continue
        assert process.stdout.read().strip() == "done"
        assert process.wait() == 0
        break
    with Business(tmp_path, worker=False) as biz:
        # What is far in the past is fired by the clock: one idle minute after the last element.
        from bizcode import ManualClock

        biz.close()
    with Business(tmp_path, worker=False, clock=ManualClock(time.time() + 600)) as biz:
        orders = biz.stream.track.Order.key_by("region").out_of_order("1h").window.tumbling("1m")
        made = orders.aggregate(n=biz.count(), total=biz.sum("amount"))
        made.to.measure.revenue(value="total").named("r").start(since="start")
        biz.drain()
        found = biz.measure.revenue.sum().by("minute").run()
        expected = {minute: total for minute, total in sorted(amounts.items()) if total}
        assert {int(key.timestamp()) // 60: value for key, value in found.items() if value} == expected
        assert biz.measure.revenue.sum().run() == sum(amounts.values())
