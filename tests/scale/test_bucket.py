"""Segments in a bucket: shared by machines, published whole, copied once, and what a bad bucket says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import bizcode
from bizcode import Business, InvalidValue, ManualClock, StorageError

SOURCE = str(Path(bizcode.__file__).parents[1])
START = "2024-01-01"


def client(s3):
    import boto3

    return boto3.client("s3", endpoint_url=f"http://{s3}", region_name="us-east-1")


def objects(s3, bucket) -> list[str]:
    listed = client(s3).list_objects_v2(Bucket=bucket.split("/")[2])
    # Arrow leaves an empty object for a directory whose last file it deletes.
    return [found["Key"] for found in listed.get("Contents", []) if not found["Key"].endswith("/")]


def fill(biz, start, count=100):
    biz.track.batch(
        [
            {"event": ("Signup", "Visit")[n % 2], "user": f"u{n % 7}", "data": {"n": n, "plan": f"p{n % 3}"}}
            for n in range(start, start + count)
        ]
    )


@pytest.mark.parametrize("where", ["directory", "postgresql"])
def test_sealed_history_lies_in_the_bucket_and_is_read_from_it(tmp_path, s3, bucket, where, request):
    place = tmp_path / "acme" if where == "directory" else request.getfixturevalue("url")
    clock = ManualClock(START)
    with Business(place, clock=clock, worker=False, segments=bucket) as biz:
        fill(biz, 0)
        biz.compact()
        fill(biz, 100)
        biz.compact()
        fill(biz, 200)
        expected = biz.track.Signup.sum("n").by("plan").run()
        assert len(objects(s3, bucket)) == 2, "merged, one file for each name"
        assert biz.doctor().ok
    # Another machine: no copies, and nothing said of the bucket.
    os.environ["BIZCODE_CACHE"] = str(tmp_path / "another")
    with Business(place, clock=clock, worker=False) as biz:
        assert biz.track.Signup.sum("n").by("plan").run() == expected
        assert biz.sql("SELECT count(*) AS n FROM events").run()[0].n == 300
        assert biz.track.Signup.count().run() == 150
        copies = list((tmp_path / "another").rglob("*.parquet"))
        assert len(copies) == 2
        assert len(list(biz.track.Visit.events())) == 150


def test_forgetting_takes_the_objects_and_their_copies_away(tmp_path, s3, bucket):
    with Business(tmp_path / "acme", clock=ManualClock(START), worker=False, segments=bucket) as biz:
        fill(biz, 0)
        biz.compact()
        before = set(objects(s3, bucket))
        assert biz.forget("u3") > 0
        after = set(objects(s3, bucket))
        assert not before & after
        assert {Path(path).name for path in (tmp_path / "cache").rglob("*.parquet")} == {
            path.rpartition("/")[2] for path in after
        }
        assert biz.doctor().ok


def test_an_object_that_is_gone_or_changed_is_named(tmp_path, s3, bucket):
    with Business(tmp_path / "acme", clock=ManualClock(START), worker=False, segments=bucket) as biz:
        fill(biz, 0)
        biz.compact()
        first, second = objects(s3, bucket)
        name = bucket.split("/")[2]
        client(s3).delete_object(Bucket=name, Key=first)
        client(s3).put_object(Bucket=name, Key=second, Body=b"nothing")
        found = {problem.kind for problem in biz.doctor().problems}
        assert found == {"missing", "corrupt"}


def test_an_upload_that_fails_changes_nothing(tmp_path, s3, bucket, monkeypatch):
    from bizcode.segments.bucket import BucketPlace

    with Business(tmp_path / "acme", clock=ManualClock(START), worker=False, segments=bucket) as biz:
        fill(biz, 0)
        publish = BucketPlace.publish
        calls = iter((False, True))

        def broken(self, file):
            publish(self, file)
            if next(calls):
                raise OSError("the network is gone")

        monkeypatch.setattr(BucketPlace, "publish", broken)
        with pytest.raises(StorageError, match="network is gone; nothing was changed"):
            biz.compact()
        monkeypatch.setattr(BucketPlace, "publish", publish)
        assert biz.track.Signup.count().run() == 50
        assert objects(s3, bucket) == []
        assert biz.compact().sealed == 100
        assert len(objects(s3, bucket)) == 2
        assert str(biz.doctor()).endswith("every invariant holds")


def test_a_process_killed_while_it_uploads_leaves_orphans_at_most(tmp_path, s3, bucket):
    script = f"""
import os
from bizcode import Business, ManualClock
from bizcode.segments.bucket import BucketPlace
publish = BucketPlace.publish
def killed(self, file):
    publish(self, file)
    os._exit(9)
with Business({str(tmp_path / "acme")!r}, clock=ManualClock({START!r}), worker=False, segments={bucket!r}) as biz:
    biz.track.batch([{{"event": "Signup", "data": {{"n": n}}}} for n in range(50)])
    BucketPlace.publish = killed
    biz.compact()
"""
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": SOURCE})
    assert done.returncode == 9
    with Business(tmp_path / "acme", clock=ManualClock(START), worker=False) as biz:
        assert biz.track.Signup.count().run() == 50
        assert [problem.kind for problem in biz.doctor(mend=True).problems] == ["orphan"]
        assert objects(s3, bucket) == []
        biz.compact()
        assert biz.track.Signup.sum("n").run() == 1225
        assert biz.doctor().ok


def test_two_machines_share_a_database_and_a_bucket(tmp_path, url, bucket):
    script = """
import sys
from bizcode import Business, ManualClock
url, bucket, first = sys.argv[1], sys.argv[2], int(sys.argv[3])
with Business(url, clock=ManualClock("2024-01-01"), worker=False, segments=bucket) as biz:
    for start in range(first, first + 400, 50):
        biz.track.batch([{"event": "Signup", "data": {"n": n}, "id": f"id-{n}"} for n in range(start, start + 50)])
        biz.compact()
        assert biz.track.Signup.count().run() >= 50
"""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", script, url, bucket, str(first)],
            env={**os.environ, "PYTHONPATH": SOURCE, "BIZCODE_CACHE": str(tmp_path / f"cache-{first}")},
            cwd=tmp_path,
        )
        for first in (0, 200)
    ]
    assert [process.wait(120) for process in running] == [0, 0]
    with Business(url, clock=ManualClock(START), worker=False) as biz:
        assert biz.track.Signup.count().run() == 600, "the 200 that both wrote are there once"
        assert biz.track.Signup.sum("n").run() == sum(range(600))
        biz.compact()
        assert biz.doctor().ok


@pytest.mark.parametrize(
    ("segments", "sentence"),
    [
        ("s3://missing-bucket/x?endpoint_override={s3}&scheme=http&region=us-east-1", "no bucket"),
        ("s3://bucket/x?endpoint_override=127.0.0.1:1&scheme=http&region=us-east-1", "can't be reached"),
    ],
)
def test_a_bucket_of_no_use_is_told_in_a_sentence(tmp_path, s3, bucket, segments, sentence):
    with pytest.raises(StorageError, match=sentence):
        Business(tmp_path / "acme", worker=False, segments=segments.format(s3=s3))


@pytest.mark.parametrize(
    "segments", ["gs://bucket", "s3://", "file:relative", "/plain", "s3://key:secret@b/p", "s3://b/p?key=1"]
)
def test_a_place_that_cant_be_used_is_refused(tmp_path, segments):
    with pytest.raises(InvalidValue):
        Business(tmp_path / "acme", worker=False, segments=segments)


def test_a_bucket_without_rights_is_told_in_a_sentence(tmp_path, bucket, monkeypatch):
    settings = pytest.importorskip("moto.settings")
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0.0)
    with pytest.raises(StorageError, match=r"can't be reached: .*(ACCESS_DENIED|403|[Ff]orbidden)"):
        Business(tmp_path / "acme", worker=False, segments=bucket)


def test_a_worker_of_spark_fetches_what_it_does_not_see_once(bucket, tmp_path, monkeypatch):
    from bizcode.engine.spark.files import at_hand

    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    with Business(tmp_path / "acme", worker=False, segments=bucket) as biz:
        fill(biz, 0)
        biz.store.segments.seal()
        place = biz.store.segments.place
        (segment, *_) = biz.store.segments.catalog().segments
        here, origin = str(place.local(segment.file)), place.origin(segment.file)
        assert at_hand(here, origin) == here
        found = at_hand("/nowhere/x.parquet", origin)
        assert Path(found).read_bytes() == Path(here).read_bytes()
        biz.store.segments.place.remove(segment.file)
        assert at_hand("/nowhere/x.parquet", origin) == found
