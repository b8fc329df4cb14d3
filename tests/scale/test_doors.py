"""The doors' own tests, on PostgreSQL: whatever asks only for a business holds there too."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

TESTS = Path(__file__).parents[1]
FILES = (
    "test_business.py",
    "test_do.py",
    "consume/*.py",
    "entity/*.py",
    "experiment/test_exposure.py",
    "goal/*.py",
    "stream/*.py",
    "view/*.py",
)
GIVEN = {"biz", "clock", "shop"}
LEFT_OUT = {
    "test_writes_of_another_process_are_seen",  # opens the directory
    "test_what_is_sealed_while_it_reads_the_sealed_part_is_not_skipped",  # so does this one
    "test_many_appends_in_one_block_cost_as_many_single_ones",  # times the embedded log
}


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"doors_{path.parent.name}_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _parameters(function: Any) -> set[str]:
    """What a test asks of fixtures, beyond what its own parametrisation gives."""
    asked = set(inspect.signature(function).parameters)
    for mark in getattr(function, "pytestmark", []):
        if mark.name == "parametrize":
            names = mark.args[0]
            asked -= set(names.replace(" ", "").split(",") if isinstance(names, str) else names)
    return asked


for pattern in FILES:
    for path in sorted(TESTS.glob(pattern)):
        if path.name == "conftest.py":
            continue
        for name, function in inspect.getmembers(_module(path), inspect.isfunction):
            if not name.startswith("test_") or name in LEFT_OUT:
                continue
            asked = _parameters(function)
            if asked & {"biz", "shop"} and asked <= GIVEN:
                globals()[f"{name}__{path.stem}"] = function
