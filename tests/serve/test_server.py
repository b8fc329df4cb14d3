"""`bizcode serve` as a process: what it prints, how it ends, and what is left when it is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from bizcode import Business, ManualClock
from bizcode.demo import END, load_cdnow

SOURCE = Path(__file__).parents[2] / "src"


@contextmanager
def serving(cwd, *arguments, command=("serve", "--store", "shop")):
    """(process, url, write key) of a server on a free port."""
    env = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "bizcode", *command, "--port", "0", *arguments],
        cwd=cwd, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = {}
        for line in process.stdout:
            if line.startswith(("Dashboard", "Write key")):
                found[line[:11].strip()] = line[12:].split()[0]
            if line.startswith("SIGTERM"):
                break
        yield process, found.get("Dashboard"), found.get("Write key")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly_when_told_to(tmp_path, how):
    with serving(tmp_path) as (process, url, key):
        assert (
            httpx.post(f"{url}/e", json={"api_key": key, "event": "A", "distinct_id": "u"}).status_code == 200
        )
        process.send_signal(how)
        assert process.wait(20) == 0
    with Business(tmp_path / "shop", worker=False) as biz:
        assert biz.track.A.count().run() == 1


def test_a_file_brings_its_goals_and_views(tmp_path):
    (tmp_path / "app.py").write_text(
        "from bizcode import Startup\n"
        "class Shop(Startup):\n"
        "    def launch(self, biz):\n"
        "        biz.goal.define('ten', target=biz.track.A.count().reach(10))\n"
    )
    with serving(tmp_path, "app.py") as (_, url, _):
        goal = httpx.get(f"{url}/api/v1/goals").json()["result"][0]
        assert (goal["name"], goal["progress"]["value"]["current"]) == ("ten", 0)


def test_the_demo_opens_in_the_dashboard(tmp_path):
    with serving(tmp_path, "--serve", command=("demo",)) as (process, url, _):
        http = httpx.Client(base_url=url, timeout=60)
        assert "<h1>Overview</h1>" in http.get("/").text
        assert http.get("/api/v1/track/Purchase/count").json()["result"] == 69_659
        assert len(http.get("/api/v1/goals").json()["result"]) == 2
        process.terminate()
        assert process.wait(20) == 0


def test_a_demo_that_was_broken_off_is_taken_up(tmp_path):
    class Enough(Exception):
        pass

    def stop(done, total):
        if done == 10_000:
            raise Enough

    with Business(tmp_path / "acme", clock=ManualClock(END), worker=False) as biz:
        with pytest.raises(Enough):
            load_cdnow(biz, stop)
        assert biz.track.Purchase.count().run() == 10_000
        for _ in range(2):
            assert load_cdnow(biz) == 69_659
            assert biz.track.Purchase.count().run() == biz.measure.revenue.count().run() == 69_659


def test_others_need_a_token(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    env.pop("BIZCODE_TOKEN", None)
    for more, said in ([], "demands a token"), (["--token", "short"], "16 characters"):
        done = subprocess.run(
            [sys.executable, "-m", "bizcode", "serve", "--store", "shop", "--host", "0.0.0.0", *more],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 1
        assert said in done.stderr
        assert "Traceback" not in done.stderr


def test_killed_under_load_it_loses_nothing_that_it_acknowledged(tmp_path):
    acknowledged: list[str] = []
    lock = threading.Lock()
    enough = threading.Event()
    with serving(tmp_path) as (process, url, key):

        def send() -> None:
            with httpx.Client(base_url=url) as client:
                while True:
                    ids = [uuid.uuid4().hex for _ in range(5)]
                    batch = [{"event": "A", "distinct_id": "u", "uuid": id} for id in ids]
                    try:
                        answer = client.post("/batch", json={"api_key": key, "batch": batch})
                    except httpx.HTTPError:
                        return
                    if answer.status_code == 200:
                        with lock:
                            acknowledged.extend(ids)
                            if len(acknowledged) >= 2_000:
                                enough.set()

        threads = [threading.Thread(target=send) for _ in range(8)]
        for thread in threads:
            thread.start()
        assert enough.wait(60)
        process.kill()
        for thread in threads:
            thread.join()
    with Business(tmp_path / "shop", worker=False) as biz:
        kept = {event.id for event in biz.track.A.events()}
        assert set(acknowledged) <= kept
        assert biz.doctor().ok


def test_keys_from_the_shell(tmp_path):
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}

    def keys(*arguments):
        done = subprocess.run(
            [sys.executable, "-m", "bizcode", "keys", "--store", "shop", *arguments],
            cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        return done.stdout.strip() + done.stderr.strip()

    Business(tmp_path / "shop", worker=False).close()
    assert "no keys" in keys()
    token = keys("--add", "read", "--name", "wall screen")
    assert token.startswith("bzr_")
    listed = keys()
    assert "wall screen" in listed
    assert token not in listed
    assert "write, read, admin" in keys("--add", "everything")
    assert "wall screen" not in keys("--revoke", token)
