"""Statistics of the parts of a memory, counted at the moment of the call."""

from typing import Any

from pydantic import Field

from pagekeeper.memory.models.enums import FaultReason, Modality, StorageTier
from pagekeeper.memory.models.metrics import VMMetrics
from pagekeeper.memory.models.strict import KeyedModel, StrictModel

__all__ = [
    "CombinedPageTableStats",
    "FaultMetrics",
    "MemoryManagerStats",
    "MutationLogSummary",
    "PageTableStats",
    "PrefetcherStats",
    "StorageStats",
    "TLBStats",
    "VMContext",
    "WorkingSetStats",
]


class TLBStats(StrictModel):
    """Rates and utilization from 0 to 1."""

    size: int = 0
    max_size: int = 512
    utilization: float = 0.0
    hits: int = 0
    misses: int = 0
    hit_rate: float = 0.0


class WorkingSetStats(StrictModel):
    l0_pages: int = 0
    l1_pages: int = 0
    total_pages: int = 0
    tokens_used: int = 0
    tokens_available: int = 0
    utilization: float = 0.0
    needs_eviction: bool = False
    tokens_by_modality: dict[Modality, int] = Field(default_factory=dict)


class PageTableStats(StrictModel):
    total_pages: int = 0
    dirty_pages: int = 0
    pages_by_tier: dict[StorageTier, int] = Field(default_factory=dict)
    pages_by_modality: dict[Modality, int] = Field(default_factory=dict)

    @property
    def working_set_size(self) -> int:
        """Pages in L0 and L1."""
        return self.pages_by_tier.get(StorageTier.L0, 0) + self.pages_by_tier.get(StorageTier.L1, 0)


class CombinedPageTableStats(StrictModel):
    page_table: PageTableStats
    tlb: TLBStats


class StorageStats(StrictModel):
    """`persistent` says whether pages outlive the process."""

    backend: str = "unknown"
    persistent: bool = False
    session_id: str | None = None
    pages_stored: int = 0
    total_bytes: int = 0


class FaultMetrics(StrictModel):
    faults_this_turn: int = 0
    max_faults_per_turn: int = 3
    faults_remaining: int = 3
    can_fault: bool = True
    total_faults: int = 0
    tokens_used_this_turn: int = 0
    tlb_hit_rate: float = 0.0
    faults_by_reason: dict[FaultReason, int] = Field(default_factory=dict)


class MutationLogSummary(KeyedModel):
    total_mutations: int = 0
    unique_pages: int = 0
    creates: int = 0
    faults: int = 0
    evictions: int = 0
    compressions: int = 0
    pins: int = 0
    unpins: int = 0
    updates: int = 0
    deletes: int = 0

    def __getitem__(self, key: str) -> object:
        return super().__getitem__("total_mutations" if key == "total" else key)


class PrefetcherStats(KeyedModel):
    """`hit_rate` is the share of prefetched pages that were accessed afterwards, from 0 to 1."""

    tools_tracked: int = 0
    pages_tracked: int = 0
    total_accesses: int = 0
    pages_prefetched: int = 0
    hit_rate: float = 0.0


class MemoryManagerStats(KeyedModel):
    """Statistics of all parts of one session's memory."""

    session_id: str = ""
    turn: int = 0
    mode: str = ""
    page_table: PageTableStats = Field(default_factory=PageTableStats)
    working_set: WorkingSetStats = Field(default_factory=WorkingSetStats)
    fault_handler: FaultMetrics = Field(default_factory=FaultMetrics)
    mutation_log: MutationLogSummary = Field(default_factory=MutationLogSummary)
    prefetcher: PrefetcherStats = Field(default_factory=PrefetcherStats)
    metrics: VMMetrics = Field(default_factory=VMMetrics)
    pages_in_store: int = 0


class VMContext(KeyedModel):
    """The developer message and the tools of a request, with the manifest and the pack that they were made from."""

    developer_message: str = ""
    tools: list[Any] = Field(default_factory=list)
    manifest: Any = None
    packed_context: Any = None
