"""The mutations of pages, in order, from which it is answered later what was in context, and why.

Invariant: the log is only appended to. The context of a turn is what replaying the mutations up to the turn's end
leaves in L0. A bounded log forgets its oldest mutations into the tiers that they led to, and refuses to say anything of
turns before what it remembers. A `MemoryManager` has such a log as a view of its session.
"""

from collections import Counter, deque
from typing import Any, Final

from pydantic import Field

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import Actor, MutationLogSummary, MutationType, PageMutation, StorageTier
from pagekeeper.memory.models.strict import StrictModel

__all__ = ["ContextDiff", "MutationLogLite", "TurnContext"]

_COUNTER_OF: Final = {
    MutationType.CREATE: "creates",
    MutationType.FAULT_IN: "faults",
    MutationType.EVICT: "evictions",
    MutationType.COMPRESS: "compressions",
    MutationType.PIN: "pins",
    MutationType.UNPIN: "unpins",
    MutationType.UPDATE: "updates",
    MutationType.DELETE: "deletes",
}


class TurnContext(list[str]):
    """The ids of the pages in L0 at the end of a turn."""

    @property
    def l0_pages(self) -> list[str]:
        return list(self)


class ContextDiff(StrictModel):
    """The pages that entered, left and stayed from one turn to another, in the order of the turn that has them."""

    turn_before: int
    turn_after: int
    entered: list[str] = Field(default_factory=list)
    left: list[str] = Field(default_factory=list)
    stayed: list[str] = Field(default_factory=list)


@checked
class MutationLogLite:
    """`max_entries` bounds the number of mutations that are remembered; None remembers all."""

    def __init__(self, session_id: str = "", max_entries: int | None = None) -> None:
        if max_entries is not None and max_entries < 1:
            raise ValueError(f"max_entries must be positive, not {max_entries}")
        self.session_id = session_id
        self.max_entries = max_entries
        self._mutations: deque[PageMutation] = deque()
        self._forgotten_tiers: dict[str, StorageTier] = {}
        self._forgotten_turn: int | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._mutations):,} mutations)"

    def append(self, mutation: PageMutation) -> None:
        self._mutations.append(mutation)
        if self.max_entries is not None and len(self._mutations) > self.max_entries:
            forgotten = self._mutations.popleft()
            _apply(self._forgotten_tiers, forgotten)
            self._forgotten_turn = max(forgotten.turn, self._forgotten_turn or 0)

    def log_create(
        self,
        page_id: str,
        turn: int,
        tier: StorageTier | str,
        actor: Actor = Actor.SYSTEM,
        cause: str | None = None,
    ) -> PageMutation:
        return self._log_mutation(MutationType.CREATE, page_id, turn, None, tier, actor=actor, cause=cause)

    def log_evict(
        self,
        page_id: str,
        turn: int,
        tier_before: StorageTier | str,
        tier_after: StorageTier | str,
        cause: str | None = None,
        actor: Actor = Actor.SYSTEM,
    ) -> PageMutation:
        return self._log_mutation(MutationType.EVICT, page_id, turn, tier_before, tier_after, actor=actor, cause=cause)

    def log_fault(
        self,
        page_id: str,
        turn: int,
        tier_before: StorageTier | str,
        tier_after: StorageTier | str,
        cause: str | None = None,
        actor: Actor = Actor.MODEL,
    ) -> PageMutation:
        return self._log_mutation(
            MutationType.FAULT_IN, page_id, turn, tier_before, tier_after, actor=actor, cause=cause
        )

    def get_context_at_turn(self, turn: int) -> TurnContext:
        """The pages in L0 at the end of that turn, in the order in which they came there. Raises LookupError."""
        return TurnContext(page_id for page_id, tier in self.replay(turn).items() if tier is StorageTier.L0)

    def replay(self, until_turn: int) -> dict[str, StorageTier]:
        """The tier of every page at the end of that turn, pages that moved last at the end.

        Raises LookupError when the log no longer remembers that turn.
        """
        if self._forgotten_turn is not None and until_turn < self._forgotten_turn:
            raise LookupError(
                f"turn {until_turn} is forgotten: what is remembered begins in turn {self._forgotten_turn}"
            )
        tiers = dict(self._forgotten_tiers)
        for mutation in self._mutations:
            if mutation.turn <= until_turn:
                _apply(tiers, mutation)
        return tiers

    def diff(self, turn_before: int, turn_after: int) -> ContextDiff:
        """The difference between the contexts of two turns. Raises LookupError as `get_context_at_turn`."""
        before, after = self.get_context_at_turn(turn_before), self.get_context_at_turn(turn_after)
        was_there, is_there = set(before), set(after)
        return ContextDiff(
            turn_before=turn_before,
            turn_after=turn_after,
            entered=[page_id for page_id in after if page_id not in was_there],
            left=[page_id for page_id in before if page_id not in is_there],
            stayed=[page_id for page_id in after if page_id in was_there],
        )

    def get_page_history(self, page_id: str) -> list[PageMutation]:
        return [mutation for mutation in self._mutations if mutation.page_id == page_id]

    def get_mutations_in_turn(self, turn: int) -> list[PageMutation]:
        return [mutation for mutation in self._mutations if mutation.turn == turn]

    def get_all_mutations(self) -> list[PageMutation]:
        return list(self._mutations)

    def get_stats(self) -> MutationLogSummary:
        """Counts of the mutations that are remembered."""
        counted = Counter(mutation.mutation_type for mutation in self._mutations)
        return MutationLogSummary(
            total_mutations=len(self._mutations),
            unique_pages=len({mutation.page_id for mutation in self._mutations}),
            **{counter: counted[kind] for kind, counter in _COUNTER_OF.items()},
        )

    def _log_mutation(
        self,
        kind: MutationType,
        page_id: str,
        turn: int,
        before: StorageTier | str | None,
        after: StorageTier | str,
        **facts: Any,  # noqa: ANN401 - the mutation's other fields
    ) -> PageMutation:
        known = None if before is None else StorageTier(before)
        mutation = PageMutation(
            page_id=page_id,
            turn=turn,
            mutation_type=kind,
            tier_before=known,
            tier_after=StorageTier(after),
            **facts,
        )
        self.append(mutation)
        return mutation


def _apply(tiers: dict[str, StorageTier], mutation: PageMutation) -> None:
    if mutation.mutation_type is MutationType.DELETE:
        tiers.pop(mutation.page_id, None)
    elif tiers.get(mutation.page_id) is not mutation.tier_after:
        tiers.pop(mutation.page_id, None)
        tiers[mutation.page_id] = mutation.tier_after
