"""A worker killed by SIGKILL at random points leaves each effect inside the store exactly once."""

from __future__ import annotations

from collections import Counter

from processes import SOURCE, start

from bizcode import Business

ORDERS = 1_500

KILLER = """
import os, random, signal, sys, threading
import bizcode.consume, bizcode.entity, bizcode.data, bizcode.on, bizcode.do, bizcode.segments
from bizcode import Business

def work(directory, calls, seconds):
    biz = Business(directory, worker=False)
    from bizcode_effects import effects
    left = iter(range(calls))

    def told():
        if next(left, None) is None:
            threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()

    effects(biz, told)
    while True:
        biz.drain()

random.seed(7)
for n in range(20):
    calls, seconds = random.randrange(120), random.uniform(0, 0.01)
    child = os.fork()
    if child == 0:
        work(sys.argv[1], calls, seconds)
    _, status = os.waitpid(child, 0)
    print(os.WTERMSIG(status))
"""

EFFECTS = '''
import random, time

def effects(biz, told=None):
    """What reacts to an order: an entity's event, a count in the data, a tracked event, a projection."""
    @biz.on.Order.placed(name="react")
    def react(event):
        biz.Customer(event.customer).append("ordered", order=event.entity)
        biz.data.set("orders", biz.data.get("orders", 0) + 1)
        if told:
            told()
            time.sleep(random.uniform(0, 0.001))
        biz.track.Ordered(order=event.entity)

    @biz.projection("by-customer", on=["Order.*"])
    def by_customer(event, p):
        p.upsert(event.customer, lambda n: (n or 0) + 1)
        if told:
            told()
            time.sleep(random.uniform(0, 0.001))
        p.set(f"order:{event.entity}", (p.get(f"order:{event.entity}") or 0) + 1)
'''


def test_twenty_kills_neither_lose_nor_repeat_an_effect(tmp_path):
    (tmp_path / "bizcode_effects.py").write_text(EFFECTS)
    with Business(tmp_path / "a", worker=False) as biz:
        scope: dict = {}
        exec(EFFECTS, scope)
        scope["effects"](biz)
        with biz.do():
            for n in range(ORDERS):
                biz.Order(f"o{n}").append("placed", customer=f"c{n % 7}")
        process = start(tmp_path / "a", code=KILLER, env={"PYTHONPATH": f"{SOURCE}:{tmp_path}"})
        out, _ = process.communicate(timeout=100)
        assert out.split() == ["9"] * 20
        done = biz.track.Ordered.count().run()
        assert 0 < done < ORDERS, "the kills should have come in the middle"
        biz.drain()

        assert biz.data["orders"] == ORDERS
        orders = [e.order for e in biz.track.Ordered.events().run()]
        assert Counter(orders) == Counter(f"o{n}" for n in range(ORDERS))
        for c in range(7):
            events = biz.Customer(f"c{c}").events().run()
            assert [e.order for e in events] == [f"o{n}" for n in range(c, ORDERS, 7)]
            assert [e.version for e in events] == list(range(1, len(events) + 1))
            assert biz.projection("by-customer").get(f"c{c}").run() == len(events)
        once = biz.projection("by-customer").list("order:").run()
        assert set(once.values()) == {1}
        assert len(once) == ORDERS
        assert biz.dead_letters.list().run() == []
