"""Sealed history in order of position, although files are in order of time: a window of positions at a time."""

from __future__ import annotations

from ..record import Stored
from .catalog import Catalog, Segment
from .read import Files, Group

__all__ = ["Scan"]

WINDOW = 8_192
WINDOW_OF_PIECE = 2_048
WIDEST = 131_072
KEPT_BYTES = 192 * 2**20


class Scan:
    """Follows the catalog from window to window, so that nothing is held between two of them: files may be
    merged away meanwhile, and what is erased is gone from then on.

    Row groups are decoded when a window reaches them, and kept until it has passed them, as far as memory
    is allowed.
    """

    def __init__(self, files: Files, until: int, kinds: set[str] | None, names: set[str] | None) -> None:
        self._files = files
        self._until = until
        self._kinds = kinds
        self._names = names
        self._generation = -1
        self._pieces: list[tuple[int, int, int, Segment]] = []
        self._kept: dict[tuple[str, int], Group] = {}
        self._bytes = 0
        self._rare = False

    def window(self, catalog: Catalog, after: int) -> tuple[list[Stored], int]:
        """Records with `after` < position, in order, and the position up to which they are complete:
        the scan's end at most. The catalog's files must be held by `reading`."""
        if catalog.generation != self._generation:
            self._follow(catalog, after)
        if not self._pieces:
            return [], self._until
        after = max(after, self._pieces[0][0] - 1)
        # The more row groups overlap, the wider: each costs something per window. Widest where records are rare.
        near = sum(first <= after + WIDEST for first, _, _, _ in self._pieces)
        width = WIDEST if self._rare else min(WINDOW + WINDOW_OF_PIECE * (near - 1), WIDEST)
        end = min(after + width, self._until)
        found: list[Stored] = []
        later = []
        for piece in self._pieces:
            first, last, number, segment = piece
            if first <= end:
                found += self._group(segment, number, last > end).between(after, end)
            if last > end:
                later.append(piece)
        self._pieces = later
        found.sort()
        self._rare = len(found) * 8 < width
        return found, end

    def _group(self, segment: Segment, number: int, again: bool) -> Group:
        key = (segment.file, number)
        group = self._kept.get(key)
        if group is None:
            group = self._files.group(segment, number, False)
            if again and self._bytes + group.bytes <= KEPT_BYTES:
                self._kept[key] = group
                self._bytes += group.bytes
        elif not again:
            del self._kept[key]
            self._bytes -= group.bytes
        return group

    def _follow(self, catalog: Catalog, after: int) -> None:
        """Find the row groups that are still to come."""
        self._pieces = [
            (part.first, part.last, number, segment)
            for segment in catalog.segments
            if (self._kinds is None or segment.kind in self._kinds)
            and (self._names is None or segment.name in self._names)
            and segment.last_position > after
            and segment.first_position <= self._until
            for number, part in enumerate(self._files.footer(segment)[1])
            if part.last > after and part.first <= self._until
        ]
        self._pieces.sort(key=lambda piece: piece[:2])
        files = {segment.file for _, _, _, segment in self._pieces}
        self._kept = {key: group for key, group in self._kept.items() if key[0] in files}
        self._bytes = sum(group.bytes for group in self._kept.values())
        self._generation = catalog.generation
