"""The mutation log and the metrics of a session, read from the fold when they are asked for."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Final

from pagekeeper.core import events as ev
from pagekeeper.core.effects import Admitted, Compressed, Evicted, RecordedEffect
from pagekeeper.core.session import Session
from pagekeeper.memory.models import (
    Actor,
    CompressionLevel,
    FaultMetrics,
    MutationType,
    StorageTier,
    VMMetrics,
)
from pagekeeper.memory.mutation_log import MutationLogLite, TurnContext
from pagekeeper.memory.page_table import PageTable
from pagekeeper.memory.session_log import SessionLog

MUTATIONS_MAX: Final = 10_000
"""Of a session's log, what is remembered one by one; contexts of turns are folded, of any turn."""


class SessionMutationLog(MutationLogLite):
    """The mutations of a session's pages and the context of each turn: derived from the fold, never recorded.

    The last `MUTATIONS_MAX` mutations are remembered one by one. A turn's context is the fold that stops at its end.
    """

    def __init__(self, log: SessionLog) -> None:
        super().__init__(log.session_id, MUTATIONS_MAX)
        self._log = log
        self._left: deque[str] = deque(maxlen=MUTATIONS_MAX)
        self.tokens_saved = 0
        log.listeners.append(self._hear)

    def get_context_at_turn(self, turn: int) -> TurnContext:
        """The pages in the prompt at the end of that turn, in the order in which they came there.

        Raises RevisionNotFound when the turn has not begun.
        """
        return TurnContext(resident.page_id for resident in self._log.at_turn(turn).working_set)

    def replay(self, until_turn: int) -> dict[str, StorageTier]:
        """The tier of every page at the end of that turn. Raises RevisionNotFound."""
        then = self._log.at_turn(until_turn)
        return {page.page_id: then.tier(page) for page in then.mapped_pages()}

    def evicted_since_asked(self) -> list[str]:
        left = list(self._left)
        self._left.clear()
        return left

    def _hear(self, transaction: ev.Transaction, effects: Sequence[RecordedEffect]) -> None:
        session, at = self._log.session, datetime.fromtimestamp(transaction.written_unix_ms / 1_000, UTC)
        admitted = {what.page_id for one in effects if isinstance(what := one.what, Admitted)}
        for event in transaction.events:
            for page_id, kind, cause in _said(event):
                page = session.page(page_id)
                tier = StorageTier.L0 if page_id in admitted else StorageTier.L2 if page is None else session.tier(page)
                before = None if kind is MutationType.CREATE else tier
                self._log_mutation(kind, page_id, session.turn, before, tier, cause=cause, timestamp=at)
        for effect in effects:
            self._hear_effect(effect, _cause(transaction), at)

    def _hear_effect(self, effect: RecordedEffect, cause: str, at: datetime) -> None:
        l0, l2 = StorageTier.L0, StorageTier.L2
        match effect.what:
            case Evicted(page_id):
                self._left.append(page_id)
                self._log_mutation(MutationType.EVICT, page_id, effect.turn, l0, l2, cause=cause, timestamp=at)
            case Compressed(page_id, _, level, freed_tokens):
                self.tokens_saved += freed_tokens
                cause = f"compress_{CompressionLevel(level).name.lower()}"
                self._log_mutation(MutationType.COMPRESS, page_id, effect.turn, l0, l0, cause=cause, timestamp=at)
            case Admitted(page_id, faulted=True):
                kind, actor = MutationType.FAULT_IN, Actor.MODEL
                self._log_mutation(kind, page_id, effect.turn, l2, l0, actor=actor, cause=cause, timestamp=at)
            case _:
                pass


def metrics_of(session: Session, table: PageTable, log: SessionMutationLog) -> VMMetrics:
    """Counted so far, and what is true now."""
    counted = table.get_stats()
    this_turn = Counter(mutation.mutation_type for mutation in log.get_mutations_in_turn(session.turn))
    return VMMetrics(
        max_faults_per_turn=session.config.max_faults_per_turn,
        faults_total=session.faults_total,
        faults_this_turn=session.counters.faults_this_turn,
        evictions_total=session.counters.evictions_total,
        evictions_this_turn=this_turn[MutationType.EVICT],
        compressions_total=session.counters.compressions_total,
        compressions_this_turn=this_turn[MutationType.COMPRESS],
        tokens_saved_by_compression=log.tokens_saved,
        tokens_in_working_set=session.working_set.used_tokens,
        tokens_available=max(0, session.config.limit_tokens - session.working_set.used_tokens),
        pages_by_tier=counted.pages_by_tier,
        pages_by_modality=counted.pages_by_modality,
    )


def fault_metrics_of(session: Session) -> FaultMetrics:
    """Faults so far, and what is left of the turn's."""
    limit, counters = session.config.max_faults_per_turn, session.counters
    left = max(0, limit - counters.faults_this_turn)
    return FaultMetrics(
        faults_this_turn=counters.faults_this_turn,
        max_faults_per_turn=limit,
        faults_remaining=left,
        can_fault=left > 0,
        total_faults=session.faults_total,
        tokens_used_this_turn=counters.fault_tokens_this_turn,
        faults_by_reason=dict(session.faults_by_reason),
    )


def _said(event: ev.Event) -> Iterator[tuple[str, MutationType, str]]:
    """List the mutations that an event names itself; its consequences for the prompt are its effects."""
    match event:
        case ev.PagesMapped(pages):
            for page in pages:
                yield page.page_id, MutationType.CREATE if page.version == 1 else MutationType.UPDATE, "said"
        case ev.PagesUnmapped(page_ids):
            yield from ((page_id, MutationType.DELETE, "deleted") for page_id in page_ids)
        case ev.PagesPinned(page_ids):
            yield from ((page_id, MutationType.PIN, "explicit_pin") for page_id in page_ids)
        case ev.PagesUnpinned(page_ids):
            yield from ((page_id, MutationType.UNPIN, "explicit_unpin") for page_id in page_ids)
        case _:
            return


def _cause(transaction: ev.Transaction) -> str:
    """Why pages moved, in a word."""
    for event in transaction.events:
        match event:
            case ev.WorkingSetRestored(checkpoint_id):
                return "restore_checkpoint" if checkpoint_id else "requested"
            case ev.PageAdmitted(prefetched=prefetched):
                return "prefetch" if prefetched else "page_fault"
            case _:
                pass
    return "eviction_pressure"
