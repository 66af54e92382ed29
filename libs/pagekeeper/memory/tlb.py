"""A bounded cache of page table entries, and the page table behind it.

Invariant: through `TLBWithPageTable` no lookup answers what the page table would not. The table is a dictionary of this
process, so each lookup compares the cached entry with the table's: a cache of another place would be told instead.
"""

from typing import Final

from pagekeeper.core.lru import Lru
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import (
    CombinedPageTableStats,
    CompressionLevel,
    MemoryPage,
    PageTableEntry,
    StorageTier,
    TLBStats,
)
from pagekeeper.memory.page_table import PageTable

__all__ = ["PageTLB", "TLBWithPageTable"]

ENTRIES_MAX: Final = 512


@checked
class PageTLB:
    """Entries by page id; of more than `max_entries`, the least recently used goes."""

    def __init__(self, max_entries: int = ENTRIES_MAX) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries must be positive, not {max_entries}")
        self.max_entries = max_entries
        self.hits = 0
        self.misses = 0
        self._entries: Lru[str, PageTableEntry] = Lru(count_max=max_entries)

    def __repr__(self) -> str:
        return f"PageTLB({len(self):,} of {self.max_entries:,} entries)"

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, page_id: str) -> bool:
        return page_id in self._entries

    @property
    def hit_rate(self) -> float:
        """From 0 to 1; 0 before the first lookup."""
        lookups = self.hits + self.misses
        return self.hits / lookups if lookups else 0.0

    def lookup(self, page_id: str) -> PageTableEntry | None:
        entry = self._entries.get(page_id)
        self.hits += entry is not None
        self.misses += entry is None
        return entry

    def insert(self, entry: PageTableEntry) -> None:
        self._entries.put(entry.page_id, entry)

    def invalidate(self, page_id: str) -> bool:
        """Whether it was there."""
        return self._entries.pop(page_id) is not None

    def invalidate_tier(self, tier: StorageTier) -> int:
        """How many were there."""
        return sum(self.invalidate(entry.page_id) for entry in self.get_all() if entry.tier == tier)

    def flush(self) -> int:
        """How many were there."""
        flushed = len(self._entries)
        self._entries.clear()
        return flushed

    def get_all(self) -> list[PageTableEntry]:
        """The least recently used first."""
        return list(self._entries.values())

    def reset_stats(self) -> None:
        self.hits = 0
        self.misses = 0

    def get_stats(self) -> TLBStats:
        return TLBStats(
            size=len(self),
            max_size=self.max_entries,
            utilization=len(self) / self.max_entries,
            hits=self.hits,
            misses=self.misses,
            hit_rate=self.hit_rate,
        )


@checked
class TLBWithPageTable:
    """The page table, whose changes drop what is cached."""

    def __init__(self, page_table: PageTable, tlb: PageTLB | None = None) -> None:
        self.page_table = page_table
        self.tlb = PageTLB() if tlb is None else tlb
        for entry in self.tlb.get_all():
            if page_table.lookup(entry.page_id) is not entry:
                self.tlb.invalidate(entry.page_id)

    def __repr__(self) -> str:
        return f"TLBWithPageTable({self.page_table!r}, {self.tlb!r})"

    def lookup(self, page_id: str) -> PageTableEntry | None:
        """The table's entry, which the cache has from now on."""
        cached, entry = self.tlb.lookup(page_id), self.page_table.lookup(page_id)
        if cached is not entry:
            self.tlb.invalidate(page_id)
            if entry is not None:
                self.tlb.insert(entry)
        return entry

    def register(self, page: MemoryPage) -> PageTableEntry:
        entry = self.page_table.register(page)
        self.tlb.insert(entry)
        return entry

    def update_location(
        self,
        page_id: str,
        tier: StorageTier,
        artifact_id: str | None = None,
        compression_level: CompressionLevel | None = None,
    ) -> bool:
        self.tlb.invalidate(page_id)
        return self.page_table.update_location(page_id, tier, artifact_id, compression_level)

    def mark_dirty(self, page_id: str) -> bool:
        self.tlb.invalidate(page_id)
        return self.page_table.mark_dirty(page_id)

    def remove(self, page_id: str) -> PageTableEntry | None:
        self.tlb.invalidate(page_id)
        return self.page_table.remove(page_id)

    def get_stats(self) -> CombinedPageTableStats:
        return CombinedPageTableStats(page_table=self.page_table.get_stats(), tlb=self.tlb.get_stats())
