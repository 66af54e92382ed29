"""Where every page is and in which state; the contents are elsewhere.

Invariant: an entry is the one place of what it says. Views by tier, modality or state and all totals are made from the
entries when they are asked for, so an entry that is changed in place is never listed where it was before.

The table of a memory is a view of its session: an entry is made of the fold when it is asked for, and the session's
events are what changes it.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime

from pagekeeper.core.pages import PageState
from pagekeeper.core.session import Session
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
from pagekeeper.memory.session_log import SessionLog

__all__ = ["PageTable"]


@checked
class PageTable:
    """Entries by page id, in order of registration; of the pages of a session, in the order in which they came.

    Raises TypeError for a change of an entry that is a view of a session.
    """

    def __init__(self, log: SessionLog | None = None) -> None:
        self._own: dict[str, PageTableEntry] = {}
        self._is_view = log is not None
        self.entries: Mapping[str, PageTableEntry] = self._own if log is None else _SessionEntries(log)

    def __repr__(self) -> str:
        return f"PageTable({len(self):,} pages)"

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, page_id: object) -> bool:
        return page_id in self.entries

    def lookup(self, page_id: str) -> PageTableEntry | None:
        """The entry, not counted as an access; of a table of one's own the entry itself, not a copy."""
        return self.entries.get(page_id)

    def register(self, page: MemoryPage) -> PageTableEntry:
        """Enter what the page says of itself; an entry of the same id is replaced."""
        entry = PageTableEntry.of_page(page)
        self.register_entry(entry)
        return entry

    def register_entry(self, entry: PageTableEntry) -> None:
        self._refuse_in_a_view(entry.page_id)
        self._own[entry.page_id] = entry

    def remove(self, page_id: str) -> PageTableEntry | None:
        self._refuse_in_a_view(page_id)
        return self._own.pop(page_id, None)

    def update_location(
        self,
        page_id: str,
        tier: StorageTier,
        artifact_id: str | None = None,
        compression_level: CompressionLevel | None = None,
    ) -> bool:
        """Move a page; what is not given stays as it is. False when the page is not known."""
        return self._update(page_id, tier=tier, artifact_id=artifact_id, compression_level=compression_level)

    def mark_accessed(self, page_id: str) -> bool:
        """Count an access. False when the page is not known."""
        entry = self.lookup(page_id)
        if entry is not None:
            entry.mark_accessed()
        return entry is not None

    def mark_dirty(self, page_id: str) -> bool:
        """Say that the page is not stored as it is. False when the page is not known."""
        return self._update(page_id, dirty=True)

    def mark_clean(self, page_id: str) -> bool:
        """Say that the page was stored just now. False when the page is not known."""
        return self._update(page_id, dirty=False, last_flushed=utc_now())

    def get_by_tier(self, tier: StorageTier) -> list[PageTableEntry]:
        return [entry for entry in self.entries.values() if entry.tier == tier]

    def get_by_modality(self, modality: Modality) -> list[PageTableEntry]:
        return [entry for entry in self.entries.values() if entry.modality == modality]

    def get_by_type(self, page_type: PageType) -> list[PageTableEntry]:
        return [entry for entry in self.entries.values() if entry.page_type == page_type]

    def get_dirty_pages(self) -> list[PageTableEntry]:
        return [entry for entry in self.entries.values() if entry.dirty]

    def get_working_set(self) -> list[PageTableEntry]:
        """List the entries of L0, then those of L1."""
        return [*self.get_by_tier(StorageTier.L0), *self.get_by_tier(StorageTier.L1)]

    def get_eviction_candidates(self, tier: StorageTier = StorageTier.L1, limit: int = 10) -> list[PageTableEntry]:
        """At most `limit` pages of the tier that are not pinned, the least recently accessed first."""
        evictable = [entry for entry in self.get_by_tier(tier) if not entry.pinned]
        return sorted(evictable, key=lambda entry: entry.last_accessed)[:limit]

    def get_total_tokens(self, tiers: Collection[StorageTier] | None = None) -> int:
        """Tokens of all pages, or of those in `tiers`; a page of unknown size counts for nothing."""
        return sum(entry.size_tokens or 0 for entry in self.entries.values() if tiers is None or entry.tier in tiers)

    def get_stats(self) -> PageTableStats:
        entries = list(self.entries.values())
        by_tier = Counter(entry.tier for entry in entries)
        by_modality = Counter(entry.modality for entry in entries)
        return PageTableStats(
            total_pages=len(entries),
            dirty_pages=sum(entry.dirty for entry in entries),
            pages_by_tier={tier: by_tier[tier] for tier in StorageTier},
            pages_by_modality={modality: by_modality[modality] for modality in Modality},
        )

    def _update(self, page_id: str, **facts: object) -> bool:
        """Have these facts of a page, None aside. False when the page is not known."""
        self._refuse_in_a_view(page_id)
        entry = self._own.get(page_id)
        if entry is None:
            return False
        for name, value in facts.items():
            if value is not None:
                setattr(entry, name, value)
        return True

    def _refuse_in_a_view(self, page_id: str) -> None:
        if self._is_view:
            raise TypeError(
                f"page {page_id!r} cannot be changed here: this table is a view of a session. A page changes by "
                "`create_page`, `delete_page`, `handle_fault`, `evict_page`, `compress_page` or `pin_page`"
            )


class _SessionEntries(Mapping[str, PageTableEntry]):
    """The mapped pages of a session, in the order in which they came."""

    def __init__(self, log: SessionLog) -> None:
        self._log = log

    def __getitem__(self, page_id: str) -> PageTableEntry:
        page = self._log.session.page(page_id)
        if page is None:
            raise KeyError(page_id)
        return _entry(self._log.session, page)

    def __contains__(self, page_id: object) -> bool:
        return isinstance(page_id, str) and self._log.session.page(page_id) is not None

    def __iter__(self) -> Iterator[str]:
        return (page.page_id for page in self._log.session.mapped_pages())

    def __len__(self) -> int:
        return self._log.session.pages.mapped_total

    def values(self) -> list[PageTableEntry]:  # type: ignore[override] # each is made once
        session = self._log.session
        return [_entry(session, page) for page in session.mapped_pages()]


def _entry(session: Session, page: PageState) -> PageTableEntry:
    resident = session.working_set.get(page.page_id)
    representation = page.current.nearest(0 if resident is None else resident.level)
    return PageTableEntry.model_construct(
        page_id=page.page_id,
        tier=session.tier(page),
        compression_level=CompressionLevel(representation.level),
        page_type=page.page_type,
        modality=page.modality,
        provenance=[link.target_page_id for link in page.links],
        pinned=session.is_pinned(page),
        last_accessed=datetime.fromtimestamp(page.current.created_unix_ms / 1_000, UTC),
        access_count=page.fault_count,
        size_tokens=representation.size_tokens,
    )
