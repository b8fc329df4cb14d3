"""A handler that raises: retries, then the dead letters."""

from __future__ import annotations

import threading

import pytest

from bizcode import Business, Conflict, NotFound
from bizcode.consume.lease import lease


def failing(biz, error=None):
    """A handler that fails as long as its `broken` says so, and what it was called with."""

    class Handler:
        broken = True
        calls = []

        def __call__(self, event):
            self.calls.append(event.n)
            biz.track.Tried(n=event.n)
            if self.broken and event.n < 0:
                raise error or RuntimeError("the mail server is away")

    handler = Handler()
    handler.calls = []
    biz.on.track.Order(handler, name="mail")
    return handler


def test_it_is_called_four_times_then_the_record_is_a_dead_letter(biz):
    handler = failing(biz)
    event = biz.track.Order(n=-1)
    biz.drain()
    assert handler.calls == [-1] * 4
    (letter,) = biz.dead_letters.list().run()
    assert (letter.consumer, letter.attempts, letter.position) == ("on:mail", 4, event.position)
    assert letter.error == "RuntimeError: the mail server is away"
    assert letter.record == event
    assert letter.timestamp == biz.now()


def test_the_consumer_goes_on_with_the_next_record(biz):
    handler = failing(biz)
    for n in (-1, 1, -2, 2):
        biz.track.Order(n=n)
    biz.drain()
    assert handler.calls == [-1] * 4 + [1] + [-2] * 4 + [2]
    assert [letter.record.n for letter in biz.dead_letters.list().run()] == [-1, -2]


def test_what_failed_attempts_wrote_is_not_stored(biz):
    failing(biz)
    biz.track.Order(n=-1)
    biz.track.Order(n=1)
    biz.drain()
    assert [e.n for e in biz.track.Tried.events().run()] == [1]


def test_a_retry_takes_it_again_and_ends_the_letter(biz):
    handler = failing(biz)
    biz.track.Order(n=-1)
    biz.drain()
    handler.broken = False
    biz.dead_letters.retry(biz.dead_letters.list().run()[0])
    biz.drain()
    assert biz.dead_letters.list().run() == []
    assert biz.track.Tried.count().run() == 1


def test_a_retry_that_fails_is_a_dead_letter_again(biz):
    handler = failing(biz)
    biz.track.Order(n=-1)
    biz.drain()
    biz.dead_letters.retry(biz.dead_letters.list().run()[0].id)
    biz.drain()
    assert len(handler.calls) == 5
    assert biz.dead_letters.list().run()[0].attempts == 5
    biz.drain()
    assert len(handler.calls) == 5


def test_discarded_is_forgotten(biz):
    failing(biz)
    biz.track.Order(n=-1)
    biz.drain()
    biz.dead_letters.discard(biz.dead_letters.list(consumer="on:mail").run()[0])
    assert biz.dead_letters.list().run() == []


@pytest.mark.parametrize("id", ["nope", "", None, 7])
@pytest.mark.parametrize("what", ["retry", "discard"])
def test_an_unknown_letter_is_not_found(biz, what, id):
    with pytest.raises(NotFound, match=r"dead_letters\.list"):
        getattr(biz.dead_letters, what)(id)


def test_the_letter_of_an_unnamed_subscription_can_be_retried_while_it_lives(biz):
    seen, broken = [], [True]

    def handler(event):
        seen.append(event.n)
        if broken:
            raise ValueError("no")

    biz.track.Order.subscribe(handler)
    biz.track.Order(n=1)
    biz.drain()
    broken.clear()
    biz.dead_letters.retry(biz.dead_letters.list().run()[0])
    biz.drain()
    assert seen == [1] * 5
    assert biz.dead_letters.list().run() == []


def test_a_conflict_that_the_handler_raises_is_a_failure_like_any_other(biz):
    handler = failing(biz, Conflict("sold out"))
    biz.track.Order(n=-1)
    biz.drain()
    assert len(handler.calls) == 4
    assert biz.dead_letters.list().run()[0].error == "Conflict: sold out"


def test_a_conflict_at_the_commit_calls_it_again_and_is_no_failure(biz):
    other = Business(biz.store.root, clock=biz.clock, worker=False)
    calls = []

    @biz.on.track.Order
    def handler(event):
        found = biz.data.get("n", 0)
        calls.append(found)
        if len(calls) <= 6:
            other_writes(other)
        biz.data.set("n", found + 1)

    biz.track.Order()
    biz.drain()
    assert biz.data["n"] == 7
    assert calls == [0, 1, 2, 3, 4, 5, 6]
    assert biz.dead_letters.list().run() == []
    other.close()


def other_writes(other):
    def write():
        other.data.set("n", other.data.get("n", 0) + 1)

    thread = threading.Thread(target=write)
    thread.start()
    thread.join()


def test_retries_back_off_but_not_where_time_stands_still(tmp_path, clock, monkeypatch):
    waits = []
    monkeypatch.setattr("bizcode.consume.consumers.time.sleep", waits.append)
    for given, expected in ((clock, []), (None, [0.1, 0.4, 1.6])):
        with Business(tmp_path / str(given), clock=given, worker=False) as biz:
            failing(biz)
            biz.track.Order(n=-1)
            biz.drain()
        assert waits == pytest.approx(expected)


def dispatches(biz, monkeypatch, seconds):
    """How often the worker looks for work in so many seconds."""
    looked = []
    real = type(biz.store.consumers)._dispatch
    monkeypatch.setattr(
        type(biz.store.consumers), "_dispatch", lambda self: (looked.append(1), real(self))[-1]
    )
    biz.store.consumers.start()
    threading.Event().wait(seconds)
    return len(looked)


def test_a_dead_letter_leaves_the_worker_at_rest(tmp_path, monkeypatch):
    with Business(tmp_path / "a", worker=False) as biz:
        monkeypatch.setattr("bizcode.consume.consumers.time.sleep", lambda seconds: None)
        failing(biz)
        biz.track.Order(n=-1)
        biz.drain()
    monkeypatch.undo()
    with Business(tmp_path / "a") as biz:
        failing(biz)
        assert dispatches(biz, monkeypatch, 0.6) < 8


def test_work_that_another_process_is_at_leaves_the_worker_at_rest(tmp_path, monkeypatch):
    other = Business(tmp_path / "a", worker=False)
    locks = other.store.log.locks
    with Business(tmp_path / "a") as biz, lease(locks, "on:mail"), lease(locks, "tick:every:often"):
        failing(biz)
        biz.every("1s")(lambda: None, name="often", since="start")
        biz.track.Order(n=1)
        assert dispatches(biz, monkeypatch, 0.6) < 12
    other.close()
