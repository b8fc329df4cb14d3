"""What holds everywhere: writes, identity, retraction, quotas, tenants, forgetting, time."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from bizcode import (
    Business,
    Conflict,
    InvalidName,
    InvalidQuery,
    InvalidTime,
    InvalidValue,
    ManualClock,
    NotFound,
    QuotaExceeded,
    StorageError,
    prop,
)


def test_a_write_returns_the_stored_record_which_is_awaitable(biz):
    event = biz.track.Signup(user_id="u1", plan="pro")
    assert (event.position, event.type, event.user, event.plan, event["plan"]) == (
        1,
        "Signup",
        "u1",
        "pro",
        "pro",
    )
    assert event.missing is None
    with pytest.raises(KeyError):
        event["missing"]

    async def again():
        return await biz.track.Signup(user_id="u2")

    assert asyncio.run(again()).user == "u2"
    assert asyncio.run(_awaited(biz.track.Signup.count())) == 2


async def _awaited(query):
    return await query


def test_keywords_are_properties_and_beside_a_mapping_options(biz):
    assert biz.track.A(id="7", at="noon").data == {"id": "7", "at": "noon"}
    event = biz.track.A({"x": 1}, id="e1", at="2024-01-01", user="u9")
    assert (event.id, event.timestamp, event.user) == ("e1", datetime(2024, 1, 1, tzinfo=UTC), "u9")
    with pytest.raises(InvalidValue, match="unknown option 'plan'"):
        biz.track.A({"x": 1}, plan="pro")


def test_the_same_id_stores_nothing_again_sealed_or_not(biz):
    first = biz.track.A({"n": 1}, id="once")
    assert biz.track.A({"n": 2}, id="once") == first
    biz.compact()
    assert biz.track.A({"n": 3}, id="once").data == {"n": 1}
    assert (
        biz.track.batch(
            [{"event": "A", "id": "once"}, {"event": "A", "id": "two"}, {"event": "A", "id": "two"}]
        )[0]
        == first
    )
    assert biz.track.A.count().run() == 2


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int


def test_values_that_have_one_form_in_json(biz):
    data = {
        "when": datetime(2024, 1, 1, 12, tzinfo=ZoneInfo("Europe/Berlin")),
        "day": date(2024, 1, 2),
        "price": Decimal("19.99"),
        "id_": UUID(int=1),
        "colour": Colour.RED,
        "point": Point(3),
        "pair": (1, 2),
    }
    stored = biz.track.A(data).data
    assert stored == {
        "when": "2024-01-01T11:00:00+00:00",
        "day": "2024-01-02",
        "price": 19.99,
        "id_": "00000000-0000-0000-0000-000000000001",
        "colour": "red",
        "point": {"x": 3},
        "pair": [1, 2],
    }
    biz.compact()
    assert biz.track.A.events().run()[0].data == stored


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"x": math.nan}, "x"),
        ({"x": [1, {"y": math.inf}]}, r"x\[1\]\.y"),
        ({"x": b"b"}, "x"),
        ({"x": object()}, "x"),
        ({"x": 2**70}, "x"),
        ({"x": "\ud800"}, "x"),
        ({1: 2}, "1"),
    ],
)
def test_what_cant_be_stored_names_its_path_and_stores_nothing(biz, data, path):
    with pytest.raises(InvalidValue, match=path):
        biz.track.A(data)
    with pytest.raises(InvalidValue, match=r"batch\[1\]"):
        biz.track.batch([{"event": "A"}, {"event": "A", "data": data}])
    assert biz.track.any.count().run() == 0


def test_a_cycle_is_refused(biz):
    loop: list = []
    loop.append(loop)
    with pytest.raises(InvalidValue):
        biz.track.A(x=loop)


def test_names_and_times_that_cant_be_used(biz):
    with pytest.raises(InvalidName):
        biz.track["  "]
    with pytest.raises(InvalidTime, match="epoch seconds"):
        biz.track.A({}, at="soon")
    with pytest.raises(InvalidTime, match="calendar months"):
        biz.track.A.count().since("7x")
    with pytest.raises(InvalidQuery, match="unknown operator"):
        biz.track.A.where({"x": {"above": 3}})
    with pytest.raises(InvalidQuery):
        bool(biz.track.A.count())


def test_merged_ids_count_as_one_past_events_included_until_undone(biz):
    biz.track.A(anonymous_id="anon")
    biz.track.A(user_id="u1")
    biz.identify("anon", "u1")
    assert biz.track.A.unique().run() == 1
    assert biz.track.A.count().by("user").run() == {"u1": 2}
    biz.compact()
    biz.identify("u1", "boss")
    assert biz.track.A.count().by("user").run() == {"boss": 2}
    biz.unidentify("anon")
    assert biz.track.A.count().by("user").run() == {"anon": 1, "boss": 1}
    with pytest.raises(NotFound):
        biz.unidentify("anon")


def test_a_retracted_record_is_gone_from_every_query(biz):
    event = biz.track.A(user_id="u1", amount=5)
    biz.track.A(user_id="u2", amount=7)
    biz.retract(event.id)
    biz.retract(event.id)
    assert biz.track.A.sum("amount").run() == 7
    assert [e.user for e in biz.track.A.events().run()] == ["u2"]
    with pytest.raises(NotFound):
        biz.retract("nothing")
    with pytest.raises(InvalidQuery, match="append the opposite"):
        biz.retract(biz.Order("o1").append("created").id)


def test_a_quota_refuses_before_anything_is_stored(biz, clock):
    biz.quota.set(events_per_day=2)
    biz.track.batch([{"event": "A"}, {"event": "A"}])
    with pytest.raises(QuotaExceeded):
        biz.track.A()
    assert biz.track.A.count().run() == 2
    clock.advance("1d")
    biz.track.A()
    biz.quota.set(bytes=10)
    with pytest.raises(QuotaExceeded, match="bytes"):
        biz.track.A()


def test_tenants_are_kept_apart(tmp_path):
    with (
        Business(tmp_path, tenant="eu", worker=False) as eu,
        Business(tmp_path, tenant="../us", worker=False) as us,
    ):
        eu.track.A()
        assert us.track.A.count().run() == 0
        assert eu.track.A.count().run() == 1
    with pytest.raises(InvalidName):
        Business(tmp_path, tenant=" ")


def test_a_forgotten_user_is_in_no_file_any_more(tmp_path):
    with Business(tmp_path / "acme", worker=False) as biz:
        for n in range(20):
            biz.track.A(user_id="secret-person" if n % 2 else "other", n=n)
        biz.identify("secret-anon", "secret-person")
        biz.store.segments.seal()
        biz.track.A({"n": 99}, user="secret-anon", id="secret-id")
        biz.Customer("secret-person").append("created", user_id="secret-person")
        assert biz.forget("secret-anon") >= 12
        assert biz.track.A.count().by("user").run() == {"other": 10}
        assert biz.forget("nobody") == 0
        assert biz.doctor().ok
    for path in Path(tmp_path).rglob("*"):
        if path.is_file():
            assert b"secret-" not in path.read_bytes(), path


def test_groups_by_a_property_that_has_a_buckets_name(biz):
    biz.track.A(month="may", user="x")
    assert biz.track.A.count().by(prop("month")).run() == {"may": 1}
    assert biz.track.A.count().by(prop("user")).run() == {"x": 1}
    assert biz.track.A.count().by("user").run() == {None: 1}


def test_the_two_hours_of_an_autumn_night_are_two_keys(tmp_path):
    clock = ManualClock("2024-10-27T05:00:00Z")
    with Business(tmp_path, timezone="Europe/Berlin", clock=clock, worker=False) as biz:
        for at in ("2024-10-27T00:30:00Z", "2024-10-27T01:30:00Z"):
            biz.track.A({}, at=at)
        found = biz.track.A.count().between("2024-10-27T00:00:00Z", "2024-10-27T02:00:00Z").by("hour").run()
        assert [key.isoformat() for key in found] == [
            "2024-10-27T02:00:00+02:00",
            "2024-10-27T02:00:00+01:00",
        ]
        assert list(found.values()) == [1, 1]


def test_comparisons_with_the_range_before(biz, clock):
    clock.set("2024-03-13T12:00")
    for at in ("2024-03-11T01:00", "2024-03-13T01:00", "2024-03-04T01:00", "2024-03-09T01:00"):
        biz.track.A({}, at=at)
    week = biz.track.A.count().since("week").vs("prev").run()
    assert (week.current, week.previous, week.change, week.percent) == (2, 1, 1, 100.0)
    rolling = biz.track.A.count().since("7d").vs("prev").run()
    assert (rolling.current, rolling.previous) == (3, 1)
    assert biz.track.B.count().since("7d").vs("prev").run().percent is None
    with pytest.raises(InvalidQuery, match="since"):
        biz.track.A.count().vs("prev").run()


def test_a_gauge_and_a_counter_are_told_apart(biz):
    biz.measure.users.set(5, host="a")
    biz.measure.hits.increment()
    biz.measure.hits.increment(10)
    assert (biz.measure.users.current().run(), biz.measure.hits.current().run()) == (5, 11)
    assert biz.measure.users.current(host="b").run() is None
    with pytest.raises(Conflict, match="counter"):
        biz.measure.hits.set(1)
    with pytest.raises(Conflict, match="gauge"):
        biz.measure.users.increment()
    with pytest.raises(InvalidValue):
        biz.measure.hits.increment(-1)
    for bad in (True, math.nan, math.inf, "5", None):
        with pytest.raises(InvalidValue):
            biz.measure.users(bad)


def test_numbers_of_a_metric(biz, clock):
    for n, at in enumerate(["2024-03-09", "2024-03-10", "2024-03-08"]):
        biz.measure.m(n + 1, {"h": "a"}, at=at)
    m = biz.measure.m
    assert [
        q.run() for q in (m.sum(), m.avg(), m.min(), m.max(), m.count(), m.first(), m.last(), m.current())
    ] == [6, 2, 1, 3, 3, 3, 2, 2]
    clock.set("2024-03-10T12:00")
    assert m.rate("1d").since("2d").run() == 1.0
    assert biz.measure.none.sum().run() == 0
    assert [
        q.run() for q in (biz.measure.none.avg(), biz.measure.none.current(), biz.measure.none.stddev())
    ] == [None] * 3


def test_sql_reads_only(biz):
    biz.track.A(user_id="u1", plan="pro")
    biz.store.segments.seal()
    biz.track.A(user_id="u1", plan="free")
    rows = biz.sql("select data->>'plan' plan, count(*) n from events group by 1 order by 1").run()
    assert rows == [("free", 1), ("pro", 1)]
    assert (rows[0].plan, rows[0]["n"]) == ("free", 1)
    for bad in (
        "drop table events",
        "select * from read_csv('/etc/hostname')",
        "select 1; select 2",
        "nonsense",
    ):
        with pytest.raises(InvalidQuery):
            biz.sql(bad).run()


def test_names_and_schema(biz):
    biz.track.A(n=1, plan="pro")
    biz.store.segments.seal()
    biz.track.A(n=2.5, tags=["x"], address={"city": "Rome"})
    assert biz.track.names().run() == ["A"]
    schema = biz.track.A.schema().run()
    assert {name: p.types for name, p in schema.properties.items()} == {
        "n": ("double", "int"),
        "plan": ("text",),
        "tags": ("list",),
        "address": ("object",),
    }


def test_events_stream_in_order_and_a_query_has_a_length(biz):
    biz.track.batch([{"event": "A", "data": {"n": n}, "at": 1_700_000_000 + n} for n in range(12_000)])
    biz.store.segments.seal()
    assert [e.n for e in biz.track.A.events().oldest_first()] == list(range(12_000))
    assert len(biz.track.A.events().limit(5)) == 5
    assert list(biz.track.A.count().by("n").limit(2)) == [0, 1]


def test_tables_frames_and_pictures_of_a_result(biz, tmp_path):
    biz.track.A(plan="<b>pro</b>")
    query = biz.track.A.count().by("plan")
    assert "<b>pro</b>  " in repr(query)
    assert "&lt;b&gt;pro" in query._repr_html_()
    assert query.df().to_dict("list") == {"plan": ["<b>pro</b>"], "count": [1]}
    assert query.pl().rows() == [("<b>pro</b>", 1)]
    assert query.arrow().num_rows == 1
    assert "SELECT" in query.sql()
    query.plot().save(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"


def test_a_closed_business_says_so_and_another_open_reads_it(tmp_path):
    biz = Business(tmp_path, worker=False, timezone="Europe/Berlin", durability="buffered")
    biz.track.A()
    biz.close()
    biz.close()
    with pytest.raises(StorageError, match="closed"):
        biz.track.A()
    with Business(tmp_path, worker=False) as again:
        assert again.track.A.count().run() == 1
        assert again.timezone == "Europe/Berlin"


def test_a_buffered_write_has_its_id_at_once_and_its_position_when_asked(tmp_path):
    with Business(tmp_path, worker=False, durability="buffered") as biz:
        event = biz.track.A(n=1)
        assert event.id
        assert biz.track.A.count().run() == 1
        assert event.position == 1


def test_writes_of_another_process_are_seen(biz):
    biz.track.A()
    code = f"from bizcode import Business; Business({str(biz.store.root)!r}, worker=False).track.A(n=1)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[1] / "src")
    assert biz.track.A.count().run() == 2


def test_memory_keeps_nothing():
    with Business(":memory:", worker=False) as biz:
        biz.track.A()
        directory = biz.store.root
        assert directory.exists()
    assert not directory.exists()


def test_what_was_retracted_in_a_unit_is_retracted_once(biz):
    record = biz.track.Signup(n=1)
    with biz.do():
        first = biz.retract(record.id)
    assert biz.retract(record.id).position == first.position
    assert biz.track.Signup.count().run() == 0
