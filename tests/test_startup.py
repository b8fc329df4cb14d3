"""`Startup` and the document's own example of one."""

from __future__ import annotations

import runpy
import signal
from pathlib import Path

import pytest
from processes import heard, start, until

from bizcode import Business, ManualClock, Startup

EXAMPLE = Path(__file__).parents[1] / "examples" / "my_startup.py"


def test_bizcode_run_runs_the_documents_example_until_sigterm(tmp_path):
    store = tmp_path / "acme"
    process = start("-m", "bizcode", "run", EXAMPLE, "--store", store)
    heard(process, "is running")
    with Business(store, worker=False) as biz:
        for n in range(3):
            biz.Customer(f"c{n}").append("signup", userId=f"c{n}", plan="pro")
            biz.Customer(f"c{n}").append("purchase", userId=f"c{n}", amount=10 * n + 5)
        until(lambda: biz.track.Purchase.count().run() == 3 and biz.track.Signup.count().run() == 3)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 0, out

        assert biz.dead_letters.list().run() == []
        assert biz.measure.signups.sum().run() == 3
        assert biz.measure.revenue.sum().run() == 5 + 15 + 25
        assert [row.ltv for row in biz.view.top_customers.get().run()] == [25, 15, 5]
        assert {p.name for p in biz.goal.all().progress().run()} == {"pmf", "revenue"}
        for n in range(3):
            events = {e.type: e for e in biz.Customer(f"c{n}").events().run()}
            assert events["Customer.purchased"].amount == 10 * n + 5
            variant = biz.experiment("pricing").assign(f"c{n}").run()
            assert events["Customer.pricing_shown"].variant == variant is not None
        users = biz.experiment("pricing").results().run().variants.values()
        assert sum(v.users for v in users) == 3


def test_the_examples_standup_runs_each_morning(tmp_path, monkeypatch):
    monkeypatch.delenv("BIZCODE_LLM_URL", raising=False)
    clock = ManualClock("2024-03-10T12:00:00")
    with Business(tmp_path / "a", clock=clock, worker=False) as biz:
        runpy.run_path(str(EXAMPLE))["MyStartup"]().launch(biz)
        clock.advance("1d")
        biz.drain()
        (run,) = biz.every.runs().run()
        assert run.ok, run.error
        (event,) = biz.track.Standup.events().run()
        assert event.report.startswith("# Standup, Monday 11 March 2024")
        assert "**revenue**" in event.report
        assert "**pricing**" in event.report


def test_a_startup_may_be_launched_twice(tmp_path, clock):
    for _ in range(2):
        with Business(tmp_path / "a", clock=clock, worker=False) as biz:
            runpy.run_path(str(EXAMPLE))["MyStartup"]().launch(biz)
            biz.Customer("c1").append("signup", userId="c1")
            biz.drain()
    with Business(tmp_path / "a", clock=clock, worker=False) as biz:
        assert biz.track.Signup.count().run() == 2


def test_launch_may_be_a_coroutine_function(tmp_path):
    (tmp_path / "app.py").write_text(
        "from bizcode import Startup\n"
        "class App(Startup):\n"
        "    async def launch(self, biz):\n"
        "        await biz.track.Launched()\n"
        "        print('launched', flush=True)\n"
    )
    process = start("-m", "bizcode", "run", tmp_path / "app.py", "--store", tmp_path / "a")
    heard(process, "is running")
    process.terminate()
    assert process.wait(20) == 0
    with Business(tmp_path / "a", worker=False) as biz:
        assert biz.track.Launched.count().run() == 1


def test_one_without_a_launch_does_nothing(biz):
    class Empty(Startup): ...

    assert Empty().launch(biz) is None


@pytest.mark.parametrize("default", [True, False])
def test_a_modules_biz_is_run(tmp_path, default):
    if default:
        text = "from bizcode import biz\n"
    else:
        text = f"from bizcode import Business\nbiz = Business({str(tmp_path / 'a')!r})\n"
    text += "@biz.on.track.Ping\ndef pong(event):\n    biz.track.Pong()\n"
    (tmp_path / "app.py").write_text(text)
    process = start("-m", "bizcode", "run", tmp_path / "app.py", env={"BIZCODE_URL": str(tmp_path / "a")})
    heard(process, "is running")
    with Business(tmp_path / "a", worker=False) as biz:
        biz.track.Ping()
        until(lambda: biz.track.Pong.count().run())
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_of_several_startups_the_one_that_builds_on_the_others_is_launched(tmp_path):
    (tmp_path / "my.py").write_text(
        "from bizcode import Startup\n"
        "class Mine(Startup):\n    def launch(self, biz): biz.track.Mine()\n"
        "class Ours(Mine):\n    def launch(self, biz): biz.track.Ours()\n"
        "Base = Mine\n"
    )
    process = start("-m", "bizcode", "run", tmp_path / "my.py", "--store", tmp_path / "a")
    heard(process, "is running")
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    with Business(tmp_path / "a", worker=False) as biz:
        assert biz.track.names().run() == ["Ours"]


def test_several_startups_side_by_side_are_refused_by_name(tmp_path):
    text = "from bizcode import Startup\nclass One(Startup): ...\nclass Two(Startup): ...\n"
    (tmp_path / "my.py").write_text(text)
    process = start("-m", "bizcode", "run", tmp_path / "my.py", "--store", tmp_path / "a")
    out, err = process.communicate(timeout=20)
    assert process.returncode == 1
    assert "One, Two" in f"{out}{err}"
    assert not (tmp_path / "a").exists()
