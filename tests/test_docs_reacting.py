"""Every block of these pages runs, in order, and gives what its comments say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["entities.md", "do-and-every.md"])
def test_the_blocks_run_and_give_what_their_comments_say(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scope: dict = {}
    checked = 0
    for block in re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL):
        lines = block.splitlines()
        for node in ast.parse(block).body:
            code = "\n".join(
                lines[
                    (
                        min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))]) - 1
                    ) : node.end_lineno
                ]
            )
            said = re.search(r"  # (.+)$", lines[node.end_lineno - 1])
            if isinstance(node, ast.Expr) and said and re.match(r"[\d\[{('\"]|True|False|Order\(", said[1]):
                assert repr(eval(code, scope)) == said[1], code
                checked += 1
            else:
                exec(code, scope)
    assert checked >= 8
