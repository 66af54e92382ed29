"""Where every page is and in which state; the contents are elsewhere.

Invariant: an entry is the one place of what it says. Views by tier, modality or state and all totals are made from the
entries when they are asked for, so an entry that is changed in place is never listed where it was before.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.clock import utc_now
from pagekeeper.memory.models import (
    CompressionLevel,
    MemoryPage,
    Modality,
    PageTableEntry,
    PageTableStats,
    PageType,
    StorageTier,
)

__all__ = ["PageTable"]


@checked
class PageTable:
    """Entries by page id, in order of registration."""

    def __init__(self) -> None:
        self.entries: dict[str, PageTableEntry] = {}
        self._shoot_down: list[Callable[[str], None]] = []
        self._flush: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self):,} pages)"

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, page_id: object) -> bool:
        return page_id in self.entries

    def on_change(self, shoot_down: Callable[[str], None], flush: Callable[[], object]) -> None:
        """Call `shoot_down` with a page's id whenever its entry is changed, replaced or removed by this table.

        `flush` is called when it may be any page's.
        """
        self._shoot_down.append(shoot_down)
        self._flush.append(flush)

    def lookup(self, page_id: str) -> PageTableEntry | None:
        """The entry itself, not a copy; not counted as an access."""
        return self.entries.get(page_id)

    def register(self, page: MemoryPage) -> PageTableEntry:
        """Enter what the page says of itself; an entry of the same id is replaced."""
        entry = PageTableEntry.of_page(page)
        self.register_entry(entry)
        return entry

    def register_entry(self, entry: PageTableEntry) -> None:
        self.entries[entry.page_id] = entry
        self._changed(entry.page_id)

    def remove(self, page_id: str) -> PageTableEntry | None:
        entry = self.entries.pop(page_id, None)
        if entry is not None:
            self._changed(page_id)
        return entry

    def update_location(
        self,
        page_id: str,
        tier: StorageTier,
        artifact_id: str | None = None,
        compression_level: CompressionLevel | None = None,
    ) -> bool:
        """Move a page; what is not given stays as it is. False when the page is not known."""
        entry = self.entries.get(page_id)
        if entry is None:
            return False
        entry.tier = tier
        if artifact_id is not None:
            entry.artifact_id = artifact_id
        if compression_level is not None:
            entry.compression_level = compression_level
        self._changed(page_id)
        return True

    def update_compression(
        self, page_id: str, compression_level: CompressionLevel, size_tokens: int | None = None
    ) -> bool:
        """Change a page's level where it is, and its size when that is given. False when the page is not known."""
        entry = self.entries.get(page_id)
        if entry is None:
            return False
        entry.compression_level = compression_level
        if size_tokens is not None:
            entry.size_tokens = size_tokens
        self._changed(page_id)
        return True

    def update_pinned(self, page_id: str, *, pinned: bool) -> bool:
        """Say whether the page may be evicted. False when the page is not known."""
        entry = self.entries.get(page_id)
        if entry is None:
            return False
        entry.pinned = pinned
        self._changed(page_id)
        return True

    def mark_accessed(self, page_id: str) -> bool:
        """Count an access. False when the page is not known. Entries that others hold stay valid: they are this one."""
        entry = self.entries.get(page_id)
        if entry is None:
            return False
        entry.mark_accessed()
        return True

    def mark_dirty(self, page_id: str) -> bool:
        """Say that the page is not stored as it is. False when the page is not known."""
        entry = self.entries.get(page_id)
        if entry is None:
            return False
        entry.dirty = True
        self._changed(page_id)
        return True

    def mark_clean(self, page_id: str) -> bool:
        """Say that the page was stored just now. False when the page is not known."""
        entry = self.entries.get(page_id)
        if entry is None:
            return False
        entry.dirty = False
        entry.last_flushed = utc_now()
        self._changed(page_id)
        return True

    def get_by_tier(self, tier: StorageTier) -> list[PageTableEntry]:
        return [entry for entry in self._all() if entry.tier == tier]

    def get_by_modality(self, modality: Modality) -> list[PageTableEntry]:
        return [entry for entry in self._all() if entry.modality == modality]

    def get_by_type(self, page_type: PageType) -> list[PageTableEntry]:
        return [entry for entry in self._all() if entry.page_type == page_type]

    def get_dirty_pages(self) -> list[PageTableEntry]:
        return [entry for entry in self._all() if entry.dirty]

    def get_working_set(self) -> list[PageTableEntry]:
        """List the entries of L0, then those of L1."""
        return [*self.get_by_tier(StorageTier.L0), *self.get_by_tier(StorageTier.L1)]

    def get_eviction_candidates(self, tier: StorageTier = StorageTier.L1, limit: int = 10) -> list[PageTableEntry]:
        """At most `limit` pages of the tier that are not pinned, the least recently accessed first."""
        evictable = [entry for entry in self.get_by_tier(tier) if not entry.pinned]
        return sorted(evictable, key=lambda entry: entry.last_accessed)[:limit]

    def get_total_tokens(self, tiers: Collection[StorageTier] | None = None) -> int:
        """Tokens of all pages, or of those in `tiers`; a page of unknown size counts for nothing."""
        return sum(entry.size_tokens or 0 for entry in self._all() if tiers is None or entry.tier in tiers)

    def get_stats(self) -> PageTableStats:
        by_tier = Counter(entry.tier for entry in self._all())
        by_modality = Counter(entry.modality for entry in self._all())
        return PageTableStats(
            total_pages=len(self.entries),
            dirty_pages=len(self.get_dirty_pages()),
            pages_by_tier={tier: by_tier[tier] for tier in StorageTier},
            pages_by_modality={modality: by_modality[modality] for modality in Modality},
        )

    def _all(self) -> Iterator[PageTableEntry]:
        return iter(self.entries.values())

    def _changed(self, page_id: str) -> None:
        for shoot_down in self._shoot_down:
            shoot_down(page_id)
