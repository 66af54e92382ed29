"""The translation lookaside buffer: page table entries that a replica has seen, and how it knows that they still hold.

A session's entries form a line with one revision: every entry on it is what the page table says at that revision. A
notice of an append moves the line on when it continues it, and drops the pages that it touched; when a notice was
missed, the whole line is dropped. So an entry is current exactly when its line is; a lookup says how new it must be.

It never asks the page table itself.
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final, Generic, TypeVar

from pagekeeper.memory.ids import SessionKey

LINES_MAX: Final = 512
ENTRIES_MAX: Final = 4_096
"""Entries on one line; a session that is walked through from end to end must not fill the memory."""

E = TypeVar("E")


class _Line(Generic[E]):
    __slots__ = ("entries", "revision")

    def __init__(self, revision: int) -> None:
        self.revision = revision
        self.entries: OrderedDict[str, E] = OrderedDict()


class Tlb(Generic[E]):
    """Entries by session and page, the least recently used forgotten first."""

    def __init__(self, lines_max: int = LINES_MAX, entries_max: int = ENTRIES_MAX) -> None:
        self._lines_max = lines_max
        self._entries_max = entries_max
        self._lines: OrderedDict[SessionKey, _Line[E]] = OrderedDict()
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return sum(len(line.entries) for line in self._lines.values())

    def lookup(self, key: SessionKey, page_id: str, min_revision: int) -> E | None:
        """The entry, if it is known to hold at `min_revision` or later."""
        line = self._lines.get(key)
        entry = line.entries.get(page_id) if line is not None and line.revision >= min_revision else None
        if line is None or entry is None:
            self.misses += 1
            return None
        self._lines.move_to_end(key)
        line.entries.move_to_end(page_id)
        self.hits += 1
        return entry

    def fill(self, key: SessionKey, revision: int, entries: Iterable[tuple[str, E]]) -> None:
        """Enter what the page table said at `revision`. An answer older than the line is of no use and is dropped."""
        line = self._lines.get(key)
        if line is None or line.revision < revision:
            line = self._lines[key] = _Line(revision)
        elif line.revision > revision:
            return
        self._lines.move_to_end(key)
        for page_id, entry in entries:
            line.entries[page_id] = entry
            line.entries.move_to_end(page_id)
        while len(line.entries) > self._entries_max:
            line.entries.popitem(last=False)
        while len(self._lines) > self._lines_max:
            self._lines.popitem(last=False)

    def shoot_down(
        self, key: SessionKey, previous_revision: int, revision: int, touches: tuple[str, ...] | None
    ) -> None:
        """Hear that a session moved from one revision to the next, touching these pages; None for any of them."""
        line = self._lines.get(key)
        if line is None or line.revision >= revision:
            return
        if touches is None or line.revision != previous_revision:
            del self._lines[key]
            return
        line.revision = revision
        for page_id in touches:
            line.entries.pop(page_id, None)

    def flush(self) -> None:
        """Forget everything: the feed of appended records was interrupted."""
        self._lines.clear()
