"""A page table's entry: tier, level and state of a page, never its content."""

from datetime import datetime
from typing import Final

from pydantic import Field

from pagekeeper.memory.clock import utc_now
from pagekeeper.memory.models.enums import Affinity, CompressionLevel, Modality, PageType, StorageTier
from pagekeeper.memory.models.page import MemoryPage
from pagekeeper.memory.models.strict import StrictModel

__all__ = ["PageTableEntry"]

EVICTION_PRIORITY: Final = {
    PageType.CLAIM: 0.1,
    PageType.INDEX: 0.2,
    PageType.PROCEDURE: 0.3,
    PageType.SUMMARY: 0.4,
    PageType.ARTIFACT: 0.6,
    PageType.TRANSCRIPT: 0.7,
}


class PageTableEntry(StrictModel):
    """`size_tokens`: the page's tokens at `compression_level`. `affinity`: where its bytes are."""

    page_id: str
    tier: StorageTier
    artifact_id: str | None = None
    compression_level: CompressionLevel = CompressionLevel.FULL
    page_type: PageType = PageType.TRANSCRIPT
    modality: Modality = Modality.TEXT
    provenance: list[str] = Field(default_factory=list)
    dirty: bool = False
    pinned: bool = False
    last_flushed: datetime | None = None
    last_accessed: datetime = Field(default_factory=utc_now)
    access_count: int = 0
    size_tokens: int | None = Field(default=None, ge=0)
    affinity: Affinity = Affinity.LOCAL

    @classmethod
    def of_page(cls, page: MemoryPage) -> "PageTableEntry":
        return cls(
            page_id=page.page_id,
            tier=page.storage_tier,
            artifact_id=page.artifact_id,
            compression_level=page.compression_level,
            page_type=page.page_type,
            modality=page.modality,
            provenance=list(page.provenance),
            dirty=page.dirty,
            pinned=page.pinned,
            last_accessed=page.last_accessed,
            access_count=page.access_count,
            size_tokens=page.estimate_tokens(),
        )

    def mark_accessed(self) -> None:
        self.last_accessed = utc_now()
        self.access_count += 1

    @property
    def eviction_priority(self) -> float:
        """From 0 to 1: the highest is evicted first, and 0 (pinned) never."""
        return 0.0 if self.pinned else EVICTION_PRIORITY[self.page_type]
