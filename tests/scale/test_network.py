"""Two application processes on two machines that share one PostgreSQL and one bucket: both write and see, work moves
when one is killed, and a pulled cable loses and doubles nothing.

The machines are network namespaces; where those can't be made, directories, and the test's name says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import network
import orjson
import pytest

import bizcode
from conftest import account, binaries

SOURCE = str(Path(bizcode.__file__).parents[1])

PROGRAM = """
import sys, time, traceback, orjson
import boto3
from bizcode import Business, StorageError
url, segments, endpoint, machine = sys.argv[1:]
client = boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")
for _ in range(300):
    try:
        client.create_bucket(Bucket="acme")
        biz = Business(url, segments=segments)
        break
    except Exception as error:
        failed = error
        time.sleep(0.1)
else:
    raise failed

def listen():
    @biz.on.track.Signup(name="welcome")
    def welcome(event):
        biz.track.Welcomed(n=event.n, by=machine)

def write(first, count):
    return [biz.track.Signup(n=n, by=machine).position for n in range(first, first + count)]

def patient(first, count):
    # One by one, told what was acknowledged and what was refused.
    done, refused = [], []
    for n in range(first, first + count):
        try:
            biz.track.Signup({"n": n, "by": machine})
            done.append(n)
        except StorageError as error:
            refused.append((n, str(error)))
            break
    return {"done": done, "refused": refused}

for line in sys.stdin:
    try:
        answer = ["ok", eval(line)]
    except Exception:
        answer = ["failed", traceback.format_exc()]
    print(orjson.dumps(answer, default=str).decode(), flush=True)
"""


class Machine:
    """A process on one of the machines, told what to do line by line."""

    def __init__(self, there: Any, name: str, ports: tuple[int, int], directory: Path) -> None:
        home = directory / name
        home.mkdir(exist_ok=True)
        host = there.hosts(name)[0]
        bucket = f"s3://acme/events?endpoint_override={host}:{ports[1]}&scheme=http&region=us-east-1"
        url = f"postgresql://postgres@{host}:{there.port(name, ports[0])}/postgres"
        self.name = name
        self.process = subprocess.Popen(
            there.command(name, sys.executable, "-c", PROGRAM, url, bucket, f"http://{host}:{ports[1]}", name),
            env={
                **os.environ, "PYTHONPATH": SOURCE, "HOME": str(home), "BIZCODE_CACHE": str(home / "cache"),
                "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
            },
            cwd=home, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def begin(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def end(self) -> Any:
        assert self.process.stdout is not None
        state, answer = orjson.loads(self.process.stdout.readline())
        assert state == "ok", answer
        return answer

    def ask(self, line: str) -> Any:
        self.begin(line)
        return self.end()

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def there(record_testsuite_property) -> Iterator[Any]:
    pytest.importorskip("moto.server")
    where = binaries()
    if where is None:
        if os.environ.get("BIZCODE_SCALE"):
            pytest.fail("there is no PostgreSQL: apt-get install postgresql")
        pytest.skip("there is no PostgreSQL on this machine")
    with network.machines() as made, network.servers(made, where, account()) as ports:
        record_testsuite_property("machines", made.how)
        print(f"two machines as {made.how}", file=sys.__stderr__)
        yield made, ports


@pytest.fixture
def machines(there, tmp_path):
    made, ports = there
    both = [Machine(made, name, ports, tmp_path) for name in "ab"]
    yield made, *both
    for machine in both:
        machine.kill()


def until(condition: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_both_write_and_both_see_through_one_database_and_one_bucket(machines):
    _, a, b = machines
    a.ask("write(0, 40)")
    b.ask("write(40, 40)")
    seen = "biz.track.Signup.count().where(n__lt=80).by('by').run()"
    assert a.ask(seen) == b.ask(seen) == {"a": 40, "b": 40}
    assert a.ask("biz.store.segments.seal()") is not False
    assert b.ask("biz.store.segments.catalog().sealed_to") >= 80
    assert b.ask(seen) == {"a": 40, "b": 40}  # from the bucket, where the other machine put it
    assert a.ask("biz.Order('o1').append('paid', expect=0).version") == 1
    assert b.ask("biz.Order('o1').append('shipped', expect=1).version") == 2


def test_work_moves_to_the_other_machine_when_one_is_killed(machines):
    _, a, b = machines
    for machine in (a, b):
        machine.ask("listen()")
    count = "biz.track.Welcomed.count().where(n__gte=1000, n__lt=2000).run()"
    b.ask("write(1000, 50)")
    until(lambda: b.ask(count) == 50)
    a.kill()
    b.ask("write(1050, 50)")
    until(lambda: b.ask(count) == 100)
    found = b.ask("sorted(e.n for e in biz.track.Welcomed.events().where(n__gte=1000, n__lt=2000))")
    assert found == list(range(1000, 1100))


def test_a_cable_pulled_for_seconds_amid_writes_is_waited_for(machines):
    there, a, b = machines
    a.ask("write(2000, 1)")
    a.begin("patient(2001, 400)")
    there.pull("a")
    time.sleep(3)
    there.plug("a")
    told = a.end()
    assert told == {"done": list(range(2001, 2401)), "refused": []}
    stored = b.ask("sorted(e.n for e in biz.track.Signup.events().where(n__gte=2000, n__lt=3000))")
    assert stored == list(range(2000, 2401))


def test_a_cable_that_stays_pulled_is_told_and_nothing_is_doubled(machines):
    there, a, b = machines
    a.ask("write(3000, 1)")
    a.begin("patient(3001, 100_000)")
    until(lambda: b.ask("biz.track.Signup.count().where(n__gte=3000, n__lt=200_000).run()") > 5)
    there.pull("a")
    started = time.monotonic()
    told = a.end()
    assert time.monotonic() - started < 45
    ((refused, why),) = told["refused"]
    assert "can't be reached" in why or "lost" in why
    there.plug("a")
    stored = b.ask("sorted(e.n for e in biz.track.Signup.events().where(n__gte=3001, n__lt=200_000))")
    assert len(stored) == len(set(stored))
    assert set(told["done"]) <= set(stored) <= {*told["done"], refused}
    # Once it is plugged in again, it goes on.
    assert a.ask("write(300_000, 3)")
    assert b.ask("biz.track.Signup.count().where(n__gte=300_000).run()") == 3
