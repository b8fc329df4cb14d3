"""`bizcode demo`: a real business's eighteen months, loaded and asked about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from .business import Business
from .clock import ManualClock
from .query.text import bar, sparkline

__all__ = ["demo", "load_cdnow", "purchases"]

END = "1998-07-01"


@cache
def purchases() -> list[tuple[str, datetime, int, float]]:
    """The CDNOW purchases: customer, time, number of CDs, dollars.

    Purchases carry a day only; within a day they keep the file's order, a second apart from noon on.
    """
    text = resources.files("bizcode.examples").joinpath("cdnow_master.txt").read_text()
    found = []
    for line in text.splitlines()[1:]:
        if line.strip():
            customer, day, cds, dollars = line.split()
            found.append(
                (customer, datetime.strptime(day, "%Y%m%d").replace(tzinfo=UTC), int(cds), float(dollars))
            )
    found.sort(key=lambda row: row[1])
    counts: dict[datetime, int] = {}
    spread = []
    for customer, day, cds, dollars in found:
        n = counts[day] = counts.get(day, 0) + 1
        spread.append((customer, day + timedelta(hours=12, seconds=n), cds, dollars))
    return spread


def load_cdnow(biz: Business, progress: Any = None) -> int:
    """Load the purchases as `Purchase` events and `revenue` measurements; loading again stores nothing twice."""
    rows = purchases()
    for start in range(0, len(rows), 5_000):
        part = rows[start : start + 5_000]
        if biz.store.position_of(f"cdnow-revenue-{start + len(part) - 1}") is not None:  # with it came all
            _told(progress, start + len(part), len(rows))
            continue
        with biz.do():
            biz.track.batch(
                [
                    {
                        "event": "Purchase",
                        "data": {"customer_id": customer, "cds": cds, "amount": dollars},
                        "at": at,
                        "id": f"cdnow-{start + n}",
                    }
                    for n, (customer, at, cds, dollars) in enumerate(part)
                ]
            )
            for n, (customer, at, _, dollars) in enumerate(part):
                biz.measure.revenue(
                    dollars, {"customer_id": customer}, at=at, id=f"cdnow-revenue-{start + n}"
                )
        _told(progress, start + len(part), len(rows))
    return len(rows)


def _told(progress: Any, done: int, total: int) -> None:
    if progress is not None:
        progress(done, total)


def demo(store: Path, console: Any) -> None:
    """Load the history and print what it says."""
    from rich.progress import BarColumn, Progress, TextColumn
    from rich.table import Table

    with Business(store, clock=ManualClock(END), worker=False) as biz:
        columns = (
            TextColumn("Loading the CDNOW purchase history"),
            BarColumn(),
            TextColumn("{task.completed:,} of {task.total:,}"),
        )
        with Progress(*columns, console=console) as bars:
            task = bars.add_task("load", total=69_659)
            load_cdnow(biz, lambda done, total: bars.update(task, completed=done, total=total))
        biz.compact()

        months = biz.measure.revenue.sum().by("month").run()
        peak = max(months.values())
        table = Table(title="Revenue by month", title_justify="left", box=None, padding=(0, 2))
        table.add_column("month")
        table.add_column("revenue", justify="right")
        table.add_column("purchases", justify="right")
        table.add_column("")
        counts = biz.track.Purchase.count().by("month").run()
        for month, revenue in months.items():
            if revenue:
                table.add_row(
                    f"{month:%Y-%m}", f"${revenue:,.0f}", f"{counts.get(month, 0):,}", bar(revenue / peak)
                )
        console.print(table)

        customers = biz.track.Purchase.unique().run()
        per = biz.track.Purchase.count().by("user").run()
        again = sum(1 for n in per.values() if n > 1)
        total = biz.measure.revenue.sum().run()
        table = Table(
            title="\nThe business", title_justify="left", box=None, padding=(0, 2), show_header=False
        )
        table.add_column("")
        table.add_column("", justify="right")
        table.add_row("customers", f"{customers:,}")
        table.add_row("purchases", f"{biz.track.Purchase.count().run():,}")
        table.add_row("revenue", f"${total:,.0f}")
        table.add_row("average purchase", f"${biz.track.Purchase.avg('amount').run():,.2f}")
        table.add_row("median purchase", f"${biz.track.Purchase.median('amount').run():,.2f}")
        table.add_row("bought again", f"{again / customers:.1%}")
        console.print(table)

        days = biz.measure.revenue.sum().by("day").run()
        table = Table(title="\nBest days", title_justify="left", box=None, padding=(0, 2))
        table.add_column("day")
        table.add_column("revenue", justify="right")
        for day, revenue in sorted(days.items(), key=lambda item: -item[1])[:5]:
            table.add_row(f"{day:%a %d %b %Y}", f"${revenue:,.0f}")
        console.print(table)
        weeks = list(biz.measure.revenue.sum().by("week").run().values())
        console.print(f"\n  by week  {sparkline(weeks)}\n", highlight=False)
        _cohorts(biz, console)
    console.print("\nThe store is yours. To ask on:\n", highlight=False)
    console.print("  python3", style="bold", highlight=False)
    console.print(
        f"  >>> from bizcode import Business; biz = Business({str(store)!r})",
        style="bold",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        '  >>> biz.track.Purchase.sum("amount").between("1997-01-01", "1998-07-01").by("quarter")',
        style="bold",
        highlight=False,
        soft_wrap=True,
    )


def _cohorts(biz: Business, console: Any) -> None:
    from rich.table import Table

    found = (
        biz.track.cohort(anchor="Purchase", activity="Purchase", periods=7, granularity="month")
        .sum("amount")
        .run()
    )
    table = Table(
        title="Customers by the month of their first purchase: who buys again",
        title_justify="left",
        box=None,
        padding=(0, 1),
    )
    table.add_column("cohort")
    table.add_column("size", justify="right")
    for k in range(7):
        table.add_column(f"+{k}", justify="right")
    table.add_column("value per customer", justify="right")
    for cohort in found:
        shares = ["" if share is None else f"{share:.0%}" for share in cohort.retention]
        worth = sum(v for v in cohort.values or [] if v is not None) / cohort.size
        table.add_row(f"{cohort.start:%Y-%m}", f"{cohort.size:,}", *shares, f"${worth:,.2f}")
    console.print(table)
