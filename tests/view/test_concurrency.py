"""Views read, changed and made anew by several at once."""

from __future__ import annotations

import multiprocessing
import threading
import time

import pytest

from bizcode import AlreadyExists, Business, ManualClock, NotFound


def define(biz, **options):
    return biz.view.define(
        "v", source=biz.track.P, group_by="k", compute=dict(n=biz.count(), low=biz.min("v")), **options
    )


def test_threads_that_write_read_and_refresh_see_every_write_that_returned(tmp_path):
    errors: list[BaseException] = []
    written = [0] * 3
    stop = threading.Event()

    def guarded(work, *given):
        try:
            work(*given)
        except BaseException as error:  # noqa: BLE001 - shown by the test
            errors.append(error)
            stop.set()

    with Business(tmp_path, worker=False) as biz:
        view = define(biz)
        biz.view.define("over", source=biz.view.v, compute=dict(rows=biz.count(), n=biz.sum("n")))

        def write(me):
            for n in range(150):
                event = biz.track.P(k=f"{me}-{n % 7}", v=n)
                written[me] += 1
                if n % 10 == 9:
                    biz.retract(event.id)
                    written[me] -= 1

        def read():
            while not stop.is_set():
                before = [max(0, count - 1) for count in written]  # one may be being taken back
                found = view.get().run()
                for me, least in enumerate(before):
                    assert sum(row.n for row in found if row.k.startswith(f"{me}-")) >= least
                assert biz.view.over.get().run()[0].rows >= len(found)

        def refresh():
            while not stop.is_set():
                view.refresh()
                biz.store.segments.seal()

        view.refresh()
        biz.track.P(k="first", v=0)
        others = [threading.Thread(target=guarded, args=(work,)) for work in (read, read, refresh)]
        writers = [threading.Thread(target=guarded, args=(write, me)) for me in range(3)]
        for thread in [*others, *writers]:
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        for thread in others:
            thread.join()
        assert errors == []
        assert sum(row.n for row in view.get().run()) == sum(written) + 1
        assert biz.view.over.get().run()[0].n == sum(written) + 1


def _write(path, me, count):
    with Business(path, worker=False) as biz:
        for n in range(count):
            biz.track.P(k=f"{me}", v=n)


def test_a_reader_sees_what_other_processes_write(tmp_path):
    context = multiprocessing.get_context("spawn")
    with Business(tmp_path, worker=False) as biz:
        view = define(biz)
        writers = [context.Process(target=_write, args=(tmp_path, me, 100)) for me in range(2)]
        for writer in writers:
            writer.start()
        seen = 0
        while any(writer.is_alive() for writer in writers):
            found = sum(row.n for row in view.get().run())
            assert found >= seen
            seen = found
            time.sleep(0.001)
        for writer in writers:
            writer.join()
            assert writer.exitcode == 0
        assert {row.k: row.n for row in view.get().run()} == {"0": 100, "1": 100}


def test_what_another_program_changes_is_seen_here(tmp_path):
    with Business(tmp_path, worker=False) as one, Business(tmp_path, worker=False) as other:
        define(one)
        one.track.P(k="a", v=1)
        assert one.view.v.get("a").run().n == 1
        with pytest.raises(AlreadyExists):
            define(other, limit=3)
        other.view.v.update(compute=dict(total=other.sum("v")))
        assert dict(one.view.v.get("a").run()) == {"k": "a", "total": 1}
        other.view.v.drop()
        with pytest.raises(NotFound, match="no view 'v'"):
            one.view.v.get().run()
        define(other, having={"n": {"gte": 2}})
        assert one.view.v.get().run() == []


def test_a_subscription_goes_on_when_its_view_is_dropped_and_defined_again(tmp_path):
    clock = ManualClock("2024-03-01")
    with Business(tmp_path, worker=False, clock=clock) as biz:
        told = []
        define(biz)
        biz.view.v.subscribe(told.extend, initial=True)
        biz.track.P(k="a", v=1)
        biz.drain()
        biz.view.v.drop()
        biz.track.P(k="b", v=1)
        biz.drain()
        assert [change.key for change in told] == ["a"]
        define(biz)
        biz.drain()
        assert [(change.kind, change.key) for change in told] == [("insert", "a"), ("insert", "b")]
