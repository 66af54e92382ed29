"""Counters of one memory, and measures of how well its user is served."""

from typing import NamedTuple

from pydantic import Field

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models.enums import FaultReason, Modality, StorageTier
from pagekeeper.memory.models.strict import StrictModel

__all__ = ["UserExperienceMetrics", "VMMetrics"]


class VMMetrics(StrictModel):
    """Faults, lookups, evictions and compressions, in total and in the current turn."""

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
    def tlb_hit_rate(self) -> float:
        """From 0 to 1; 0 before the first lookup."""
        lookups = self.tlb_hits + self.tlb_misses
        return self.tlb_hits / lookups if lookups else 0.0

    def can_fault(self) -> bool:
        return self.faults_this_turn < self.max_faults_per_turn

    def record_fault(self) -> None:
        self.faults_total += 1
        self.faults_this_turn += 1

    def new_turn(self) -> None:
        """Set the counters of the turn to 0; the totals stay."""
        self.faults_this_turn = self.evictions_this_turn = self.compressions_this_turn = 0


class Fault(NamedTuple):
    """`page_id` is empty when only the reason is known."""

    reason: FaultReason
    page_id: str
    turn: int


@checked
class UserExperienceMetrics(StrictModel):
    """The reasons of page faults, and whether recalls were right, as the application saw them."""

    faults: list[Fault] = Field(default_factory=list)
    recalls: int = 0
    recalls_right: int = 0

    def record_fault(self, reason: FaultReason, page_id: str = "", turn: int = 0) -> None:
        self.faults.append(Fault(reason, page_id, turn))

    def record_recall_attempt(self, *, success: bool) -> None:
        """Record a recall; it was a success when the user did not have to correct the answer."""
        self.recalls += 1
        self.recalls_right += success

    def recall_success_rate(self) -> float:
        """From 0 to 1; 1 before the first attempt."""
        return self.recalls_right / self.recalls if self.recalls else 1.0

    def thrash_index(self, window_turns: int = 5) -> float:
        """(faults - distinct pages faulted) / `window_turns`, over the last `window_turns` turns.

        0 is a stable working set; 1 is one repeated fault in every turn. A fault of an unnamed page does not count.
        """
        first_turn = max((fault.turn for fault in self.faults), default=0) - window_turns + 1
        recent = [fault.page_id for fault in self.faults if fault.turn >= first_turn and fault.page_id]
        return (len(recent) - len(set(recent))) / window_turns if recent else 0.0

    def fault_breakdown(self) -> dict[FaultReason, int]:
        """Faults by reason; every reason is there."""
        return {reason: sum(fault.reason is reason for fault in self.faults) for reason in FaultReason}
