"""A startup as one class: goals, an experiment, a view, reactions and a daily standup.

    bizcode run examples/my_startup.py --store my-startup

Then record what customers do, from any other process:

    biz = Business("my-startup")
    biz.Customer("c1").append("signup", userId="c1", plan="pro")
    biz.Customer("c1").append("purchase", userId="c1", amount=99)
"""

from __future__ import annotations

from bizcode import BizError, Startup
from bizcode.agents import Agent

mark = Agent("mark", role="head of marketing")


class MyStartup(Startup):
    def launch(self, biz):
        # Define success metrics
        biz.goal.define("pmf", target=biz.measure.nps.reach(50))
        biz.goal.define("revenue", target=biz.measure.mrr.reach(100_000), by="2099-Q2")

        # Set up experiments
        biz.experiment.define(
            "pricing",
            variants=["monthly", "annual", "usage"],
            weights=[0.34, 0.33, 0.33],
            goal=biz.track.ratio("Purchase", "Signup"),
            autostart=True,
        )

        # Define views
        biz.view.define(
            "top_customers",
            source=biz.track.Purchase,
            group_by="userId",
            compute={"ltv": biz.sum("amount")},
            order_by={"ltv": "desc"},
            limit=100,
        )

        @biz.Customer.action
        def show_pricing(customer, biz, variant):
            return customer.append("pricing_shown", variant=variant)

        # React to events
        @biz.on.Customer.signup
        async def signed_up(event):
            biz.track.Signup(event)
            biz.measure.signups(1)

            variant = await biz.experiment("pricing").assign(event.userId)
            biz.Customer(event.userId).show_pricing(variant)

        @biz.on.Customer.purchase
        async def purchased(event):
            biz.track.Purchase(event)
            biz.measure.revenue(event.amount)

            biz.Customer(event.userId).append("purchased", event)

        # Daily founder standup
        @biz.every.day.at("9am")
        async def standup():
            goals = await biz.goal.all().progress()
            experiments = await biz.experiment.list(status="running")
            try:
                report = await mark("Summarize our progress", goals, experiments)
            except BizError:  # no model is set: the report that needs none
                report = await biz.standup()
            biz.track.Standup(report=report)
