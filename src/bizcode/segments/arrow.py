"""Arrow's compute functions, imported where they are first used."""

from __future__ import annotations

from typing import Any

__all__ = ["compute"]


def compute() -> Any:
    """The module pyarrow.compute. It makes its functions at run time, so a type checker can't know them."""
    import pyarrow.compute

    return pyarrow.compute
