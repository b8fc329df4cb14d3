"""What queries see of the files."""

from __future__ import annotations

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
