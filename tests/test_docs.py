"""The Python blocks of the pages on the namespaces run, in order."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bizcode import Business, ManualClock, this

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["goal.md", "measure.md", "streams.md", "track.md", "views.md"])
def test_every_block_runs(page):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)
    assert len(blocks) >= 2
    with Business(":memory:", clock=ManualClock("2024-03-10T12:00"), worker=False) as biz:
        scope = {"biz": biz, "this": this}
        for block in blocks:
            exec(compile(block, page, "exec"), scope)
        biz.drain()
