"""What `bizcode demo --serve` adds to the demo's purchases, so that every page of the dashboard has something to show.

All of it is derived from the real purchases. The experiment is an A/A test: nobody saw anything different, so no
variant may win.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ..demo import END, purchases

if TYPE_CHECKING:
    from ..business import Business
    from ..clock import ManualClock

__all__ = ["showcase"]

_BEST = 200


def showcase(biz: Business, clock: ManualClock) -> None:
    """Define goals, a view, a stream, an alert, an A/A test and the best customers as entities. Twice is fine."""
    clock.set("1998-01-01")
    revenue = biz.measure.revenue.sum()
    biz.goal.define(
        "Revenue of 1998",
        target=revenue.between("1998-01-01", "1999-01-01").reach(700_000),
        by="1998",
        owner="sales",
    )
    orders = biz.track.Purchase.count()
    biz.goal.define(
        "Orders of the first half",
        target=orders.between("1998-01-01", "1998-07-02").reach(14_000),
        by="1998-07-01",
    )
    clock.set(END)
    biz.view.define(
        "Best customers",
        source=biz.track.Purchase,
        group_by="customer_id",
        compute={"spent": biz.sum("amount"), "orders": biz.count(), "last": biz.max("timestamp")},
        order_by={"spent": "desc"},
        limit=100,
    )
    biz.measure.revenue.alert(name="A purchase above $1,000", above=1_000, notify=lambda event: None)
    weekly = biz.stream.track.Purchase.window.tumbling("1w").aggregate(
        orders=biz.count(), amount=biz.sum("amount")
    )
    weekly.to.measure.weekly_orders(value="orders").named("Purchases by week").start(since="start")
    _customers(biz)
    first = _same(biz, clock)
    biz.drain()
    if first:
        biz.compact()


def _customers(biz: Business) -> None:
    spent: dict[str, float] = defaultdict(float)
    bought = defaultdict(list)
    for customer, at, cds, dollars in purchases():
        spent[customer] += dollars
        bought[customer].append((at, cds, dollars))
    best = sorted(spent, key=lambda customer: -spent[customer])[:_BEST]
    for customer in best:
        handle = biz.Customer(customer)
        if handle.exists().run():
            continue
        total = 0.0
        events = []
        for n, (at, cds, dollars) in enumerate(bought[customer], 1):
            total = round(total + dollars, 2)
            data = {"orders": n, "cds": cds, "dollars": dollars, "spent": total}
            events.append(("joined" if n == 1 else "bought", data, {"at": at}))
        handle.append_many(events)


def _same(biz: Business, clock: ManualClock) -> bool:
    """Put every customer into one half; whether that was not done before."""
    name = "A/A: nothing was changed"
    if any(info.name == name for info in biz.experiment.list().run()):
        return False
    clock.set("1997-04-01")
    biz.experiment.define(
        name, variants=["one half", "the other"], goal=biz.track.Purchase.sum("amount"), autostart=True
    )
    users = sorted({customer for customer, *_ in purchases()})
    for start in range(0, len(users), 2_000):
        with biz.do():
            for user in users[start : start + 2_000]:
                biz.experiment(name).assign(user).run()
    clock.set(END)
    return True
