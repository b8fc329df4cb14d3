"""Data in and out."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from bizcode import InvalidQuery, InvalidValue, NotFound

CSV = "who,when,plan,amount\nu1,2024-01-01,pro,9.5\nu2,not a date,free,1\nu3,2024-01-03\nu4,2024-01-04,,007\n"


def test_a_csv_loads_with_its_broken_lines_reported(biz, tmp_path):
    path = tmp_path / "signups.csv"
    path.write_text(CSV)
    done = biz.load(path, event="Signup", time="when", user="who")
    assert done.records == 2
    assert [line.line for line in done.broken] == [3, 4]
    events = biz.track.Signup.events().oldest_first().run()
    assert [(e.user, e.data) for e in events] == [
        ("u1", {"plan": "pro", "amount": 9.5}),
        ("u4", {"amount": "007"}),
    ]
    assert biz.load(path, event="Signup", time="when", user="who").records == 0


def test_strict_refuses_a_broken_file_before_anything_is_stored(biz, tmp_path):
    path = tmp_path / "signups.csv"
    path.write_text(CSV)
    with pytest.raises(InvalidValue, match="line 3"):
        biz.load(path, event="Signup", time="when", strict=True)
    assert biz.track.any.count().run() == 0


def test_jsonl_and_parquet_round_trip(biz, tmp_path):
    biz.track.A({"n": 1, "tags": ["x"], "ü": None}, at="2024-01-01", user="u1")
    biz.track.B({"n": 2.5}, at="2024-02-01")
    biz.measure.m(3, host="a")
    assert biz.export(tmp_path / "out.jsonl", format="jsonl").records == 2
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(r["type"], r["user"], r["data"]) for r in rows] == [
        ("A", "u1", {"n": 1, "tags": ["x"], "ü": None}),
        ("B", None, {"n": 2.5}),
    ]
    biz.export(tmp_path / "lake")
    table = pq.read_table(tmp_path / "lake")
    assert sorted(zip(table["type"].to_pylist(), table["month"].to_pylist(), strict=True)) == [
        ("A", "2024-01"),
        ("B", "2024-02"),
    ]
    assert biz.export(tmp_path / "m.csv", format="csv", what="measures").records == 1


def test_refusals(biz, tmp_path):
    with pytest.raises(NotFound):
        biz.load(tmp_path / "none.csv")
    with pytest.raises(InvalidQuery, match="format"):
        biz.export(tmp_path / "x", format="xml")
    (tmp_path / "x.csv").write_text("a\n1\n")
    with pytest.raises(InvalidValue, match="column"):
        biz.load(tmp_path / "x.csv", time="when")


@pytest.mark.parametrize("strict", [False, True])
def test_a_csv_with_two_columns_of_one_name_is_refused(biz, tmp_path, strict):
    (tmp_path / "x.csv").write_text("user_id,a,a\nu1,1,2\n")
    with pytest.raises(InvalidValue, match="two columns 'a'"):
        biz.load(tmp_path / "x.csv", event="A", strict=strict)
    assert biz.track.any.count().run() == 0
