"""Every block of the README runs, in order, in an empty directory."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


def test_the_python_blocks_run_and_give_what_their_comments_say(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = README.read_text()
    scope: dict = {}
    for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
        exec(compile(block, "README.md", "exec"), scope)
        for line in block.splitlines():
            found = re.match(
                r"^(biz\..*?\.run\(\)(?:\.conversion)?|funnel\..*?)\s+# (\{.*\}|\d[\d.]*|\[.*\])$", line
            )
            if found and not scope["biz"].store.closed:
                assert eval(found[1], scope) == eval(found[2]), line


@pytest.mark.parametrize("command", ["demo", "test", "bench"])
def test_the_make_targets_exist(command):
    makefile = (README.parent / "Makefile").read_text()
    assert f"\n{command}:" in makefile
