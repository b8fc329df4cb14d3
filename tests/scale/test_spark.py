"""One suite of questions, answered by the embedded engine and by Spark: equal over random data.

A standalone master and two workers run on the loopback. Doubles are compared to nine digits, because their sums depend
on the order in which workers add.
"""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import bizcode
from bizcode import Business, InvalidQuery, InvalidValue, ManualClock, StorageError, this

sys.path.insert(0, str(Path(__file__).parent))
import spark_cluster

START = 1_704_000_000
DAYS = 60
NAMES = ("View", "View", "Signup", "Cart", "Buy")


def event(rng: random.Random) -> dict[str, Any]:
    data: dict[str, Any] = {"plan": rng.choice(["pro", "free", "x'y\\z"]), "n": rng.randrange(100)}
    if rng.random() < 0.9:
        data["amount"] = rng.choice([rng.random() * 10, rng.randrange(10)])
    if rng.random() < 0.7:
        data["x"] = rng.choice([1, "a", 2.5, None, True, 1.0, "1"])
    if rng.random() < 0.5:
        data["address"] = {"city": rng.choice("ab"), "zip code": rng.randrange(3)}
    if rng.random() < 0.3:
        data["tags"] = rng.sample(["a", "b", 1, 2.5, True, 'q"'], 2)
    if rng.random() < 0.2:
        data["deep"] = {"a": {"b": {"c": {"d": {"e": rng.randrange(3)}}}}}
    at = START + rng.randrange(DAYS * 86_400_000_000) / 1e6
    return {"event": rng.choice(NAMES), "user": f"u{rng.randrange(60)}", "data": data, "at": at}


@pytest.fixture(scope="module")
def both(cluster, tmp_path_factory):
    """The same store opened twice: the embedded engine, and Spark. Some of it is sealed, some is not."""
    directory = tmp_path_factory.mktemp("spark [1] {a}") / "acme*"
    rng = random.Random(20240301)
    clock = ManualClock("2024-03-01T10:30:00")
    with Business(directory, clock=clock, worker=False, timezone="Europe/Berlin") as mine:
        for name, goal in GOALS.items():
            mine.experiment.define(name, ["control", "value"], goal=goal(mine), autostart=True)
        for part in (900, 500, 150):
            events = mine.track.batch([event(rng) for _ in range(part)])
            mine.retract(events[3].id)
            for _ in range(part // 5):
                at = START + rng.randrange(DAYS * 86_400)
                mine.measure.rev(
                    rng.choice([rng.randrange(10), rng.random()]), {"host": rng.choice("ab")}, at=at
                )
                user = f"u{rng.randrange(60)}"
                for name in GOALS:
                    mine.experiment(name).assign(user, {"tier": rng.choice([1, "x"])}).run()
                clock.advance("1h")
                mine.track.Buy({"sku": rng.choice([1, "1", None]), "amount": rng.random() * 9}, user=user)
            for _ in range(3):
                pair = [f"u{rng.randrange(60)}" for _ in range(2)]
                mine.identify(*pair)
            if part > 200:
                mine.store.segments.seal()
        with Business(directory, clock=clock, worker=False, engine=cluster) as theirs:
            yield mine, theirs


GOALS = {
    "users": lambda biz: biz.track.Buy.unique(),
    "count": lambda biz: biz.track.Buy.count(),
    "distinct": lambda biz: biz.track.Buy.unique("sku"),
    "sum": lambda biz: biz.track.Buy.sum("amount"),
    "avg": lambda biz: biz.track.Buy.avg("amount"),
    "percentile": lambda biz: biz.track.Buy.percentile(90, "amount"),
    "measured": lambda biz: biz.measure.rev.sum(),
}


def view(biz):
    return biz.track.View


def steps(biz, *more: Any):
    return biz.track.funnel([biz.step("View").where(n__lt=70), *more, "Cart", "Buy"])


def optional(biz, *more: Any):
    return biz.track.funnel(["View", biz.step("Cart").optional(), *more, "Buy"])


CONDITIONS: list[dict[str, Any]] = [
    {"plan": "pro"}, {"plan": "x'y\\z"}, {"amount__gte": 3}, {"n__gt": 2.5}, {"x": None}, {"x": 1}, {"x": True},
    {"x__exists": False}, {"plan__contains": "r"}, {"plan__startswith": "f"}, {"plan__endswith": "z"},
    {"n__in": list(range(20))}, {"plan__in": ["pro"] * 9}, {"n__between": (3, 9)}, {"address.city": "a"},
    {"address.zip code": 2}, {"user": "u2"}, {"tags__contains": "a"}, {"tags__contains": 1}, {"tags__contains": 'q"'},
    {"tags__contains": True}, {"x__in": [1, "a"]}, {"deep.a.b.c.d.e": 1}, {"position__gt": 100},
]  # fmt: skip

FORMS: dict[str, Any] = {
    "count": lambda b: view(b).count(),
    "count of all": lambda b: b.track.any.count().by("event"),
    "nobody": lambda b: b.track.Never.count(),
    "rate": lambda b: b.measure.rev.rate("1h"),
    "first": lambda b: b.measure.rev.first().by("host"),
    "last": lambda b: b.measure.rev.last(),
    "current": lambda b: b.measure.rev.current(host="a"),
    "trend": lambda b: b.measure.rev.trend(),
    "anomalies": lambda b: b.measure.rev.anomalies(),
    "ratio": lambda b: b.track.ratio("Buy", "View").unique().by("plan"),
    "vs": lambda b: view(b).count().by("plan").since("10d").vs("prev"),
    "limit": lambda b: view(b).sum("n").by("plan", "address.city").limit(3).offset(1),
    "by experiment": lambda b: b.track.Buy.count().by("experiment:users"),
    "by tags": lambda b: view(b).count().by("tags"),
    "by two": lambda b: view(b).avg("amount").by("week", "x"),
    "by user": lambda b: view(b).count().by("user"),
    "this": lambda b: view(b).count().where((this.amount > 3) & ~(this.plan == "pro")),
    "between": lambda b: view(b).count().between("2024-01-03", "2024-02-01T12:00").by("day"),
    "len": lambda b: view(b).events().where(plan="pro"),
    "funnel": steps,
    "funnel within": lambda b: steps(b).within("5d"),
    "funnel by": lambda b: steps(b, "Signup").by("plan"),
    "funnel by week": lambda b: steps(b).by("week"),
    "funnel last": lambda b: steps(b).since("30d").by("plan", attribution="last"),
    "funnel second": lambda b: steps(b).by("x", attribution=2).within("3d"),
    "funnel excluding": lambda b: steps(b).exclude("Signup").within("9d"),
    "funnel excluding later": lambda b: steps(b, "View").exclude("Signup", after=2, before=4),
    "funnel holding": lambda b: steps(b).hold("plan").within("20d"),
    "funnel optional": lambda b: optional(b).within("2d").by("plan"),
    "funnel two optional": lambda b: optional(b, b.step("Signup").optional()),
    "funnel strict": lambda b: steps(b).strict().by("plan"),
    "funnel unordered": lambda b: steps(b).unordered().within("3d"),
    "funnel users": lambda b: steps(b).users(2),
    "funnel dropped": lambda b: steps(b).within("3d").dropped(3).limit(5),
    "cohort": lambda b: b.track.cohort("Signup", "Buy").sum("n"),
    "cohort by": lambda b: b.track.cohort("Signup", "Buy", granularity="month").by("plan"),
    "cohort rolling": lambda b: b.track.cohort("Signup", "Buy", granularity="month").rolling(),
    "cohort later": lambda b: b.track.cohort("Signup", "Buy", granularity="day", periods=9).on_or_after(),
    "result by": lambda b: b.experiment("count").results(by="tier"),
    "result by event": lambda b: b.experiment("sum").results(by="plan"),
    "result cuped": lambda b: b.experiment("sum").results(cuped="7d"),
    "result winsorized": lambda b: b.experiment("sum").results(winsorize=0.9),
    "result daily": lambda b: b.experiment("sum").results().daily(),
}
for operation in ("sum", "avg", "min", "max", "median", "stddev", "unique"):
    FORMS[operation] = lambda b, name=operation: getattr(view(b), name)("amount")
    FORMS[f"{operation} by"] = lambda b, name=operation: getattr(view(b), name)("x").by("plan")
    FORMS[f"{operation} mixed"] = lambda b, name=operation: getattr(view(b), name)("n").by("x")
    if operation != "unique":
        FORMS[f"{operation} of samples"] = lambda b, name=operation: getattr(b.measure.rev, name)().by("host")
for unit in ("minute", "hour", "day", "week", "month", "quarter", "year"):
    FORMS[f"by {unit}"] = lambda b, name=unit: (
        view(b).count().since("3d" if name == "minute" else "40d").by(name)
    )
for number, given in enumerate(CONDITIONS):
    FORMS[f"where {number} {given}"[:60]] = lambda b, given=given: view(b).count().where(**given)
for goal in GOALS:
    FORMS[f"result {goal}"] = lambda b, name=goal: b.experiment(name).results()


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, (float, int)):
        return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-9)
    if hasattr(one, "__dataclass_fields__"):
        names = one.__dataclass_fields__
        return type(one) is type(other) and all(same(getattr(one, n), getattr(other, n)) for n in names)
    if isinstance(one, dict):
        return [*map(repr, one)] == [*map(repr, other)] and all(map(same, one.values(), other.values()))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


@pytest.fixture
def asked(monkeypatch):
    """The statements that Spark was asked."""
    from bizcode.engine.spark.engine import SparkSession

    found = []
    put = SparkSession._frame
    monkeypatch.setattr(
        SparkSession, "_frame", lambda self, sql, *more: found.append(sql) or put(self, sql, *more)
    )
    return found


@pytest.mark.parametrize("form", FORMS)
def test_spark_answers_as_the_embedded_engine_does(both, asked, form):
    make = FORMS[form]
    mine, theirs = (len(make(biz)) if form == "len" else make(biz).run() for biz in both)
    assert same(mine, theirs), f"{mine}\n{theirs}"
    assert asked


def test_an_open_transaction_sees_its_own_records(both):
    _, theirs = both
    before = view(theirs).count().where(plan="mine").run()

    def attempt():
        theirs.track.View({"plan": "mine"}, user="u1")
        assert view(theirs).count().where(plan="mine").run() == before + 1
        assert view(theirs).count().where(plan="mine").by("user").run()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        theirs.do.run(attempt)
    assert view(theirs).count().where(plan="mine").run() == before


def test_a_write_and_an_erasure_are_seen_at_once(both):
    mine, theirs = both
    question = theirs.track.Late.sum("n").by("user")
    assert question.run() == {}
    mine.track.Late({"n": 2**62}, user="gone")
    mine.track.Late({"n": 3}, user="here")
    assert question.run() == {"gone": 2**62, "here": 3}
    mine.store.segments.seal()
    assert question.run() == {"gone": 2**62, "here": 3}
    mine.forget("gone")
    assert question.run() == {"here": 3}


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (lambda b: view(b).count().where(lambda e: e.n > 5), "Python function"),
        (lambda b: optional(b).exclude("Signup"), "optional steps and exclusions"),
        (lambda b: optional(b, b.step("Signup").optional()).within("2d"), "two optional steps"),
        (lambda b: b.track.Big.sum("n"), "passes 64 bits"),
    ],
)
def test_what_spark_cannot_answer_is_refused_in_a_sentence(both, question, said):
    mine, theirs = both
    if said == "passes 64 bits":
        mine.track.batch([{"event": "Big", "data": {"n": 2**62}} for _ in range(3)])
    question(mine).run()
    with pytest.raises(InvalidQuery, match=said):
        question(theirs).run()


VIEWS: dict[str, dict[str, Any]] = {
    "by plan": {"group_by": "plan"},
    "by two": {"group_by": ["x", "address.city"]},
    "by user": {"group_by": "user", "where": {"n__lt": 70}},
    "of all": {"group_by": []},
    "anew": {"group_by": "plan", "incremental": False},
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_made_of_all_history_by_spark_and_kept_up_to_date_inside(both, asked, name):
    mine, theirs = both
    for biz, place in ((mine, "mine"), (theirs, "theirs")):
        biz.view.define(
            f"{place} {name}", source=biz.track.View,
            compute={
                "n": biz.count(), "total": biz.sum("amount"), "whole": biz.sum("n"), "mean": biz.avg("x"),
                "low": biz.min("x"), "high": biz.max("n"), "first": biz.first("amount"), "last": biz.last("timestamp"),
                "kinds": biz.distinct("x"), "all": biz.collect("n"), "middle": biz.percentile(50, "amount"),
                "spread": biz.stddev("n"), "latest": biz.max("timestamp"),
            }, **VIEWS[name],
        )  # fmt: skip

    def rows(biz, place):
        return [dict(row) for row in biz.view[f"{place} {name}"].get().run()]

    assert same(rows(mine, "mine"), rows(theirs, "theirs"))
    assert asked
    theirs.view[f"theirs {name}"].refresh()
    mine.track.View({"plan": "pro", "n": 5, "amount": 1.5, "x": "b"}, user="u1")
    assert same(rows(mine, "mine"), rows(theirs, "theirs"))


def test_a_view_with_a_python_condition_is_made_inside(both, asked):
    mine, theirs = both
    for biz, name in ((mine, "picked"), (theirs, "picked too")):
        source = biz.track.View.where(lambda e: e.n > 50)
        biz.view.define(name, source=source, group_by="plan", compute={"n": biz.count()})
    assert [dict(row) for row in theirs.view["picked too"].get().run()] == [
        dict(row) for row in mine.view.picked.get().run()
    ]
    assert not asked


def test_records_themselves_are_read_by_the_embedded_engine(both, asked):
    _, theirs = both
    assert theirs.track.View.events().where(lambda e: e.n > 90).limit(3).run()
    assert theirs.sql("SELECT count(*) AS n FROM events").run()
    assert not asked


def test_workers_read_a_bucket_by_themselves(cluster, bucket, tmp_path, monkeypatch):
    rng = random.Random(5)
    clock = ManualClock("2024-03-01T10:30:00")
    with Business(tmp_path / "acme", clock=clock, worker=False, segments=bucket) as mine:
        for rows in (300, 300, 40):
            mine.track.batch([event(rng) for _ in range(rows)])
            mine.identify(f"u{rng.randrange(60)}", f"u{rng.randrange(60)}")
            if rows > 100:
                mine.store.segments.seal()
        mine.store.segments.seal()
        mine.track.batch([event(rng) for _ in range(20)])
        # Another machine, which has no copy of a file.
        monkeypatch.setenv("BIZCODE_CACHE", str(tmp_path / "elsewhere"))
        with Business(tmp_path / "acme", clock=clock, worker=False, engine=cluster) as theirs:
            for form in ("count of all", "limit", "funnel", "cohort", "unique", "nobody"):
                assert same(FORMS[form](theirs).run(), FORMS[form](mine).run()), form
            assert not [*(tmp_path / "elsewhere").rglob("*.parquet")]
            for where in CONDITIONS[:12]:
                assert (
                    theirs.track.View.where(**where).count().run()
                    == mine.track.View.where(**where).count().run()
                )


def test_a_second_master_in_one_process_is_refused(both, tmp_path):
    with Business(tmp_path / "b", worker=False, engine="local[1]") as biz:
        biz.track.View(user="u")
        with pytest.raises(StorageError, match="already runs Spark on spark://"):
            biz.track.View.count().run()


def test_an_unreachable_master_is_told_within_seconds(tmp_path):
    port = spark_cluster.free_port()
    with Business(tmp_path / "b", worker=False, engine=f"spark://127.0.0.1:{port}") as biz:
        biz.track.View(user="u")
        with pytest.raises(StorageError, match=f"no Spark answers at spark://127.0.0.1:{port}"):
            biz.track.View.count().run()


@pytest.mark.parametrize("given", ["", "flink", "spark:/x", "sc://", "local[x]", 3])
def test_an_address_that_is_none_is_refused(tmp_path, given):
    with pytest.raises(InvalidValue, match="engine= takes"):
        Business(tmp_path / "b", engine=given)


PROGRAM = """
import sys
from bizcode import Business
with Business(sys.argv[1], worker=False, engine=sys.argv[2]) as biz:
    biz.track.batch([{"event": "View", "user": f"u{n % 7}", "data": {"n": n}} for n in range(100)])
    biz.store.segments.seal()
    biz.track.batch([{"event": "Buy", "user": f"u{n % 5}", "data": {"n": n}} for n in range(50)])
    assert biz.track.View.sum("n").run() == 4950
    assert biz.track.any.unique().by("event").run() == {"View": 7, "Buy": 5}
    assert [step.count for step in biz.track.funnel(["View", "Buy"]).run()] == [7, 5]
    with Business(":memory:", worker=False, engine=sys.argv[2]) as other:
        other.track.View(user="u")
        assert other.track.View.count().run() == 1
    assert biz.track.View.count().run() == 100
print("done")
"""


def run(path: Path, engine: str, env: dict[str, str]) -> None:
    source = str(Path(bizcode.__file__).parents[1])
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path / "acme"), engine],
        env={**os.environ, **env, "PYTHONPATH": source}, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert found.stdout.strip() == "done", found.stderr[-3000:]


def test_this_machine_serves_without_a_cluster(cluster, tmp_path):
    run(tmp_path, "local[2]", spark_cluster.environment(tmp_path))


def test_a_connect_server_serves(cluster, tmp_path):
    env = spark_cluster.environment(tmp_path)
    port = spark_cluster.free_port()
    server = spark_cluster.start(
        "org.apache.spark.deploy.SparkSubmit",
        "--master", "local[2]", "--class", "org.apache.spark.sql.connect.service.SparkConnectServer",
        "--conf", f"spark.connect.grpc.binding.port={port}", "--conf", "spark.connect.grpc.binding.address=127.0.0.1",
        "spark-internal", env=env, log=tmp_path / "connect.log",
    )  # fmt: skip
    try:
        import time

        until = time.monotonic() + 90
        while not spark_cluster._answers(port):
            assert time.monotonic() < until, (tmp_path / "connect.log").read_text()
            time.sleep(0.2)
        run(tmp_path, f"sc://127.0.0.1:{port}", {})
    finally:
        spark_cluster.stop(server)
