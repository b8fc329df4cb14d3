"""What a batch is."""

from __future__ import annotations

import pytest

from bizcode import BizError, StorageError


@pytest.mark.parametrize("given", [5, None, "View", b"View", {"event": "View"}, [5], [{"event": "View"}, {}]])
def test_a_batch_that_is_none_is_refused_and_stores_nothing(biz, given):
    with pytest.raises(BizError):
        biz.track.batch(given)
    assert biz.track.any.count().run() == 0


@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_a_batch_may_be_anything_that_is_iterated(biz, kind):
    assert len(biz.track.batch(kind([{"event": "View"}, {"event": "View"}]))) == 2


@pytest.mark.parametrize("name", ["value", "by", "at", "id", "user"])
def test_a_tag_may_have_the_name_of_an_argument(biz, name):
    biz.measure.price(1, **{name: "x"})
    biz.measure.level.set(1, **{name: "x"})
    biz.measure.seen.increment(1, **{name: "x"})
    for metric in (biz.measure.price, biz.measure.level, biz.measure.seen):
        assert metric.events().run()[0].data == {name: "x"}


@pytest.mark.parametrize("named", [False, True])
def test_what_is_read_on_after_the_close_says_that_it_was_closed(biz, named):
    biz.track.batch({"event": "A", "user": f"u{n}"} for n in range(20_100))
    query = biz.track.funnel(["A"]).users() if named else biz.track.A.events()
    begun = iter(query)
    next(begun)
    biz.close()
    with pytest.raises(StorageError, match="closed"):
        list(begun)
