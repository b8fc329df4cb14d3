"""Results made in two ways, to compare."""

from __future__ import annotations

from typing import Any


def plain(rows: Any) -> list[str]:
    """Rows in any order: 1 and 1.0 are one number, also in a list, and doubles count to nine digits."""

    def one(value: Any) -> Any:
        if isinstance(value, list):
            return [one(item) for item in value]
        return float(f"{value:.9g}") if type(value) in (int, float) else value

    return sorted(repr(sorted((name, one(value)) for name, value in row.items())) for row in rows)
