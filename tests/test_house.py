"""The rules of the house that a machine can check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import bizcode

SOURCE = Path(bizcode.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = ("pyarrow", "scipy", "numpy", "pandas", "polars", "altair", "duckdb", "apsw", "rich", "typer")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_a_file_holds_one_idea(file):
    text = file.read_text()
    assert len(text.splitlines()) <= 500
    for promise in ("TODO", "FIXME", "NotImplementedError"):
        assert promise not in text


def test_importing_bizcode_imports_nothing_heavy():
    code = f"import sys, bizcode; print([m for m in {HEAVY!r} if m in sys.modules])"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE.parent
    )
    assert found.stdout.strip() == "[]"


def test_a_first_question_over_sealed_records_imports_no_pyarrow(tmp_path):
    with bizcode.Business(tmp_path / "a", worker=False) as biz:
        biz.track.A(v=1)
        biz.store.segments.seal()
    code = (
        "import sys; from bizcode import Business; "
        f"print(Business({str(tmp_path / 'a')!r}, worker=False).track.A.count().run(), 'pyarrow' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=SOURCE.parent
    )
    assert found.stdout.split() == ["1", "False"]
