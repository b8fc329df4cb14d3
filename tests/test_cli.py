"""The command, as a person types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src"


def bizcode(*arguments: str, cwd: Path) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(SOURCE)}
    return subprocess.run(
        [sys.executable, "-m", "bizcode", *arguments], capture_output=True, text=True, cwd=cwd, env=env
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    cwd = tmp_path_factory.mktemp("demo")
    return cwd, bizcode("demo", cwd=cwd)


def test_the_demo_answers_about_a_real_business(demo):
    _, done = demo
    assert done.returncode == 0, done.stderr
    for text in ("1997-01", "$299,060", "23,570", "69,659", "bought again", "49.5%", "Business('acme-demo')"):
        assert text in done.stdout


def test_what_the_demo_left_can_be_asked(demo):
    cwd, _ = demo
    found = bizcode("query", 'track.Purchase.count().by("year")', "--store", "acme-demo", cwd=cwd)
    rows = [line.split()[:2] for line in found.stdout.splitlines()]
    assert rows[0] == ["year", "count"]
    assert rows[2:4] == [["1997", "56,902"], ["1998", "12,757"]]
    found = bizcode("query", "select count(*) n from events", "--store", "acme-demo", "--json", cwd=cwd)
    assert found.stdout.strip() == '[{"n": 69659}]'
    cohorts = 'track.cohort(anchor="Purchase", activity="Purchase", periods=3, granularity="month")'
    first = bizcode("query", cohorts, "--store", "acme-demo", cwd=cwd).stdout.splitlines()
    assert first[0].split() == ["cohort", "size", "+0", "+1", "+2"]  # as a REPL shows it
    assert first[2].split() == ["1997-01", "7,846", "100", "%", "15", "%", "12", "%"]
    funnel = 'track.funnel(["Purchase", "Purchase"]).within("30d")'
    assert "23,570" in bizcode("query", funnel, "--store", "acme-demo", cwd=cwd).stdout


def test_a_question_that_would_record_is_refused(demo):
    cwd, _ = demo
    for slip in ('track.Purchase(user_id="u1")', "measure.revenue(1)", 'Order("o1").append("paid")'):
        done = bizcode("query", slip, "--store", "acme-demo", cwd=cwd)
        assert done.returncode == 1
        assert "only asks" in done.stderr
        assert "nothing was stored" in done.stderr
    found = bizcode("query", "select count(*) n from events", "--store", "acme-demo", "--json", cwd=cwd)
    assert found.stdout.strip() == '[{"n": 69659}]'


def test_a_question_that_fails_is_one_sentence_and_exit_code_1(demo):
    cwd, _ = demo
    done = bizcode("query", 'track.Purchase.count().vs("prev")', "--store", "acme-demo", cwd=cwd)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("bizcode: vs() compares ranges")


def test_info_doctor_and_compact(demo):
    cwd, _ = demo
    assert "23,570" in bizcode("info", "--store", "acme-demo", cwd=cwd).stdout
    assert "every invariant holds" in bizcode("doctor", "--store", "acme-demo", cwd=cwd).stdout
    assert bizcode("compact", "--store", "acme-demo", cwd=cwd).returncode == 0


def test_a_mistake_is_one_sentence(tmp_path):
    for arguments in (["query", "track.A.count()"], ["info", "--store", "nowhere"], ["run", "none.py"]):
        done = bizcode(*arguments, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("bizcode: ")
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_load_from_the_shell(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"event": "A", "user_id": "u1", "time": "2024-01-01"}\nbroken\n')
    done = bizcode("load", "a.jsonl", "--store", "acme", cwd=tmp_path)
    assert "1 record loaded" in done.stdout
    assert "line 2" in done.stderr
    assert "1 broken line was left out" in done.stderr


def test_goals_and_rollups_in_the_terminal(tmp_path):
    from bizcode import Business, ManualClock

    with Business(tmp_path / "acme", clock=ManualClock("2024-03-10"), worker=False) as biz:
        biz.goal.define("Q1-revenue", target=biz.measure.revenue.sum().reach(100), owner="founder")
        biz.goal.define("growth", targets=[biz.track.A.count().reach(2), biz.measure.mrr.reach(3)])
        biz.goal.define("own", target=biz.track.A.where(lambda e: e.n).count().reach(2))
        biz.measure.revenue(30)
        biz.measure.revenue.rollup(granularity="day", retention={"raw": "7d"})
        biz.drain()
    shown = bizcode("goals", "--store", "acme", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    for text in ("Q1-revenue (founder)", "30 %", "30 of 100", "━", "growth", "  2.", "own: its target holds"):
        assert text in shown.stdout
    mine = bizcode("goals", "--store", "acme", "--owner", "founder", "--json", cwd=tmp_path)
    assert '"percent": 30.0' in mine.stdout
    assert "growth" not in mine.stdout
    info = bizcode("info", "--store", "acme", cwd=tmp_path).stdout
    for text in ("1 by day", "raw 7d", "Q1-revenue", "30 of 100"):
        assert text in info
