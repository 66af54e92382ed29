"""The mutations of pages, in order, from which it is answered later what a model saw, and why.

Invariant: the log is only appended to. The context of a turn is what was recorded for it, or else what replaying the
mutations up to its end leaves in L0. A bounded log forgets its oldest mutations into the tiers that they led to, and
refuses to say anything of turns before what it remembers.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from pydantic import Field

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.clock import utc_now
from pagekeeper.memory.models import Actor, MutationLogSummary, MutationType, PageMutation, StorageTier
from pagekeeper.memory.models.strict import StrictModel

__all__ = ["ContextDiff", "ContextSnapshot", "MutationLogLite"]


@checked
class ContextSnapshot(StrictModel):
    """The pages that were in context in a turn, in their order."""

    turn: int
    page_ids: list[str] = Field(default_factory=list)
    timestamp: datetime = Field(default_factory=utc_now)

    @property
    def l0_pages(self) -> list[str]:
        return self.page_ids


class TurnContext(list[str]):
    """The ids of the pages in L0 in a turn."""

    @property
    def l0_pages(self) -> list[str]:
        return list(self)


@checked
class ContextDiff(StrictModel):
    """The pages that entered, left and stayed from one turn to another, in the order of the turn that has them."""

    turn_before: int
    turn_after: int
    entered: list[str] = Field(default_factory=list)
    left: list[str] = Field(default_factory=list)
    stayed: list[str] = Field(default_factory=list)


@checked
class MutationLogLite:
    """`max_entries` bounds what is remembered; without it, everything is."""

    def __init__(self, session_id: str = "", max_entries: int | None = None) -> None:
        if max_entries is not None and max_entries < 1:
            raise ValueError(f"max_entries must be positive, not {max_entries}")
        self.session_id = session_id
        self.max_entries = max_entries
        self._mutations: deque[PageMutation] = deque()
        self._snapshots: dict[int, ContextSnapshot] = {}
        self._forgotten_tiers: dict[str, StorageTier] = {}
        self._forgotten_turn: int | None = None

    def append(self, mutation: PageMutation) -> None:
        self._mutations.append(mutation)
        if self.max_entries is not None and len(self._mutations) > self.max_entries:
            forgotten = self._mutations.popleft()
            _apply(self._forgotten_tiers, forgotten)
            self._forgotten_turn = max(forgotten.turn, self._forgotten_turn or 0)

    def record_mutation(
        self,
        page_id: str,
        mutation_type: MutationType,
        tier_after: StorageTier,
        tier_before: StorageTier | None = None,
        actor: Actor = Actor.SYSTEM,
        cause: str | None = None,
        turn: int = 0,
    ) -> PageMutation:
        mutation = PageMutation(
            page_id=page_id,
            turn=turn,
            mutation_type=mutation_type,
            tier_before=tier_before,
            tier_after=tier_after,
            actor=actor,
            cause=cause,
        )
        self.append(mutation)
        return mutation

    def log_create(
        self,
        page_id: str,
        turn: int,
        tier: StorageTier | str,
        actor: Actor = Actor.SYSTEM,
        cause: str | None = None,
    ) -> PageMutation:
        return self.record_mutation(page_id, MutationType.CREATE, StorageTier(tier), None, actor, cause, turn)

    def log_evict(
        self,
        page_id: str,
        turn: int,
        tier_before: StorageTier | str,
        tier_after: StorageTier | str,
        cause: str | None = None,
        actor: Actor = Actor.SYSTEM,
    ) -> PageMutation:
        before, after = StorageTier(tier_before), StorageTier(tier_after)
        return self.record_mutation(page_id, MutationType.EVICT, after, before, actor, cause, turn)

    def log_fault(
        self,
        page_id: str,
        turn: int,
        tier_before: StorageTier | str,
        tier_after: StorageTier | str,
        cause: str | None = None,
        actor: Actor = Actor.MODEL,
    ) -> PageMutation:
        before, after = StorageTier(tier_before), StorageTier(tier_after)
        return self.record_mutation(page_id, MutationType.FAULT_IN, after, before, actor, cause, turn)

    def record_context_at_turn(self, turn: int, page_ids: Sequence[str]) -> None:
        """Say what the context of a turn was; said again, the later counts."""
        self._snapshots[turn] = ContextSnapshot(turn=turn, page_ids=list(page_ids))

    def get_context_at_turn(self, turn: int) -> TurnContext:
        """The pages in L0 in that turn: as recorded, else at its end, in the order in which they came to L0.

        Raises LookupError when the log no longer remembers what led to them.
        """
        snapshot = self._snapshots.get(turn)
        if snapshot is not None:
            return TurnContext(snapshot.page_ids)
        tiers = self.replay(turn)
        return TurnContext(page_id for page_id, tier in tiers.items() if tier is StorageTier.L0)

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
        """How the context of one turn differs from that of another. Raises LookupError as `get_context_at_turn`."""
        before, after = self.get_context_at_turn(turn_before), self.get_context_at_turn(turn_after)
        was_there, is_there = set(before), set(after)
        return ContextDiff(
            turn_before=turn_before,
            turn_after=turn_after,
            entered=[page_id for page_id in after if page_id not in was_there],
            left=[page_id for page_id in before if page_id not in is_there],
            stayed=[page_id for page_id in after if page_id in was_there],
        )

    def get_history(self, page_id: str) -> list[PageMutation]:
        return [mutation for mutation in self._mutations if mutation.page_id == page_id]

    def get_page_history(self, page_id: str) -> list[PageMutation]:
        return self.get_history(page_id)

    def get_all_mutations(self) -> list[PageMutation]:
        return list(self._mutations)

    def get_mutations_by_actor(self, actor: Actor) -> list[PageMutation]:
        return [mutation for mutation in self._mutations if mutation.actor == actor]

    def get_mutations_by_type(self, mutation_type: MutationType) -> list[PageMutation]:
        return [mutation for mutation in self._mutations if mutation.mutation_type == mutation_type]

    def get_mutations_in_turn(self, turn: int) -> list[PageMutation]:
        return [mutation for mutation in self._mutations if mutation.turn == turn]

    def get_pages_created_in_turn(self, turn: int) -> list[str]:
        return list(self._pages_in_turn(turn, MutationType.CREATE))

    def get_pages_faulted_in_turn(self, turn: int) -> list[str]:
        return list(self._pages_in_turn(turn, MutationType.FAULT_IN))

    def get_pages_evicted_in_turn(self, turn: int) -> list[str]:
        return list(self._pages_in_turn(turn, MutationType.EVICT))

    def mutation_count(self) -> int:
        return len(self._mutations)

    def page_count(self) -> int:
        return len({mutation.page_id for mutation in self._mutations})

    def get_summary(self) -> MutationLogSummary:
        """Counts of what is remembered."""
        by_type = Counter(mutation.mutation_type for mutation in self._mutations)
        return MutationLogSummary(
            total_mutations=self.mutation_count(),
            unique_pages=self.page_count(),
            context_snapshots=len(self._snapshots),
            creates=by_type[MutationType.CREATE],
            faults=by_type[MutationType.FAULT_IN],
            evictions=by_type[MutationType.EVICT],
            compressions=by_type[MutationType.COMPRESS],
            pins=by_type[MutationType.PIN],
            unpins=by_type[MutationType.UNPIN],
            updates=by_type[MutationType.UPDATE],
            deletes=by_type[MutationType.DELETE],
        )

    def get_stats(self) -> MutationLogSummary:
        return self.get_summary()

    def clear(self) -> None:
        """Begin anew."""
        self._mutations.clear()
        self._snapshots.clear()
        self._forgotten_tiers.clear()
        self._forgotten_turn = None

    def _pages_in_turn(self, turn: int, mutation_type: MutationType) -> Iterator[str]:
        mutations: Iterable[PageMutation] = self.get_mutations_in_turn(turn)
        return (mutation.page_id for mutation in mutations if mutation.mutation_type == mutation_type)


def _apply(tiers: dict[str, StorageTier], mutation: PageMutation) -> None:
    if mutation.mutation_type is MutationType.DELETE:
        tiers.pop(mutation.page_id, None)
    elif tiers.get(mutation.page_id) is not mutation.tier_after:
        tiers.pop(mutation.page_id, None)
        tiers[mutation.page_id] = mutation.tier_after
