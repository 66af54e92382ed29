"""The guide's parts as views of one session: what they say is read from the fold when it is asked for.

A part that the guide has its reader make and fill (`PageTable`, `PageFaultHandler`, `MutationLogLite`) stands here over
a session instead. What changes the session goes through the memory that owns it;
what a table or a log of its own would be told, the session knows already.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NoReturn

from pagekeeper.core import events as ev
from pagekeeper.core.changes import pages_of
from pagekeeper.core.effects import Admitted, Compressed, Evicted, RecordedEffect
from pagekeeper.core.pages import PageState
from pagekeeper.core.session import Session
from pagekeeper.memory.fault_handler import PageFaultHandler
from pagekeeper.memory.models import (
    Actor,
    CompressionLevel,
    FaultMetrics,
    FaultPolicy,
    FaultReason,
    FaultResult,
    MutationType,
    PageMutation,
    PageTableEntry,
    StorageTier,
    VMMetrics,
)
from pagekeeper.memory.mutation_log import MutationLogLite, TurnContext
from pagekeeper.memory.page_table import PageTable
from pagekeeper.memory.session_log import SessionLog
from pagekeeper.memory.tlb import PageTLB

if TYPE_CHECKING:
    from pagekeeper.memory.pager import Pager

MUTATIONS_MAX: Final = 10_000
"""Of a session's log, what is remembered one by one; contexts of turns are folded, of any turn."""


class _Entries(Mapping[str, PageTableEntry]):
    """The mapped pages of a session, in the order in which they came."""

    def __init__(self, log: SessionLog) -> None:
        self._log = log

    def __getitem__(self, page_id: str) -> PageTableEntry:
        page = self._log.session.page(page_id)
        if page is None:
            raise KeyError(page_id)
        return _entry(self._log.session, page)

    def __iter__(self) -> Iterator[str]:
        return (page.page_id for page in self._log.session.mapped_pages())

    def __len__(self) -> int:
        return self._log.session.pages.mapped_total

    def values(self) -> list[PageTableEntry]:  # type: ignore[override] # each is made once
        session = self._log.session
        return [_entry(session, page) for page in session.mapped_pages()]


class SessionPageTable(PageTable):
    """The page table of a session: it is read; pages get into it by being said."""

    def __init__(self, log: SessionLog) -> None:
        super().__init__()
        self.entries = _Entries(log)  # type: ignore[assignment] # read alone
        log.listeners.append(self._shoot_down_changed)

    def register_entry(self, entry: PageTableEntry) -> None:
        _refuse("register_entry", "a page enters the table when it is created or said", entry.page_id)

    def remove(self, page_id: str) -> PageTableEntry | None:
        _refuse("remove", "`delete_page` of the memory drops a page", page_id)

    def update_location(
        self,
        page_id: str,
        tier: StorageTier,  # noqa: ARG002 - the table's signature
        artifact_id: str | None = None,  # noqa: ARG002 - likewise
        compression_level: CompressionLevel | None = None,  # noqa: ARG002 - likewise
    ) -> bool:
        _refuse("update_location", "a page moves by `handle_fault`, `evict_page` or `compress_page`", page_id)

    def update_compression(
        self,
        page_id: str,
        compression_level: CompressionLevel,  # noqa: ARG002 - likewise
        size_tokens: int | None = None,  # noqa: ARG002 - likewise
    ) -> bool:
        _refuse("update_compression", "`compress_page` of the memory shortens a page", page_id)

    def update_pinned(self, page_id: str, *, pinned: bool) -> bool:  # noqa: ARG002 - likewise
        _refuse("update_pinned", "`pin_page` and `unpin_page` of the memory pin", page_id)

    def mark_accessed(self, page_id: str) -> bool:
        return page_id in self.entries

    def mark_dirty(self, page_id: str) -> bool:
        return page_id in self.entries

    def mark_clean(self, page_id: str) -> bool:
        return page_id in self.entries

    def _shoot_down_changed(self, transaction: ev.Transaction, effects: Sequence[RecordedEffect]) -> None:
        touched = _touched(transaction, effects)
        if touched is None:
            for forget_all in self._flush:
                forget_all()
        else:
            for page_id in touched:
                self._changed(page_id)


class SessionFaults(PageFaultHandler):
    """The page faults of a session, with what is left of the turn's."""

    def __init__(self, pager: "Pager", log: SessionLog, policy: FaultPolicy) -> None:
        self._pager = pager
        self._log = log
        super().__init__(policy=policy)

    @property
    def faults_this_turn(self) -> int:
        return self._pager.session.counters.faults_this_turn

    @faults_this_turn.setter
    def faults_this_turn(self, _faults: int) -> NoReturn:
        raise TypeError("the turn's faults are counted by the session; `new_turn` gives them back")

    def can_fault(self) -> bool:
        return self.faults_this_turn < self._log.session.config.max_faults_per_turn

    def new_turn(self) -> None:
        self._pager.begin_turn()

    async def handle_fault(
        self,
        page_id: str,
        target_level: int = CompressionLevel.ABSTRACT,
        reason: FaultReason = FaultReason.RESOLVE_REFERENCE,
    ) -> FaultResult:
        return await self._pager.handle_fault(page_id, target_level, reason)

    def get_metrics(self) -> FaultMetrics:
        session = self._pager.session
        limit, counters = session.config.max_faults_per_turn, session.counters
        return FaultMetrics(
            faults_this_turn=counters.faults_this_turn,
            max_faults_per_turn=limit,
            faults_remaining=max(0, limit - counters.faults_this_turn),
            can_fault=self.can_fault(),
            total_faults=session.faults_total,
            tokens_used_this_turn=counters.fault_tokens_this_turn,
            tlb_hit_rate=self._pager.tlb.hit_rate,
            faults_by_reason=dict(session.faults_by_reason),
        )


@dataclass(frozen=True, slots=True)
class OfATurn:
    """How often it happened in one turn."""

    evictions: int
    compressions: int


class SessionMutationLog(MutationLogLite):
    """The mutations of a session's pages and the context of each turn: derived from the fold, never recorded.

    The last `MUTATIONS_MAX` mutations are remembered one by one. A turn's context is the fold that stops at its end.
    """

    def __init__(self, log: SessionLog) -> None:
        super().__init__(log.session_id, MUTATIONS_MAX)
        self._log = log
        self._left: deque[str] = deque(maxlen=MUTATIONS_MAX)
        self.evictions_total = self.tokens_saved = 0
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

    def this_turn(self) -> OfATurn:
        of_turn = self.get_mutations_in_turn(self._log.session.turn)
        kinds = [mutation.mutation_type for mutation in of_turn]
        return OfATurn(kinds.count(MutationType.EVICT), kinds.count(MutationType.COMPRESS))

    def _hear(self, transaction: ev.Transaction, effects: Sequence[RecordedEffect]) -> None:
        at = datetime.fromtimestamp(transaction.written_unix_ms / 1_000, UTC)
        session = self._log.session
        admitted = {what.page_id for one in effects if isinstance(what := one.what, Admitted)}
        for event in transaction.events:
            for page_id, kind, cause in _said(event):
                tier = _tier(session, page_id) if page_id not in admitted else StorageTier.L0
                self._note(page_id, kind, None if kind is MutationType.CREATE else tier, tier, cause, at)
        cause = _cause(transaction)
        for effect in effects:
            self._hear_effect(effect, cause, at)

    def _hear_effect(self, effect: RecordedEffect, cause: str, at: datetime) -> None:
        match effect.what:
            case Evicted(page_id):
                self.evictions_total += 1
                self._left.append(page_id)
                self._note(page_id, MutationType.EVICT, StorageTier.L0, StorageTier.L2, cause, at, effect.turn)
            case Compressed(page_id, _, level, freed_tokens):
                self.tokens_saved += freed_tokens
                cause = f"compress_{CompressionLevel(level).name.lower()}"
                self._note(page_id, MutationType.COMPRESS, StorageTier.L0, StorageTier.L0, cause, at, effect.turn)
            case Admitted(page_id, faulted=True):
                self._note(
                    page_id, MutationType.FAULT_IN, StorageTier.L2, StorageTier.L0, cause, at, effect.turn, Actor.MODEL
                )
            case _:
                pass

    def _note(  # noqa: PLR0913, PLR0917 - a mutation's facts
        self,
        page_id: str,
        kind: MutationType,
        before: StorageTier | None,
        after: StorageTier,
        cause: str,
        at: datetime,
        turn: int | None = None,
        actor: Actor = Actor.SYSTEM,
    ) -> None:
        self.append(
            PageMutation(
                page_id=page_id,
                timestamp=at,
                turn=self._log.session.turn if turn is None else turn,
                mutation_type=kind,
                tier_before=before,
                tier_after=after,
                actor=actor,
                cause=cause,
            )
        )


def metrics_of(session: Session, table: SessionPageTable, log: SessionMutationLog, tlb: PageTLB) -> VMMetrics:
    """Counted so far, and what is true now."""
    counted, this_turn = table.get_stats(), log.this_turn()
    return VMMetrics(
        max_faults_per_turn=session.config.max_faults_per_turn,
        faults_total=session.faults_total,
        faults_this_turn=session.counters.faults_this_turn,
        tlb_hits=tlb.hits,
        tlb_misses=tlb.misses,
        evictions_total=log.evictions_total,
        evictions_this_turn=this_turn.evictions,
        compressions_total=session.counters.compressions_total,
        compressions_this_turn=this_turn.compressions,
        tokens_saved_by_compression=log.tokens_saved,
        tokens_in_working_set=session.working_set.used_tokens,
        tokens_available=max(0, session.config.limit_tokens - session.working_set.used_tokens),
        pages_by_tier=counted.pages_by_tier,
        pages_by_modality=counted.pages_by_modality,
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


def _tier(session: Session, page_id: str) -> StorageTier:
    page = session.page(page_id)
    return StorageTier.L2 if page is None else session.tier(page)


def _touched(transaction: ev.Transaction, effects: Sequence[RecordedEffect]) -> set[str] | None:
    """The pages whose entries a transaction may have changed; None for any."""
    touched = {page_id for one in effects if (page_id := getattr(one.what, "page_id", None)) is not None}
    for event in transaction.events:
        named = pages_of(event)
        if named is None:
            return None
        touched.update(named)
    return touched


def _entry(session: Session, page: PageState) -> PageTableEntry:
    resident = session.working_set.get(page.page_id)
    level = resident.level if resident is not None else 0
    representation = page.current.at_least(level)
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


def _refuse(call: str, instead: str, page_id: str) -> NoReturn:
    raise TypeError(f"{call}({page_id!r}): this table is a view of a session; {instead}")
