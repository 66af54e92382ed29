"""The bounds of a turn's faults, the result of a fault, and the envelopes in which a model gets it."""

from collections.abc import Generator
from typing import Final, Self

from pydantic import Field

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models.content import PageData
from pagekeeper.memory.models.enums import (
    CompressionLevel,
    FaultConfidenceThreshold,
    FaultReason,
    Modality,
    StorageTier,
)
from pagekeeper.memory.models.page import MemoryPage
from pagekeeper.memory.models.strict import GuardedModel, StrictModel

__all__ = [
    "FaultEffects",
    "FaultPolicy",
    "FaultResult",
    "SearchResult",
    "SearchResultEntry",
    "VMToolError",
    "VMToolResult",
]

_ALLOWED_REASONS: Final = {
    FaultConfidenceThreshold.EXPLICIT: frozenset({FaultReason.USER_REQUESTED_RECALL, FaultReason.RESOLVE_REFERENCE}),
    FaultConfidenceThreshold.REFERENCED: frozenset(FaultReason) - {FaultReason.SPECULATIVE},
    FaultConfidenceThreshold.SPECULATIVE: frozenset(FaultReason),
}


@checked
class FaultPolicy(StrictModel):
    """Bounds of a turn's faults in number, tokens and reasons, and what the turn has spent of them."""

    max_faults_per_turn: int = Field(default=3, ge=0)
    max_fault_tokens_per_turn: int = Field(default=8_192, ge=0)
    fault_confidence_threshold: FaultConfidenceThreshold = FaultConfidenceThreshold.REFERENCED
    faults_this_turn: int = 0
    tokens_used_this_turn: int = 0
    pages_faulted_this_turn: list[str] = Field(default_factory=list)
    faults_by_reason: dict[FaultReason, int] = Field(default_factory=dict)
    """Counted over all turns."""

    @property
    def faults_remaining(self) -> int:
        return max(0, self.max_faults_per_turn - self.faults_this_turn)

    @property
    def tokens_remaining(self) -> int:
        return max(0, self.max_fault_tokens_per_turn - self.tokens_used_this_turn)

    def allows(self, reason: FaultReason) -> bool:
        """Whether `fault_confidence_threshold` allows a fault for this reason."""
        return reason in _ALLOWED_REASONS[self.fault_confidence_threshold]

    def can_fault(self, estimated_tokens: int = 0, reason: FaultReason | None = None) -> bool:
        """Whether a page of that size may be faulted in; without `reason`, for any reason."""
        allowed = reason is None or self.allows(reason)
        return allowed and self.faults_remaining > 0 and estimated_tokens <= self.tokens_remaining

    def record_fault(self, tokens: int, *, page_id: str | None = None, reason: FaultReason | None = None) -> None:
        """Count a fault of `tokens` tokens against the turn's bounds."""
        self.faults_this_turn += 1
        self.tokens_used_this_turn += tokens
        if page_id is not None:
            self.pages_faulted_this_turn.append(page_id)
        if reason is not None:
            self.faults_by_reason[reason] = self.faults_by_reason.get(reason, 0) + 1

    def new_turn(self) -> None:
        self.faults_this_turn = 0
        self.tokens_used_this_turn = 0
        self.pages_faulted_this_turn = []


class FaultEffects(StrictModel):
    """Effects of a fault. `tokens_est`: the page's tokens in the prompt. `evictions`: pages evicted for it."""

    promoted_to_working_set: bool = False
    tokens_est: int = 0
    evictions: list[str] | None = None


class FaultResult(StrictModel):
    """A page, or the `error`. The page's level is the level brought, `requested_level` the one asked for."""

    success: bool
    page: MemoryPage | None = None
    requested_level: CompressionLevel | None = None
    error: str | None = None
    source_tier: StorageTier | None = None
    latency_ms: float = 0.0
    was_compressed: bool = False


class VMToolResult(GuardedModel):
    """The envelope of a page for the model."""

    page: PageData
    effects: FaultEffects = Field(default_factory=FaultEffects)


class VMToolError(GuardedModel):
    """The envelope of a refusal for the model."""

    error: str
    page_id: str | None = None
    message: str | None = None


class SearchResultEntry(StrictModel):
    """A page found by a search; `relevance` from 0 to 1."""

    page_id: str
    modality: Modality
    tier: StorageTier
    levels: list[CompressionLevel] = Field(default_factory=list)
    hint: str = ""
    relevance: float = 0.0


class SearchResult(GuardedModel):
    """Results, the best first; `total_available` pages were searched. Awaiting a result gives it at once."""

    results: list[SearchResultEntry] = Field(default_factory=list)
    total_available: int = 0

    def __await__(self) -> Generator[None, None, Self]:
        return self
        yield
