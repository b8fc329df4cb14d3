"""Conditions on what a record is besides its properties."""

from __future__ import annotations

import pytest

from bizcode import this


@pytest.mark.parametrize("sealed", [False, True])
def test_a_condition_on_the_user_means_all_ids_that_are_one(biz, sealed):
    for user in ("anon", "u1", "u2"):
        biz.track.P(user_id=user)
    if sealed:
        biz.store.segments.seal()
    biz.identify("anon", "u1")
    assert biz.track.P.where(user="u1").count().run() == 2
    assert biz.track.P.where(this.user == "u1").count().run() == 2
    assert biz.track.P.where(user="anon").count().run() == 0
