"""Backends that die, connections that are cut, servers that are of no use."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from bizcode import Business, ManualClock, StorageError
from bizcode.record import Draft

psycopg = pytest.importorskip("psycopg")


def draft(n: int) -> Draft:
    return Draft("event", "Signup", n, f'{{"n":{n}}}')


def backends(server, log) -> list[int]:
    """The processes that serve a log's writing connection."""
    with psycopg.connect(server.url(), autocommit=True) as admin:
        rows = admin.execute(
            "select pid from pg_stat_activity where application_name = 'bizcode' and pid <> pg_backend_pid()"
        ).fetchall()
    return [row[0] for row in rows]


def cut(server) -> None:
    """End every connection of the library, as a network does."""
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity "
            "where application_name = 'bizcode' and pid <> pg_backend_pid()"
        )


@pytest.fixture
def log(url):
    from bizcode.log.postgres import open_postgres

    log = open_postgres(url)
    yield log
    log.close()


def test_a_cut_connection_is_made_again(server, log):
    log.append([draft(0)])
    for n in range(1, 4):
        cut(server)
        assert log.append([draft(n)])[0].position == n + 1
        cut(server)
        assert len(log.read(0)) == n + 1
        cut(server)
        with log.transaction() as tx:
            tx.put("s", "n", str(n).encode())
    assert log.get("s", "n") == b"3"


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_commit_without_an_answer_is_stored_once(server, log, monkeypatch, when):
    from bizcode.log.postgres.transaction import Gone, Session

    log.append([draft(0)])
    commit = Session.commit
    cuts = iter([True, False])

    def commit_cut(session):
        if not next(cuts, False):
            return commit(session)
        if when == "before":
            cut(server)
            return commit(session)
        # The commit takes place, its answer doesn't arrive.
        commit(session)
        cut(server)
        raise Gone(psycopg.OperationalError("no answer"), session.serial)

    monkeypatch.setattr(Session, "commit", commit_cut)
    assert log.append([draft(1), draft(2)])[-1].position == 3
    assert [row.time for row in log.read(0)] == [0, 1, 2]


def test_a_transaction_whose_answer_was_lost_is_known_to_be_stored(server, log, monkeypatch):
    from bizcode.log.postgres.transaction import Gone, Session

    commit = Session.commit

    def silent(session):
        commit(session)
        cut(server)
        raise Gone(psycopg.OperationalError("no answer"), session.serial)

    monkeypatch.setattr(Session, "commit", silent)
    with log.transaction() as tx:
        tx.append([draft(1)])
    monkeypatch.undo()
    assert len(log.read(0)) == 1


def test_a_transaction_cut_in_its_midst_stores_nothing_and_says_so(server, log):
    with pytest.raises(StorageError, match=r"lost .*nothing"), log.transaction() as tx:  # noqa: PT012
        tx.append([draft(1)])
        cut(server)
        tx.put("s", "k", b"")
    assert (log.head(), log.get("s", "k")) == (0, None)
    assert log.append([draft(2)])[0].position == 1


@pytest.mark.parametrize("kind", ["single", "batch", "buffered", "transaction"])
def test_backends_killed_amid_writes_lose_and_double_nothing(server, log, kind):
    """Killing one makes the server restart all of them, and recover."""
    acknowledged: list[int] = []
    tried: list[int] = []
    refused: list[str] = []
    stop = threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            mine = list(range(n * 1000, n * 1000 + (50 if kind == "batch" else 1)))
            tried.extend(mine)
            try:
                if kind == "transaction":
                    with log.transaction() as tx:
                        tx.append([draft(i) for i in mine])
                        tx.put("s", "last", str(mine[-1]).encode())
                elif kind == "buffered":
                    log.append_later(draft(mine[0])._replace(id=str(mine[0]))).result()
                else:
                    log.append([draft(i) for i in mine])
            except StorageError as error:
                refused.append(str(error))
                tried[:] = [i for i in tried if i not in mine]
                continue
            acknowledged.extend(mine)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(2):
            seen = len(acknowledged)
            while len(acknowledged) < seen + 20 and writer.is_alive():
                stop.wait(0.001)
            for pid in backends(server, log)[:1]:
                os.kill(pid, signal.SIGKILL)
            server.ready()
    finally:
        stop.set()
        writer.join(60)
    assert not writer.is_alive()
    times = [row.time for row in log.read(0)]
    assert times == acknowledged == tried
    assert all("nothing" in sentence and kind == "transaction" for sentence in refused), refused
    assert log.check() == []


def test_waiting_goes_on_over_a_restart(server, log):
    before = log.changes()
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(log.wait(before, 30)))
    waiter.start()
    cut(server)
    log.append([draft(1)])
    waiter.join(30)
    assert woken == [True]


def test_a_server_that_stays_away_is_told_in_a_sentence(url, server, monkeypatch):
    from bizcode.log.postgres import open_postgres, pool

    monkeypatch.setattr(pool, "PATIENCE", 0.3)
    log = open_postgres(url)
    log.append([draft(1)])
    server.stop()
    try:
        for call in (lambda: log.append([draft(2)]), log.head, lambda: log.transaction().__enter__()):
            with pytest.raises(StorageError, match="can't be reached"):
                call()
    finally:
        server.start("-c", "fsync=off", "-c", "max_connections=200")
    assert log.append([draft(3)])[0].position == 2
    log.close()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ("postgresql://postgres@127.0.0.1:1/postgres", "can't be reached"),
        ("postgresql://postgres@nowhere.invalid/postgres", "can't be reached"),
        ("{server}/missing", "no such database|does not exist"),
        ("{server}/postgres?nonsense=1", "no URL of a PostgreSQL database"),
        ("postgresql://someone:secret@127.0.0.1:{port}/postgres", "someone"),
    ],
)
def test_a_server_of_no_use_is_told_in_a_sentence(server, wrong, sentence):
    url = wrong.format(server=server.url().rpartition("/")[0], port=server.port)
    with pytest.raises(StorageError, match=sentence) as raised:
        Business(url)
    assert "secret" not in str(raised.value)


def test_an_old_server_and_another_encoding_are_refused(server, monkeypatch):
    from bizcode.log.postgres import server as module

    monkeypatch.setattr(module, "OLDEST", 99)
    with pytest.raises(StorageError, match="needs 99 or newer"):
        Business(server.url())
    monkeypatch.undo()
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute("create database latin encoding 'LATIN1' locale 'C' template template0")
    with pytest.raises(StorageError, match="UTF8"):
        Business(server.url(database="latin"))


def test_a_schema_of_another_application_is_left_alone(server):
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute("create schema if not exists taken")
        admin.execute("create table if not exists taken.records (n int)")
    with pytest.raises(StorageError, match="another application"):
        Business(server.url("taken"))


def test_tenants_are_kept_apart_in_schemas_of_their_own(server, url):
    clock = ManualClock("2024-01-01")
    for tenant in (None, "acme", "Ä" * 60):
        with Business(url, tenant=tenant, clock=clock, worker=False) as biz:
            biz.track.Signup(n=1)
            assert biz.track.Signup.count().run() == 1
    with Business(url, tenant="acme", clock=clock, worker=False) as biz:
        assert biz.track.Signup.count().run() == 1


def test_nothing_is_sealed_without_a_place_that_all_machines_see(url, tmp_path: Path):
    clock = ManualClock("2024-01-01")
    with Business(url, clock=clock, worker=False) as biz:
        biz.store.segments.seal_rows = 10
        biz.track.batch([{"event": "Signup", "data": {"n": n}} for n in range(20)])
        assert not biz.store.segments.due()
        with pytest.raises(StorageError, match="segments="):
            biz.compact()
    with Business(url, clock=clock, worker=False, segments=f"file://{tmp_path}/shared") as biz:
        assert biz.compact().sealed == 20
        assert biz.doctor().ok
    with Business(url, clock=clock, worker=False) as biz:
        assert biz.track.Signup.sum("n").run() == 190
    with pytest.raises(StorageError, match="bizcode move"):
        Business(url, clock=clock, worker=False, segments=f"file://{tmp_path}/elsewhere")


@pytest.mark.parametrize("how", ["append", "transaction"])
def test_a_commit_whose_fate_nobody_can_tell_is_not_written_again(url, server, monkeypatch, how):
    from bizcode.log.postgres import open_postgres, pool
    from bizcode.log.postgres.transaction import Gone, Session

    log = open_postgres(url)
    log.append([draft(0)])
    commit = Session.commit

    def silent(session):
        commit(session)
        server.stop()
        raise Gone(psycopg.OperationalError("no answer"), session.serial)

    def write() -> None:
        if how == "append":
            log.append([draft(1)])
            return
        with log.transaction() as tx:
            tx.append([draft(1)])

    monkeypatch.setattr(pool, "PATIENCE", 0.3)
    monkeypatch.setattr(Session, "commit", silent)
    try:
        with pytest.raises(StorageError, match="can't be told"):
            write()
    finally:
        monkeypatch.setattr(Session, "commit", commit)
        server.start("-c", "fsync=off", "-c", "max_connections=200")
    assert [row.time for row in log.read(0)] == [0, 1]
    assert log.append([draft(2)])[0].position == 3
    log.close()


def test_an_interrupt_at_a_shared_commit_stores_nothing_twice(log, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    from bizcode.log.postgres.transaction import Session

    commit = Session.commit
    interrupts = iter([False, True] * 20)

    def interrupted(session):
        commit(session)
        if next(interrupts, False):
            raise KeyboardInterrupt

    monkeypatch.setattr(Session, "commit", interrupted)
    told: list[int] = []

    def write(thread: int) -> None:
        for n in range(40):
            try:
                log.append([draft(thread * 1000 + n)])
            except KeyboardInterrupt:
                told.append(thread * 1000 + n)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    times = [row.time for row in log.read(0)]
    assert told
    assert sorted(times) == sorted(thread * 1000 + n for thread in range(4) for n in range(40))


@pytest.mark.parametrize("step", ["seal", "merge", "forget"])
def test_upkeep_cut_at_its_commit_loses_nothing_and_can_be_done_again(
    url, server, tmp_path, monkeypatch, step
):
    from bizcode.segments import change, erase, merge, seal

    clock = ManualClock("2024-01-01")
    with Business(url, clock=clock, worker=False, segments=f"file://{tmp_path}/shared") as biz:
        for start in (0, 50):
            biz.track.batch(
                [{"event": "Signup", "user": f"u{n % 5}", "data": {"n": n}} for n in range(start, start + 50)]
            )
            if step != "seal":
                biz.store.segments.seal(biz.store.log.head())
        module = {"seal": seal, "merge": merge, "forget": erase}[step]

        def cut_change(log, expected, commit, to=None):
            def then_cut(tx):
                commit(tx)
                cut(server)

            change.change(log, expected, then_cut, to)

        def work():
            biz.forget("u1") if step == "forget" else biz.compact()

        monkeypatch.setattr(module, "change", cut_change)
        with pytest.raises(StorageError, match="nothing of it was stored"):
            work()
        monkeypatch.undo()
        assert biz.track.Signup.sum("n").run() == sum(range(100))
        work()
        left = [n for n in range(100) if step != "forget" or n % 5 != 1]
        assert biz.track.Signup.sum("n").run() == sum(left)
        assert biz.doctor(mend=True).ok


def test_a_forgotten_user_is_in_no_table_and_no_file(url, server, tmp_path):
    name = "margarete-kowalski-4711"
    clock = ManualClock("2024-01-01")
    with Business(url, clock=clock, worker=False, segments=f"file://{tmp_path}/shared") as biz:
        for n in range(60):
            biz.track.Signup(user_id=name if n % 3 else "other", note=f"by {name if n % 3 else 'other'}")
            if n == 30:
                biz.compact()
        assert biz.forget(name) == 40
        assert biz.track.Signup.count().run() == 20
    with psycopg.connect(server.url(), autocommit=True) as admin:
        admin.execute("checkpoint")
    files = [*(tmp_path / "shared").rglob("*.parquet"), *(server.directory / "base").rglob("*")]
    assert len(files) > 10
    assert not [file for file in files if file.is_file() and name.encode() in file.read_bytes()]


def test_an_id_too_long_to_be_indexed_is_refused_alone(log):
    with pytest.raises(StorageError, match="2,600 bytes"):
        log.append([draft(1)._replace(id=os.urandom(4000).hex())])
    assert log.append([draft(2)])[0].position == 1


def test_without_psycopg_the_sentence_names_what_to_install():
    import subprocess
    import sys

    import bizcode

    code = """
import sys
sys.modules["psycopg"] = None
from bizcode import Business, StorageError
try:
    Business("postgresql://localhost/acme")
except StorageError as error:
    print(error)
"""
    source = str(Path(bizcode.__file__).parents[1])
    found = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": source}, capture_output=True, text=True
    )
    assert "pip install 'bizcode[postgres]'" in found.stdout, found.stderr
