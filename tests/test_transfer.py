"""Data in and out."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest

from bizcode import Business, InvalidQuery, InvalidValue, NotFound

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


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("sealed", [False, True])
def test_what_was_exported_comes_back_as_it_was(biz, tmp_path, format, sealed):
    biz.track.Seen(
        {"user_id": "007", "n": 1, "deep": {"a": [1, None]}, "text": 'a,"b"\nü', "none": None}, id="mine"
    )
    biz.track["Two words/é"](
        {"type": "of its own", "user": "nobody"}, user="u2", at="2023-01-01T10:00:00.123456"
    )
    biz.experiment.define("pricing", ["control", "value"], autostart=True)
    biz.track.Seen({"user_id": "u3"}, experiment="pricing")
    biz.measure.load(3, host="a")
    biz.measure.load(2.5)
    biz.measure.big(2**60)
    if sealed:
        biz.store.segments.seal()

    def facts(store):
        events = [
            (e.type, e.timestamp, e.user, e.id, e.data, e.experiments) for e in store.track.any.events()
        ]
        samples = [
            (e.type, e.timestamp, e.id, e.value, e.data) for e in store.stream.measure["*"].run(since="start")
        ]
        return sorted(events, key=str), sorted(samples, key=str)

    ending = "" if format == "parquet" else f".{format}"
    for what in ("events", "measures"):
        biz.export(tmp_path / f"{what}{ending}", format=format, what=what)
    with Business(tmp_path / "other", clock=biz.clock, worker=False) as other:
        for _ in range(2):
            for what in ("events", "measures"):
                other.load(tmp_path / f"{what}{ending}")
        assert facts(other) == facts(biz)
    assert biz.load(tmp_path / f"events{ending}").records == 0
    assert biz.track.any.count().run() == 3


def test_entities_events_are_not_loaded(biz, tmp_path):
    biz.Order("o1").append("created")
    biz.export(tmp_path / "x.jsonl", format="jsonl", what="entity_events")
    with pytest.raises(InvalidValue, match="versions"):
        biz.load(tmp_path / "x.jsonl")
    with pytest.raises(NotFound, match="Parquet"):
        biz.load(tmp_path)


def test_exported_parquet_files_have_the_same_columns(biz, tmp_path):
    biz.track.Seen(n=1, at_home=True)
    biz.track.Seen({"user_id": "u1"}, at="2023-01-01")
    schemas = [pq.ParquetFile(file).schema_arrow for file in biz.export(tmp_path / "out").files]
    assert len(schemas) == 2
    assert schemas[0] == schemas[1]
