"""Text as PostgreSQL takes it: it has no character 0, which SQLite and Python have."""

from __future__ import annotations

__all__ = ["given", "kept"]


def kept(text: str) -> str:
    """How a text is stored. Keeps the order of code points, and what is a prefix of what.

    >>> kept("u\\x001")
    'u\\x01\\x011'
    """
    if "\x00" in text or "\x01" in text:
        return text.replace("\x01", "\x01\x02").replace("\x00", "\x01\x01")
    return text


def given(text: str) -> str:
    """The text that is stored so.

    >>> given(kept("u\\x001\\x01")) == "u\\x001\\x01"
    True
    """
    if "\x01" in text:
        return text.replace("\x01\x01", "\x00").replace("\x01\x02", "\x01")
    return text
