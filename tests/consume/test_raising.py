"""A user's function that raises stops nothing but itself: `drain()` does the rest and leaves a dead letter."""

from __future__ import annotations

import pytest


def boom(*_):
    raise RuntimeError("boom")


def view(biz, **given):
    biz.view.define("v", source=biz.track.P, group_by="k", compute={"n": biz.count()}, **given)
    biz.view.v.subscribe(print)


def goal(biz):
    biz.goal.define("g", target=biz.track.P.where(boom).count().reach(1))
    biz.goal("g").alert(when="achieved", notify=print)


STARTED = {
    "a handler": lambda biz: biz.on.track.P(boom),
    "a subscription's condition": lambda biz: biz.track.P.subscribe(print, where=boom),
    "a subscription's selection": lambda biz: biz.track.P.where(boom).subscribe(print),
    "an alert's condition": lambda biz: biz.measure.m.alert(name="a", condition=boom),
    "an alert's selection": lambda biz: biz.measure.m.where(boom).alert(name="a", above=0),
    "an alert's question": lambda biz: biz.track.P.where(boom).count().alert(name="a", above=0),
    "an alert's notification": lambda biz: biz.measure.m.alert(name="a", above=0, notify=boom),
    "a goal's target": goal,
    "a view's condition": lambda biz: view(biz, where=boom),
    "a view's having": lambda biz: view(biz, having=boom),
    "a view's subscriber": lambda biz: (view(biz), biz.view.v.subscribe(boom)),
    "a stream's filter": lambda biz: biz.stream.track.P.filter(boom).named("s").for_each(print),
    "a stream's on_error": lambda biz: biz.stream.track.P.on_error(boom).named("s").for_each(boom),
}


@pytest.mark.parametrize("what", STARTED)
def test_the_rest_goes_on(biz, clock, what):
    STARTED[what](biz)
    told = []
    biz.on.track.P(lambda event: told.append(event.n))
    biz.measure.m.alert(name="other", above=0, notify=lambda event: told.append("alert"))
    for n in range(2):
        biz.track.P(n=n, k=1)
        biz.measure.m(5)
        clock.advance("2m")
        biz.drain()
        clock.advance("10m")
        biz.drain()
    assert sorted(told, key=str) == [0, 1, "alert"]
    letters = biz.dead_letters.list().run()
    assert letters
    assert {letter.error for letter in letters} == {"RuntimeError: boom"}
    for letter in letters:
        biz.dead_letters.retry(letter.id)
    biz.drain()


def test_a_condition_that_is_mended_gets_its_record_by_a_retry(biz):
    told, broken = [], True

    def condition(event):
        if broken:
            boom()
        return event.n > 1

    biz.track.P.subscribe(lambda event: told.append(event.n), where=condition, name="s")
    biz.track.P(n=1)
    biz.track.P(n=2)
    biz.drain()
    broken = False
    for letter in biz.dead_letters.list(consumer="s").run():
        biz.dead_letters.retry(letter.id)
    biz.drain()
    assert told == [2]
    assert biz.dead_letters.list().run() == []
