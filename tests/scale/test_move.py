"""A business moved into PostgreSQL answers as before, whatever broke off on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import bizcode
from bizcode import Business, InvalidValue, ManualClock, StorageError
from bizcode.log import parts
from bizcode.move import move

SOURCE = str(Path(bizcode.__file__).parents[1])


def build(directory: Path) -> None:
    clock = ManualClock("2024-01-01T00:00:00")
    for tenant in (None, "Ä/1"):
        with Business(directory, tenant=tenant, clock=clock, worker=False, timezone="Europe/Berlin") as biz:
            for n in range(60):
                biz.track.Signup(user_id=f"u{n % 9}", n=n, x=n / 3)
                biz.measure.latency(n if n % 2 else n + 0.5)
                clock.advance("1h")
            biz.track.batch([{"event": "Visit", "id": f"id-{n}\0", "data": {"n": n}} for n in range(9)])
            for n in range(6):
                biz.Order(f"o{n}").append("created", total=n)
            biz.identify("u1", "u2")
            biz.compact()
            biz.forget("u3")
            for n in range(40):
                biz.track.Signup(user_id=f"u{n % 9}", n=n)
                biz.Order(f"o{n % 6}").append("paid", amount=n)
            biz.retract(biz.track.Signup(user_id="u4", n=1).id)


def answers(biz: Business) -> list[object]:
    events = list(biz.track.Signup.events())
    log = biz.store.log
    return [
        biz.timezone,
        biz.track.Signup.count().run(),
        biz.track.Signup.sum("n").by("day").run(),
        biz.track.Signup.unique().run(),
        biz.measure.latency.sum().run(),
        [(event.id, event.position, event.data, event.user, event.timestamp) for event in events],
        [log.entity_version(name) for name in log.entities("Order/")],
        log.scan("merge"),
        log.head(),
        log.position_of("id-5\0"),
        biz.sql("SELECT count(*) AS n FROM entity_events").run()[0].n,
    ]


def check(source: Path, url: str) -> None:
    """The moved business answers as its source, and goes on from there."""
    clock = ManualClock("2024-02-01")
    for tenant in (None, "Ä/1"):
        with (
            Business(source, tenant=tenant, clock=clock, worker=False) as old,
            Business(url, tenant=tenant, clock=clock, worker=False) as new,
        ):
            assert answers(new) == answers(old)
            assert new.store.log.check() == []
            assert new.doctor().ok
            head = new.store.log.head()
            known = {"event": "Visit", "id": "id-5\0"}
            assert new.track.batch([known])[0].position == old.store.log.position_of("id-5\0")
            assert new.track.Signup(n=1).position == head + 1
            assert (
                new.Order("o1").append("paid", amount=1).version
                == old.store.log.entity_version("Order/o1") + 1
            )
            new.compact()
            assert new.doctor().ok


@pytest.fixture
def source(tmp_path: Path) -> Path:
    build(tmp_path / "acme")
    return tmp_path / "acme"


@pytest.fixture
def segments(tmp_path: Path) -> str:
    return f"file://{tmp_path}/shared"


def test_a_moved_business_answers_as_before(source, url, segments):
    done = move(source, url, segments=segments)
    assert [moved.tenant for moved in done] == [None, "Ä/1"]
    assert all(moved.records and moved.state and moved.files for moved in done)
    check(source, url)


@pytest.mark.parametrize("pages", [0, 1, 4, 9, 12])
def test_a_move_broken_off_anywhere_goes_on(source, url, segments, monkeypatch, pages):
    from bizcode.log.postgres.receive import Receiver

    take, left = Receiver.take, iter([True] * pages)

    def failing(self, part, rows):
        if not next(left, False):
            raise KeyboardInterrupt
        take(self, part, rows)

    monkeypatch.setattr(parts, "PAGE", 25)
    monkeypatch.setattr(Receiver, "take", failing)
    with pytest.raises(KeyboardInterrupt):
        move(source, url, segments=segments)
    with pytest.raises(StorageError, match="not finished"):  # noqa: PT012
        for tenant in (None, "Ä/1"):
            Business(url, tenant=tenant, worker=False).close()
    monkeypatch.setattr(Receiver, "take", take)
    assert len(move(source, url, segments=segments)) == 2
    check(source, url)


def test_a_killed_move_goes_on(source, url, segments):
    script = """
import sys
from bizcode.log import parts
from bizcode.log.postgres.receive import Receiver
from bizcode.move import move
parts.PAGE = 10
take = Receiver.take
def told(self, part, rows):
    take(self, part, rows)
    print(part, flush=True)
Receiver.take = told
move(sys.argv[1], sys.argv[2], segments=sys.argv[3])
"""
    running = subprocess.Popen(
        [sys.executable, "-c", script, str(source), url, segments],
        env={**os.environ, "PYTHONPATH": SOURCE}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert running.stdout is not None
    for _ in range(4):
        assert running.stdout.readline()
    running.send_signal(signal.SIGKILL)
    running.communicate()
    move(source, url, segments=segments)
    check(source, url)


def test_a_source_that_changed_between_two_attempts_is_taken_anew(source, url, segments, monkeypatch):
    from bizcode.log.postgres.receive import Receiver

    take = Receiver.take

    def failing(self, part, rows):
        take(self, part, rows)
        if part == "kv":
            raise KeyboardInterrupt

    monkeypatch.setattr(Receiver, "take", failing)
    with pytest.raises(KeyboardInterrupt):
        move(source, url, segments=segments)
    monkeypatch.undo()
    with Business(source, worker=False, clock=ManualClock("2024-01-20")) as biz:
        biz.track.Signup(n=5)
        biz.compact()
        biz.forget("u5")
    move(source, url, segments=segments)
    check(source, url)


def test_a_source_written_to_meanwhile_is_not_taken_for_moved(source, url, segments):
    wrote: list[int] = []

    def progress(what: str, count: int) -> None:
        if what == "kv" and not wrote:
            with Business(source, worker=False, clock=ManualClock("2024-01-20")) as biz:
                wrote.append(biz.track.Signup(n=1).position)

    with pytest.raises(StorageError, match="written to during the move"):
        move(source, url, segments=segments, progress=progress)
    move(source, url, segments=segments)
    check(source, url)


def test_what_arrives_damaged_is_found(source, url, segments, monkeypatch):
    from bizcode.log.postgres.receive import Receiver

    take = Receiver.take

    def damaging(self, part, rows):
        take(self, part, [row._replace(data="{}") for row in rows] if part == "records" else rows)

    monkeypatch.setattr(Receiver, "take", damaging)
    with pytest.raises(StorageError, match="other records than were sent"):
        move(source, url, segments=segments)


def test_moves_that_cant_be(source, url, segments, tmp_path):
    with pytest.raises(InvalidValue, match="files of sealed history"):
        move(source, url)
    with pytest.raises(StorageError, match="no business"):
        move(tmp_path / "nothing", url)
    with pytest.raises(InvalidValue, match="postgresql://"):
        move(source, str(tmp_path / "other"))
    with Business(url + "x", worker=False) as biz:
        biz.track.Signup()
    with pytest.raises(StorageError, match="holds a business already"):
        move(source, url + "x", segments=segments)


def test_the_command_moves(source, url, segments):
    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "bizcode", *words],
            env={**os.environ, "PYTHONPATH": SOURCE}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "Ä/1" in run("move", str(source), url, "--segments", segments)
    assert "Signup" in run("info", "--store", url)
    check(source, url)
