"""`biz.run()` and `bizcode run`: until SIGTERM or SIGINT, losing nothing."""

from __future__ import annotations

import signal
import time

import pytest
from processes import heard, start, until

from bizcode import Business

APP = """
from bizcode import Business
biz = Business({directory!r})

@biz.on.track.Order(name="count")
def count(event):
    biz.track.Counted(n=event.n)
{more}
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("form", ["biz.run()", "bizcode run"])
def test_a_signal_ends_it_at_once_with_exit_code_0(tmp_path, number, form):
    code = APP.format(directory=str(tmp_path / "a"), more="")
    if form == "biz.run()":
        process = start(code=code + "print('running', flush=True)\nbiz.run()\nbiz.close()\n")
    else:
        (tmp_path / "app.py").write_text(code)
        process = start("-m", "bizcode", "run", tmp_path / "app.py")
    heard(process, "running")
    with Business(tmp_path / "a", worker=False) as biz:
        for n in range(10):
            biz.track.Order(n=n)
        until(lambda: biz.track.Counted.count().run())
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(20) == 0
        assert time.monotonic() - begin < 5
        # What it had not come to is done by the next one: all of it, once.
        biz.on.track.Order(lambda e: biz.track.Counted(n=e.n), name="count")
        biz.drain()
        assert sorted(e.n for e in biz.track.Counted.events().run()) == list(range(10))


def test_a_signal_ends_it_in_the_middle_of_a_long_batch(tmp_path):
    slow = "    import time; time.sleep(0.01)\n    print('one', flush=True)\n"
    code = APP.format(directory=str(tmp_path / "a"), more=slow)
    with Business(tmp_path / "a", worker=False) as biz:
        biz.on.track.Order(lambda e: None, name="count")
        biz.track.batch([{"event": "Order", "data": {"n": n}} for n in range(1_000)])
        process = start(code=code + "biz.run()\nbiz.close()\n")
        heard(process, "one")
        begin = time.monotonic()
        process.terminate()
        process.communicate(timeout=20)
        assert process.returncode == 0
        assert time.monotonic() - begin < 3
        counted = biz.track.Counted.count().run()
        assert 0 < counted < 1_000
        biz.on.track.Order(lambda e: biz.track.Counted(n=e.n), name="count")
        biz.drain()
        assert sorted(e.n for e in biz.track.Counted.events().run()) == list(range(1_000))


def test_a_handler_that_never_returns_does_not_keep_it_from_ending(tmp_path):
    hangs = "    import threading; print('in', flush=True); threading.Event().wait()\n"
    code = APP.format(directory=str(tmp_path / "a"), more=hangs)
    process = start(code=code + "biz.track.Order(n=1)\nbiz.run()\nbiz.close()\n")
    heard(process, "in")
    process.terminate()
    assert process.wait(20) == 0
    with Business(tmp_path / "a", worker=False) as biz:
        assert biz.track.Counted.count().run() == 0


def test_run_takes_over_from_the_background_worker_and_drain_works_after_it(tmp_path):
    with Business(tmp_path / "a") as biz:
        biz.on.track.Order(lambda e: biz.track.Counted(n=e.n), name="count")
        biz.track.Order(n=1)
        biz.store.consumers.run(ready=lambda: biz.store.consumers._stopping.set())
        biz.store.consumers.stop_worker()
        biz.track.Order(n=2)
        biz.drain()
        assert sorted(e.n for e in biz.track.Counted.events().run()) == [1, 2]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = 1", "neither a subclass of Startup nor a `biz`"),
        ("from bizcode import Business\nbiz = Business(':memory:')", "--store goes with a Startup"),
    ],
)
def test_a_file_that_cannot_be_run_is_refused_in_a_sentence(tmp_path, text, says):
    (tmp_path / "app.py").write_text(text)
    process = start("-m", "bizcode", "run", tmp_path / "app.py", "--store", tmp_path / "a")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert says in " ".join(out.split())
    assert "Traceback" not in out


def test_a_file_that_is_not_there_is_refused(tmp_path):
    process = start("-m", "bizcode", "run", tmp_path / "nope.py")
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "nope.py" in out
