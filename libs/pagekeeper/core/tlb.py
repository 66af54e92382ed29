"""The translation lookaside buffer: page table entries that a replica has seen, and how it knows that they still hold.

A session's entries stand on a line, which has heard of all appends up to its revision. An entry holds at the revision
at which the page table said it, and at every later one up to the line's: a notice of an append drops the pages that it
touched and moves the line on, and when a notice in between was missed, it drops all that may have changed. So an entry
is current exactly when its line is; a lookup says how new it must be.

Notices arrive while an answer of the page table is on its way. So a lookup that misses opens a line, which hears them,
and what the page table said before the last of them is not entered.

It never asks the page table itself.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from pagekeeper.core.ids import SessionKey
from pagekeeper.core.lru import Lru

LINES_MAX: Final = 512
ENTRIES_MAX: Final = 128
"""Entries on one line; a session that is walked through from end to end must not fill the memory."""

E = TypeVar("E")


@dataclass(slots=True)
class _Entry(Generic[E]):
    """An answer of the page table, and its revision."""

    said: E
    revision: int


class _Line(Generic[E]):
    __slots__ = ("entries", "revision")

    def __init__(self, entries_max: int) -> None:
        self.revision = 0
        self.entries: Lru[str, _Entry[E]] = Lru(count_max=entries_max)

    def page_ids(self) -> list[str]:
        return [page_id for page_id, _ in self.entries.items()]

    def drop_older(self, page_ids: Iterable[str], revision: int) -> None:
        """Drop those of these pages that the page table was asked for before `revision`."""
        for page_id in page_ids:
            entry = self.entries.peek(page_id)
            if entry is not None and entry.revision < revision:
                self.entries.pop(page_id)


class Tlb(Generic[E]):
    """Entries by session and page, the least recently used forgotten first."""

    def __init__(
        self, on_forgotten: Callable[[SessionKey], None], lines_max: int = LINES_MAX, entries_max: int = ENTRIES_MAX
    ) -> None:
        """`on_forgotten` is told of each session whose line had to give way: nobody has to listen for it any more."""
        self._entries_max = entries_max
        self._lines: Lru[SessionKey, _Line[E]] = Lru(count_max=lines_max, on_forgotten=on_forgotten)

    def __len__(self) -> int:
        return sum(len(line.entries) for line in self._lines.values())

    def listens(self, key: SessionKey) -> bool:
        """Whether the session has a line, which has to hear of its appends."""
        return key in self._lines

    def lookup(self, key: SessionKey, page_id: str, min_revision: int) -> E | None:
        """The entry, if it is known to hold at `min_revision` or later. Otherwise ask the page table, then `fill`."""
        line = self._lines.get(key)
        if line is None:
            self._lines.put(key, _Line(self._entries_max))
            return None
        entry = line.entries.get(page_id)
        if entry is None or max(entry.revision, line.revision) < min_revision:
            return None
        return entry.said

    def fill(self, key: SessionKey, revision: int, entries: Iterable[tuple[str, E]]) -> None:
        """Enter what the page table said at `revision`, unless the line has heard of later appends meanwhile."""
        line = self._lines.peek(key)
        if line is None or revision < line.revision:
            return
        for page_id, said in entries:
            line.entries.put(page_id, _Entry(said, revision))

    def shoot_down(
        self, key: SessionKey, previous_revision: int, revision: int, touches: tuple[str, ...] | None
    ) -> None:
        """Hear that a session moved from one revision to the next, touching these pages; None for any of them."""
        line = self._lines.peek(key)
        if line is None or revision <= line.revision:
            return
        if previous_revision > line.revision:
            # What happened in between went unheard, except by entries that the page table answered after it.
            line.drop_older(line.page_ids(), previous_revision)
        line.drop_older(line.page_ids() if touches is None else touches, revision)
        line.revision = revision

    def advance(self, key: SessionKey, previous_revision: int, revision: int) -> None:
        """Know of an append that touched no page, before it is heard of. It counts where it continues the line."""
        line = self._lines.peek(key)
        if line is not None and previous_revision == line.revision < revision:
            line.revision = revision

    def flush(self) -> None:
        """Forget everything: appends may have gone unheard."""
        self._lines.clear()
