"""Measures of how well a user is served: recalls that were right, pages faulted again, tokens that were used."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from pydantic import Field

from pagekeeper.memory.clock import utc_now
from pagekeeper.memory.models.enums import FaultReason
from pagekeeper.memory.models.faults import FaultRecord
from pagekeeper.memory.models.strict import StrictModel

__all__ = ["RecallAttempt", "UserExperienceMetrics"]

REFERENCED_PAGE_TOKENS: Final = 200
"""Estimate for a referenced page whose size is not given."""


class RecallAttempt(StrictModel):
    """One recall: the wanted pages, the cited pages, and whether the user had to correct the answer."""

    turn: int
    query: str
    page_ids_cited: list[str] = Field(default_factory=list)
    user_corrected: bool = False
    timestamp: datetime = Field(default_factory=utc_now)


class UserExperienceMetrics(StrictModel):
    recall_attempts: list[RecallAttempt] = Field(default_factory=list)
    fault_history: list[FaultRecord] = Field(default_factory=list)
    pages_referenced_per_turn: dict[int, list[str]] = Field(default_factory=dict)
    tokens_in_context_per_turn: dict[int, int] = Field(default_factory=dict)
    tokens_referenced_per_turn: dict[int, int] = Field(default_factory=dict)

    def record_recall_attempt(
        self,
        turn: int = 0,
        query: str = "",
        page_ids_cited: Sequence[str] = (),
        user_corrected: bool = False,  # noqa: FBT001, FBT002 - the guide's signature
        *,
        success: bool | None = None,
    ) -> None:
        """Record a recall. `success` is `not user_corrected`, and is used when given."""
        corrected = user_corrected if success is None else not success
        attempt = RecallAttempt(turn=turn, query=query, page_ids_cited=list(page_ids_cited), user_corrected=corrected)
        self.recall_attempts.append(attempt)

    def record_fault(
        self,
        page_id: str,
        reason: FaultReason | None = None,
        turn: int = 0,
        tokens_loaded: int = 0,
        latency_ms: float = 0.0,
    ) -> None:
        """Record a fault of a page; a reason as the only argument records a fault of an unnamed page.

        Raises ValueError for a page without a reason.
        """
        if reason is None:
            page_id, reason = "", FaultReason(page_id)
        record = FaultRecord(
            page_id=page_id, reason=reason, turn=turn, tokens_loaded=tokens_loaded, latency_ms=latency_ms
        )
        self.fault_history.append(record)

    def record_turn_context(
        self,
        turn: int,
        tokens_in_context: int,
        pages_referenced: Sequence[str],
        *,
        tokens_referenced: int | None = None,
    ) -> None:
        """Record a turn: tokens in context, the pages that the answer used, and their tokens where known."""
        self.tokens_in_context_per_turn[turn] = tokens_in_context
        self.pages_referenced_per_turn[turn] = list(pages_referenced)
        if tokens_referenced is None:
            tokens_referenced = REFERENCED_PAGE_TOKENS * len(pages_referenced)
        self.tokens_referenced_per_turn[turn] = tokens_referenced

    def recall_success_rate(self) -> float:
        """From 0 to 1; 1 before the first attempt."""
        if not self.recall_attempts:
            return 1.0
        return sum(not attempt.user_corrected for attempt in self.recall_attempts) / len(self.recall_attempts)

    def thrash_index(self, window_turns: int = 5) -> float:
        """(faults - distinct pages faulted) / `window_turns`, over the last `window_turns` turns.

        0 is a stable working set; 1 is one repeated fault in every turn.
        """
        if not self.fault_history or window_turns <= 0:
            return 0.0
        first_turn = max(record.turn for record in self.fault_history) - window_turns + 1
        recent = [record.page_id for record in self.fault_history if record.turn >= first_turn and record.page_id]
        return (len(recent) - len(set(recent))) / window_turns

    def effective_tokens_ratio(self, turn: int) -> float:
        """Tokens that the turn's answer used / tokens in context, from 0 to 1."""
        in_context = self.tokens_in_context_per_turn.get(turn, 0)
        return min(1.0, self.tokens_referenced_per_turn.get(turn, 0) / in_context) if in_context else 0.0

    def fault_breakdown(self) -> dict[FaultReason, int]:
        """Faults by reason; every reason is there."""
        return {reason: sum(record.reason is reason for record in self.fault_history) for reason in FaultReason}

    def get_fault_reason_breakdown(self) -> dict[FaultReason, int]:
        return self.fault_breakdown()
