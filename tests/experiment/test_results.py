"""Results over random logs against a few naive lines of Python."""

from __future__ import annotations

import math
import random
import statistics
from collections import defaultdict
from datetime import UTC, datetime, timedelta

import numpy
import pytest

from bizcode import Business, ManualClock

TWO = ["control", "value"]
START = datetime(2024, 3, 1, tzinfo=UTC)

GOALS = {
    "ratio": lambda biz: biz.track.ratio("Purchase", "PageView"),
    "users": lambda biz: biz.track.Purchase.where(amount__gte=20).unique(),
    "count": lambda biz: biz.track.Purchase.count(),
    "distinct": lambda biz: biz.track.Purchase.unique("sku"),
    "sum": lambda biz: biz.track.Purchase.sum("amount"),
    "avg": lambda biz: biz.track.Purchase.avg("amount"),
    "percentile": lambda biz: biz.track.Purchase.percentile(90, "amount"),
    "function": lambda biz: biz.track.Purchase.where(lambda e: (e.amount or 0) > 30).count(),
    "measure": lambda biz: biz.measure.revenue.sum(),
    "measured": lambda biz: biz.measure.revenue.avg(),
}


class Naive:
    """The same log as plain lists, the same answers by loops."""

    def __init__(self, seed: int, path) -> None:
        rng = self.rng = random.Random(seed)
        self.clock = ManualClock(START)
        self.biz = Business(path, clock=self.clock, worker=False)
        self.exposures: list[tuple] = []
        self.records: list[tuple] = []
        self.name: dict[str, str] = {}
        for name, goal in GOALS.items():
            self.biz.experiment.define(name, TWO, goal=goal(self.biz), autostart=True)
        for n in range(500):
            self.step()
            if rng.random() < 0.6:
                self.clock.advance(timedelta(minutes=rng.choice([5, 60, 600])))
            if n == 250:
                self.biz.store.segments.seal()

    def step(self) -> None:
        rng, biz = self.rng, self.biz
        user = f"u{rng.randrange(60)}"
        now = self.clock.now()
        roll = rng.random()
        if roll < 0.3:
            tier = rng.choice([1, 2.0, "x", None])
            given = {} if tier is None else {"tier": tier}
            for name in GOALS:
                before = biz.store.log.head()
                variant = biz.experiment(name).assign(user, given).run()
                if biz.store.log.head() > before:
                    self.exposures.append((now, biz.store.log.head(), user, name, variant, given))
        elif roll < 0.32:
            alias, other = f"u{rng.randrange(60)}", f"u{rng.randrange(60)}"
            taken = {*self.name, *self.name.values()}
            if alias not in taken and other not in self.name and alias != other:
                biz.identify(alias, other)
                self.name[alias] = other
        else:
            at = now - rng.choice([0, 0, 0, 3_600_000_000, 86_400_000_000])
            amount = rng.choice([rng.randrange(50), round(rng.uniform(0, 90), 2)])
            data = {"user_id": user, "plan": rng.choice(["pro", "free"])}
            when_ = datetime.fromtimestamp(at / 1e6, UTC)
            if rng.random() < 0.5:
                if rng.random() < 0.9:
                    data["amount"] = amount
                data["sku"] = rng.choice([1, 1.0, "1", True, None, 7])
                event = biz.track[rng.choice(["Purchase", "Purchase", "PageView"])](data, at=when_)
                record = (at, event.position, user, event.type, data)
            else:
                sample = biz.measure.revenue(amount, data, at=when_)
                record = (at, sample.position, user, "revenue", {**data, "value": amount})
            if rng.random() < 0.03:
                biz.retract(event.id if record[3] != "revenue" else sample.id)
            else:
                self.records.append(record)

    def user(self, user: str) -> str:
        return self.name.get(user, user)

    def exposed(self, name: str, end: int | None = None) -> tuple[dict, set]:
        """user -> (time, position, variant), and the users seen in two variants."""
        seen = defaultdict(list)
        for time, position, user, experiment, variant, given in self.exposures:
            if experiment == name and (end is None or time <= end):
                seen[self.user(user)].append((time, position, variant, given))
        two = {user for user, found in seen.items() if len({v for _, _, v, _ in found}) > 1}
        return {user: min(found, key=lambda f: f[:2]) for user, found in seen.items() if user not in two}, two

    def values(self, name: str, records: list[tuple]) -> float | None:
        """A user's metric over her records."""
        purchases = [data for _, _, _, type, data in records if type == "Purchase"]
        samples = [data["value"] for _, _, _, type, data in records if type == "revenue"]
        amounts = [data["amount"] for data in purchases if "amount" in data]
        if name == "ratio":
            return float(bool(purchases))
        if name == "users":
            return float(any(amount >= 20 for amount in amounts))
        if name == "count":
            return len(purchases)
        if name == "function":
            return sum(amount > 30 for amount in amounts)
        if name == "distinct":
            skus = [data["sku"] for data in purchases if data["sku"] is not None]
            return len(
                {(isinstance(sku, (bool, str)), sku) if not isinstance(sku, bool) else "t" for sku in skus}
            )
        numbers = samples if name.startswith("measure") else amounts
        if name in ("sum", "measure"):
            return math.fsum(numbers)
        return statistics.fmean(numbers) if numbers else None

    def split(self, name: str, end: int | None = None):
        """variant -> user -> (records before, records after exposure)."""
        exposed, two = self.exposed(name, end)
        found: dict = {variant: {} for variant in TWO}
        for user, (time, position, variant, _) in exposed.items():
            mine = [r for r in self.records if self.user(r[2]) == user and (end is None or r[0] <= end)]
            after = [r for r in mine if (r[0], r[1]) > (time, position)]
            before = [r for r in mine if (r[0], r[1]) < (time, position)]
            found[variant][user] = before, after
        return found, two


@pytest.fixture(scope="module", params=[1, 2])
def naive(request, tmp_path_factory):
    made = Naive(request.param, tmp_path_factory.mktemp("naive") / "b")
    yield made
    made.biz.close()


def check(found, values):
    values = [value for value in values if value is not None]
    mean = statistics.fmean(values) if values else None
    if found.rate is not None:
        assert found.rate == pytest.approx(mean)
        return
    assert found.mean == (None if mean is None else pytest.approx(mean))
    assert found.stddev == (None if len(values) < 2 else pytest.approx(statistics.stdev(values)))


@pytest.mark.parametrize("name", [name for name in GOALS if name != "percentile"])
def test_every_goal_is_what_the_naive_count_says(naive, name):
    split, two = naive.split(name)
    found = naive.biz.experiment(name).results().run()
    assert found.excluded == len(two)
    for variant, users in split.items():
        result = found.variants[variant]
        assert result.users == len(users)
        check(result, [naive.values(name, after) for _, after in users.values()])


def test_a_percentile_is_of_all_values(naive):
    split, _ = naive.split("percentile")
    found = naive.biz.experiment("percentile").results().run()
    for variant, users in split.items():
        values = [
            data["amount"]
            for _, after in users.values()
            for _, _, _, type, data in after
            if type == "Purchase" and "amount" in data
        ]
        assert found.variants[variant].mean == pytest.approx(numpy.quantile(values, 0.9))
    assert found.variants["value"].lift_ci is not None


@pytest.mark.parametrize("name", ["ratio", "count", "sum", "avg", "distinct", "measure"])
def test_cuped_takes_out_what_was_known_before(naive, name):
    split, _ = naive.split(name)
    y, x, arm = [], [], []
    for variant, users in split.items():
        for before, after in users.values():
            value = naive.values(name, after)
            if value is not None:
                y.append(value)
                x.append(naive.values(name, before))
                arm.append(variant)
    known = [value for value in x if value is not None]
    if name == "avg":
        everyone = [naive.values(name, before) for users in split.values() for before, _ in users.values()]
        known = [value for value in everyone if value is not None]
    x = [statistics.fmean(known) if value is None else value for value in x]
    y, x, arm = numpy.array(y), numpy.array(x), numpy.array(arm)
    inner = sum(((arm == v).sum() - 1) * numpy.cov(y[arm == v], x[arm == v])[0, 1] for v in TWO)
    spread = sum(((arm == v).sum() - 1) * numpy.var(x[arm == v], ddof=1) for v in TWO)
    z = y - inner / spread * (x - x.mean())
    a, b = z[arm == "control"], z[arm == "value"]
    found = naive.biz.experiment(name).results(cuped=True).run()
    assert found.variants["value"].lift == pytest.approx((b.mean() - a.mean()) / a.mean())
    from scipy import stats

    expected = stats.ttest_ind(a, b, equal_var=False).pvalue
    assert found.variants["value"].p_value == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", [name for name in GOALS if name not in ("function",)])
def test_each_day_is_cumulative_and_the_last_is_the_whole(naive, name):
    days = naive.biz.experiment(name).results().daily().run()
    whole = naive.biz.experiment(name).results().run()
    for variant in TWO:
        last, all_ = days[-1].variants[variant], whole.variants[variant]
        assert (last.users, last.conversions) == (all_.users, all_.conversions)
        assert last.value == pytest.approx(all_.value)
        assert last.p_value == pytest.approx(all_.p_value)
    assert [day.day for day in days] == [START + timedelta(days=n) for n in range(len(days))]
    # What a user seen in two variants did is left out from the first day on.
    _, two = naive.exposed(name)
    middle = days[len(days) // 2]
    end = int((middle.day + timedelta(days=1)).timestamp() * 1e6) - 1
    split, _ = naive.split(name, end)
    if name != "percentile":
        for variant, users in split.items():
            mine = {user: pair for user, pair in users.items() if user not in two}
            assert middle.variants[variant].users == len(mine)
            check(middle.variants[variant], [naive.values(name, after) for _, after in mine.values()])


def test_by_takes_the_property_given_at_the_assignment(naive):
    exposed, _ = naive.exposed("count")
    seen = defaultdict(list)
    for time, position, user, name, _, given in naive.exposures:
        if name == "count" and "tier" in given:
            seen[naive.user(user)].append((time, position, given["tier"]))
    expected = defaultdict(int)
    for user in exposed:
        expected[min(seen[user])[2] if seen[user] else None] += 1
    found = naive.biz.experiment("count").results(by="tier").run()
    sizes = {key: sum(v.users for v in result.variants.values()) for key, result in found.items()}
    assert sizes == dict(expected)
    assert list(sizes.values()) == sorted(sizes.values(), reverse=True)


def test_by_falls_back_to_the_newest_event_before_exposure(naive):
    exposed, _ = naive.exposed("sum")
    expected = defaultdict(int)
    for user, (time, position, _, _) in exposed.items():
        before = [
            r
            for r in naive.records
            if naive.user(r[2]) == user and r[3] != "revenue" and (r[0], r[1]) < (time, position)
        ]
        expected[max(before)[4]["plan"] if before else None] += 1
    found = naive.biz.experiment("sum").results().by("plan").run()
    assert {key: sum(v.users for v in r.variants.values()) for key, r in found.items()} == dict(expected)


def test_winsorizing_caps_the_users_values(naive):
    split, _ = naive.split("sum")
    values = {v: [naive.values("sum", after) for _, after in users.values()] for v, users in split.items()}
    cap = numpy.quantile([value for found in values.values() for value in found], 0.9)
    found = naive.biz.experiment("sum").results(winsorize=0.9).run()
    for variant, mine in values.items():
        check(found.variants[variant], [min(value, cap) for value in mine])


def test_the_answer_is_the_same_sealed_and_awaited(naive):
    import asyncio

    query = naive.biz.experiment("ratio").results()
    before = query.run()
    naive.biz.store.segments.seal()

    async def ask():
        return await query

    assert asyncio.run(ask()) == before
