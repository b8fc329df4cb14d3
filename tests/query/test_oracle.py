"""Every shape of query against a few naive lines of Python, over random records sealed and unsealed."""

from __future__ import annotations

import math
import random
import statistics
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from bizcode import Business, InvalidQuery, ManualClock, this
from bizcode.plan.condition import same

NOW = datetime(2024, 4, 2, 12, tzinfo=UTC)
PLANS = ["pro", "free", "ünïcode", "", "PRO"]
MIXED = [1, 1.0, 2, 2.5, -3, "1", "pro", True, False, None, [1, "a"], 10**15, 0.1]


def random_data(rng: random.Random) -> dict:
    data: dict = {}
    if rng.random() < 0.8:
        data["user_id"] = f"u{rng.randrange(12)}"
    if rng.random() < 0.8:
        data["plan"] = rng.choice(PLANS)
    if rng.random() < 0.7:
        data["amount"] = rng.choice([rng.randrange(-5, 50), round(rng.uniform(0, 20), 2)])
    if rng.random() < 0.6:
        data["mixed"] = rng.choice(MIXED)
    if rng.random() < 0.4:
        data["address"] = {"city": rng.choice(["Berlin", "Rome", None, 7])}
    if rng.random() < 0.2:
        data["address.city"] = rng.choice(["Oslo", 3])
    if rng.random() < 0.2:
        data["Plan"] = rng.choice(["upper", 1])
    if rng.random() < 0.1:
        data["position"] = rng.randrange(5)
    return data


class Oracle:
    """The same records as plain dicts."""

    def __init__(self, seed: int, timezone: str, path) -> None:
        self.rng = random.Random(seed)
        self.tz = ZoneInfo(timezone)
        self.biz = Business(path, clock=ManualClock(NOW), timezone=timezone, worker=False)
        self.rows: list[dict] = []
        self.merges: list[tuple[str, str]] = []
        for _ in range(self.rng.randrange(60, 140)):
            self.step()

    def step(self) -> None:
        rng = self.rng
        roll = rng.random()
        if roll < 0.85 or not self.rows:
            data = random_data(rng)
            at = NOW - timedelta(seconds=rng.randrange(-3600, 40 * 86400))
            if rng.random() < 0.2 and self.rows:
                at = rng.choice(self.rows)["at"]
            name = rng.choice(["A", "A", "B b"])
            event = self.biz.track[name](data, at=at)
            self.rows.append(
                {
                    "name": name,
                    "at": at,
                    "data": data,
                    "id": event.id,
                    "user": event.user,
                    "position": event.position,
                }
            )
        elif roll < 0.92:
            gone = self.rows.pop(rng.randrange(len(self.rows)))
            self.biz.retract(gone["id"])
        elif roll < 0.95:
            self.biz.store.segments.seal()
        elif roll < 0.97:
            self.biz.store.segments.merge(all=True)
        else:
            alias, user = rng.sample([f"u{n}" for n in range(12)], 2)
            if not any(alias in pair or user in pair for pair in self.merges):
                self.biz.identify(alias, user)
                self.merges.append((alias, user))

    def user(self, row: dict) -> str | None:
        return dict(self.merges).get(row["user"], row["user"])


@pytest.fixture(
    params=[(1, "UTC"), (2, "Europe/Berlin"), (3, "America/New_York"), (4, "Australia/Lord_Howe"), (5, "UTC")]
)
def oracle(request, tmp_path):
    made = Oracle(*request.param, tmp_path / "store")
    yield made
    made.biz.close()


def value_at(data: dict, name: str):
    """A property, nested by dots, else the one whose name has the dots; ... if missing."""
    found = data
    for part in name.split("."):
        if not isinstance(found, dict) or part not in found:
            return data.get(name, ...) if "." in name else ...
        found = found[part]
    return found


def number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def numbers(rows: list[dict], name: str) -> list[float]:
    return [v for v in (value_at(row["data"], name) for row in rows) if number(v)]


def percentile(values: list[float], p: float) -> float | None:
    if not values:
        return None
    values = sorted(values)
    at = (len(values) - 1) * p / 100
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (at - low)


def close(a, b) -> bool:
    if a is None or b is None:
        return a is b
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-9)


def test_numbers_over_all_events(oracle):
    for name in ("A", "B b"):
        rows = [row for row in oracle.rows if row["name"] == name]
        door = oracle.biz.track[name]
        assert door.count().run() == len(rows)
        for prop in ("amount", "mixed", "missing", "address.city"):
            values = numbers(rows, prop)
            assert close(door.sum(prop).run(), math.fsum(values))
            assert close(door.avg(prop).run(), statistics.fmean(values) if values else None)
            assert close(door.median(prop).run(), percentile(values, 50))
            assert close(door.percentile(90, prop).run(), percentile(values, 90))
            assert close(door.stddev(prop).run(), statistics.stdev(values) if len(values) > 1 else None)
            if values:
                assert close(door.min(prop).run(), min(values))
                assert close(door.max(prop).run(), max(values))


def test_distinct_users_and_values(oracle):
    rows = [row for row in oracle.rows if row["name"] == "A"]
    users = {oracle.user(row) for row in rows} - {None}
    assert oracle.biz.track.A.unique().run() == len(users)
    plans = {row["data"].get("plan") for row in rows} - {None}
    assert oracle.biz.track.A.unique("plan").run() == len(plans)


def test_groups_by_a_property(oracle):
    rows = [row for row in oracle.rows if row["name"] == "A"]
    for prop in ("plan", "Plan", "missing"):
        expected: dict = {}
        for row in rows:
            key = row["data"].get(prop)
            expected[key] = expected.get(key, 0) + 1
        found = oracle.biz.track.A.count().by(prop).run()
        assert found == expected
        assert list(found.values()) == sorted(found.values(), reverse=True)


def test_groups_by_a_property_of_mixed_types_keep_the_types_apart(oracle):
    rows = [row for row in oracle.rows if row["name"] == "A"]
    expected: dict = {}
    for row in rows:
        value = row["data"].get("mixed")
        key = (type(value) if not number(value) else float, str(value) if not number(value) else float(value))
        expected[key] = expected.get(key, 0) + 1
    found = oracle.biz.track.A.count().by("mixed").run()
    assert sorted(found.values()) == sorted(expected.values())


def test_groups_by_user_and_event(oracle):
    expected: dict = {}
    for row in oracle.rows:
        key = (row["name"], oracle.user(row))
        expected[key] = expected.get(key, 0) + 1
    assert oracle.biz.track.any.count().by("event", "user").run() == expected


@pytest.mark.parametrize("unit", ["hour", "day", "week", "month", "quarter", "year"])
def test_groups_by_time(oracle, unit):
    tz = oracle.tz

    def start(at: datetime) -> datetime:
        local = at.astimezone(tz)
        if unit == "hour":
            # The wall clock's hour, with the offset of the instant itself.
            floored = at - timedelta(
                minutes=local.minute, seconds=local.second, microseconds=local.microsecond
            )
            return floored.astimezone(UTC)
        day = local.date()
        if unit == "week":
            day -= timedelta(days=day.weekday())
        elif unit == "month":
            day = day.replace(day=1)
        elif unit == "quarter":
            day = day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
        elif unit == "year":
            day = day.replace(month=1, day=1)
        return datetime(day.year, day.month, day.day, tzinfo=tz).astimezone(UTC)

    rows = [row for row in oracle.rows if row["name"] == "A"]
    expected: dict = {}
    for row in rows:
        expected[start(row["at"])] = expected.get(start(row["at"]), 0) + 1
    found = oracle.biz.track.A.count().by(unit).run()
    assert {key.astimezone(UTC): n for key, n in found.items() if n} == expected
    keys = list(found)
    assert keys == sorted(keys)
    assert sum(found.values()) == len(rows)
    assert max(keys) >= start(NOW) or unit == "hour"


def test_ranges(oracle):
    rng = oracle.rng
    for _ in range(10):
        low = NOW - timedelta(seconds=rng.randrange(0, 40 * 86400))
        high = low + timedelta(seconds=rng.randrange(1, 20 * 86400))
        expected = sum(1 for row in oracle.rows if low <= row["at"] < high)
        assert oracle.biz.track.any.count().between(low, high).run() == expected
    some = rng.choice(oracle.rows)["at"]
    assert oracle.biz.track.any.count().since(some).run() == sum(
        1 for row in oracle.rows if row["at"] >= some
    )
    assert oracle.biz.track.any.count().until(some).run() == sum(1 for row in oracle.rows if row["at"] < some)


def test_events_newest_first_with_their_data(oracle):
    expected = sorted(oracle.rows, key=lambda row: (row["at"], row["position"]), reverse=True)
    found = oracle.biz.track.any.events().run()
    assert [event.id for event in found] == [row["id"] for row in expected]
    assert [event.data for event in found] == [row["data"] for row in expected]
    assert [event.timestamp for event in found] == [row["at"] for row in expected]
    page = oracle.biz.track.any.events().oldest_first().offset(3).limit(5).run()
    assert [event.id for event in page] == [row["id"] for row in expected[::-1][3:8]]
    assert len(oracle.biz.track.any.events()) == len(expected)


OPERANDS = [1, 2.5, "pro", "free", "", True, None, "Berlin", 7, 0.1, -3, [1, "a"]]


def naive(data: dict, name: str, operator: str, operand) -> bool:
    found = value_at(data, name)
    if operator == "exists":
        return (found is not ... and found is not None) == operand
    if operator in ("ne", "not_in"):
        return not naive(data, name, {"ne": "eq", "not_in": "in"}[operator], operand)
    if found is ...:
        return False
    comparable = (number(found) and number(operand)) or (isinstance(found, str) and isinstance(operand, str))
    if operator == "eq":
        return same(found, operand)
    if operator == "in":
        return any(same(found, item) for item in operand)
    if operator == "between":
        return (
            all(
                (number(found) and number(end)) or (isinstance(found, str) and isinstance(end, str))
                for end in operand
            )
            and operand[0] <= found <= operand[1]
        )
    if operator == "contains":
        if isinstance(found, list):
            return any(same(item, operand) for item in found)
        return isinstance(found, str) and isinstance(operand, str) and operand in found
    if operator in ("startswith", "endswith"):
        return isinstance(found, str) and isinstance(operand, str) and getattr(found, operator)(operand)
    return (
        comparable
        and {
            "gt": found > operand,
            "gte": found >= operand,
            "lt": found < operand,
            "lte": found <= operand,
        }[operator]
        if comparable
        else False
    )


def random_condition(rng: random.Random):
    name = rng.choice(["plan", "amount", "mixed", "address.city", "missing", "Plan", "position"])
    operator = rng.choice(
        [
            "eq",
            "ne",
            "gt",
            "gte",
            "lt",
            "lte",
            "in",
            "not_in",
            "between",
            "contains",
            "startswith",
            "endswith",
            "exists",
        ]
    )
    if operator == "exists":
        operand = rng.random() < 0.5
    elif operator in ("in", "not_in"):
        operand = rng.sample(OPERANDS, rng.randrange(0, 11))
    elif operator == "between":
        operand = sorted(rng.sample([1, 2.5, 7, 0.1, -3], 2)) if rng.random() < 0.7 else ["a", "q"]
    else:
        operand = rng.choice(OPERANDS)
    return name, operator, operand


def test_conditions(oracle):
    rng = random.Random(7)
    rows = [row for row in oracle.rows if row["name"] == "A"]
    for _ in range(150):
        name, operator, operand = random_condition(rng)
        if name == "position":
            continue
        expected = [row["id"] for row in rows if naive(row["data"], name, operator, operand)]
        query = oracle.biz.track.A.where({name: {operator: operand}})
        assert query.count().run() == len(expected), (name, operator, operand)
        condition = query.select.where
        events = oracle.biz.track.A.events().run()
        assert {e.id for e in events if condition.matches(e)} == set(expected), (name, operator, operand)


def test_combined_conditions(oracle):
    rows = [row["data"] for row in oracle.rows if row["name"] == "A"]
    condition = (this.amount >= 5) & ~((this.plan == "pro") | this.address.city.exists())
    expected = sum(
        1
        for data in rows
        if naive(data, "amount", "gte", 5)
        and not (naive(data, "plan", "eq", "pro") or naive(data, "address.city", "exists", True))
    )
    assert oracle.biz.track.A.where(condition).count().run() == expected


def test_a_function_as_condition_sees_the_whole_record(oracle):
    rows = [row["data"] for row in oracle.rows if row["name"] == "A"]
    expected = sum(
        1 for data in rows if data.get("plan") == "pro" and number(data.get("amount")) and data["amount"] > 3
    )
    query = oracle.biz.track.A.where(lambda e: (e.amount or 0) > 3, plan="pro")
    assert query.count().run() == expected
    assert sum(query.count().by("plan").run().values()) == expected
    assert len(query.events().run()) == expected


def test_every_shape_answers_the_same_after_everything_is_sealed_and_merged(oracle):
    biz = oracle.biz

    def answers():
        return [
            biz.track.A.count().by("plan").run(),
            biz.track.A.sum("amount").by("day", "plan").run(),
            biz.track.any.unique().by("event").run(),
            biz.track.A.avg("mixed").by("week").run(),
            biz.track.A.count().by("address.city").run(),
            biz.track.A.events().run(),
            biz.track.names().run(),
        ]

    before = answers()
    biz.compact()
    after = answers()
    for one, other in zip(before, after, strict=True):
        if isinstance(one, dict):
            assert list(one) == list(other)
            assert all(close(one[key], other[key]) for key in one)
        else:
            assert one == other
    assert biz.doctor().ok


def test_an_object_is_refused_as_a_group_before_and_after_it_is_sealed(biz):
    biz.track.A(addr={"city": "B"})
    biz.track.A(addr="text")
    for _ in range(2):
        with pytest.raises(InvalidQuery, match=r"addr\.name"):
            biz.track.A.count().by("addr").run()
        with pytest.raises(InvalidQuery, match=r"addr\.name"):
            biz.track.A.unique("addr").run()
        assert biz.track.A.count().by("addr.city").run() == {"B": 1, None: 1}
        assert biz.track.A.where(addr__exists=True).count().run() == 2
        assert biz.track.A.where(addr__contains="e").count().run() == 1
        biz.store.segments.seal()
