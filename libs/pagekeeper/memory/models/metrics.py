"""Counters of faults, lookups, evictions and compressions, in total and in the current turn."""

from pydantic import Field

from pagekeeper.memory.models.enums import Modality, StorageTier
from pagekeeper.memory.models.strict import StrictModel

__all__ = ["VMMetrics"]


class VMMetrics(StrictModel):
    max_faults_per_turn: int = 3
    faults_total: int = 0
    faults_this_turn: int = 0
    tlb_hits: int = 0
    tlb_misses: int = 0
    evictions_total: int = 0
    evictions_this_turn: int = 0
    compressions_total: int = 0
    compressions_this_turn: int = 0
    tokens_saved_by_compression: int = 0
    tokens_in_working_set: int = 0
    tokens_available: int = 0
    pages_by_tier: dict[StorageTier, int] = Field(default_factory=lambda: dict.fromkeys(StorageTier, 0))
    pages_by_modality: dict[Modality, int] = Field(default_factory=lambda: dict.fromkeys(Modality, 0))

    @property
    def fault_rate(self) -> float:
        """Faults in this turn."""
        return float(self.faults_this_turn)

    @property
    def tlb_hit_rate(self) -> float:
        """From 0 to 1; 0 before the first lookup."""
        lookups = self.tlb_hits + self.tlb_misses
        return self.tlb_hits / lookups if lookups else 0.0

    def can_fault(self) -> bool:
        return self.faults_this_turn < self.max_faults_per_turn

    def record_fault(self) -> None:
        self.faults_total += 1
        self.faults_this_turn += 1

    def record_tlb_hit(self) -> None:
        self.tlb_hits += 1

    def record_tlb_miss(self) -> None:
        self.tlb_misses += 1

    def record_eviction(self) -> None:
        self.evictions_total += 1
        self.evictions_this_turn += 1

    def record_compression(self, tokens_saved: int = 0) -> None:
        self.compressions_total += 1
        self.compressions_this_turn += 1
        self.tokens_saved_by_compression += tokens_saved

    def new_turn(self) -> None:
        """Set the counters of the turn to 0; the totals stay."""
        self.faults_this_turn = 0
        self.evictions_this_turn = 0
        self.compressions_this_turn = 0
