"""What queries see of the files."""

from __future__ import annotations

import orjson
import pytest

from bizcode import Business
from bizcode.errors import StorageError
from bizcode.record import EVENT


def test_the_directorys_name_is_no_property(tmp_path):
    with Business(tmp_path / "plan=free" / "a[1]*" / "store", worker=False) as biz:
        biz.track.Signup(plan="pro")
        biz.compact()
        assert biz.track.Signup.count().by("plan").run() == {"pro": 1}
        assert len(biz.sql("SELECT * FROM events WHERE data->>'plan' = 'pro'").run()) == 1


def test_a_damaged_file_is_told_of_and_the_other_names_answer(biz):
    biz.track.Good(n=1)
    biz.track.Bad(n=1)
    biz.compact()
    (segment,) = biz.store.segments.catalog().of(EVENT, "Bad")
    (biz.store.directory / segment.file).write_bytes(b"PAR1nonsensePAR1")
    assert biz.track.Good.sum("n").run() == 1
    with pytest.raises(StorageError, match="doctor"):
        biz.track.Bad.sum("n").run()
    assert [problem.where for problem in biz.doctor().problems] == [segment.file]


def test_forgetting_leaves_no_byte_of_a_user_in_any_file(biz):
    mark = "mallory-81a0"
    for part in range(3):
        biz.track.batch(
            [{"event": "View", "data": {"user_id": mark, "mail": f"{mark}@x.org", mark: part}}] * 3
        )
        biz.track.View(user_id="u1", part=part)
        biz.measure.revenue(part, user_id=mark)
        biz.store.segments.seal()
    biz.track.View(user_id=mark, late=True)
    assert biz.forget(mark) == 13
    assert biz.track.View.count().run() == 3
    assert biz.doctor().problems == []
    for path in biz.store.directory.rglob("*"):
        assert path.is_dir() or mark.encode() not in path.read_bytes(), path
    assert mark not in biz.track.View.schema().run().properties


def test_sql_sees_the_same_properties_sealed_and_unsealed(biz):
    given = [
        {"a": None, "b": {"c": None, "d": 1}, "list": [1, None, {"x": None}], "empty": {}, "whole": 1.0},
        {"a": 1, "b": "text"},
        {"a": {"deep": {"deeper": True}}, "b": {"d": "text", "e": [1]}},
        {"a": {"deep": 3}, "b": 2.5},
        {},
    ]
    for data in given:
        biz.track.Seen(data)

    def found():
        rows = biz.sql("SELECT data, data->>'a' AS a, data->>'$.b.d' AS d FROM events ORDER BY position")
        return [(orjson.loads(row.data), row.a, row.d) for row in rows]

    unsealed = found()
    assert [data for data, _, _ in unsealed[1:]] == given[1:]
    assert unsealed[0][0] == {
        "b": {"d": 1},
        "list": [1, None, {"x": None}],
        "empty": {},
        "whole": 1.0,
    }
    biz.store.segments.seal()
    assert found() == unsealed


def test_forgetting_a_user_takes_the_entity_that_is_the_user(biz):
    biz.aggregate(
        "Customer",
        initial=dict,
        reduce={"Customer.signup": lambda state, event: {"name": event.name}},
        snapshots={"every": 1},
    )
    biz.Customer("u1").append("signup", name="Mallory-81a0")
    biz.Customer("u1").snapshot()
    biz.Customer("u2").append("signup", name="Alice")
    biz.Order("u1").append("created", total=5)
    biz.store.segments.seal()
    biz.User("anon-u1").append("seen", name="Mallory-81a0")
    biz.identify("anon-u1", "u1")
    biz.drain()
    biz.forget("u1")
    assert biz.Customer.ids().run() == ["u2"]
    assert biz.User.ids().run() == []
    assert biz.Order.ids().run() == ["u1"]
    assert not any(
        b"Mallory-81a0" in file.read_bytes() for file in biz.store.root.rglob("*") if file.is_file()
    )
