"""Pages of a session in this process: how they come into the prompt, leave it, and come back.

Every change is an event of the session that the core folds (`ProcessSession`), and every answer a view of it. Of the
turn's faults, the model alone spends any.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.errors import (
    FaultLimitReached,
    FaultTokensExceeded,
    LevelUnavailable,
    PageNotFound,
)
from pagekeeper.core.pages import PageState
from pagekeeper.core.recall_intent import RecallIntent, recall_intent_of, recall_room
from pagekeeper.core.search import SearchFilter
from pagekeeper.core.session import Session
from pagekeeper.memory.application_pages import ApplicationPages, levels_by
from pagekeeper.memory.artifacts_bridge import ArtifactsBridge, InMemoryBackend, StorageBackend
from pagekeeper.memory.compressor import CompressionResult, CompressorRegistry
from pagekeeper.memory.embedder import shared_embedder
from pagekeeper.memory.models import (
    CompressionLevel,
    FaultMetrics,
    FaultPolicy,
    FaultReason,
    FaultResult,
    MemoryPage,
    MessageRole,
    Modality,
    PageType,
    SearchResult,
    SearchResultEntry,
    StorageTier,
    VMMetrics,
)
from pagekeeper.memory.page_table import PageTable
from pagekeeper.memory.prefetcher import SimplePrefetcher
from pagekeeper.memory.process_prompts import ProcessPrompts
from pagekeeper.memory.process_session import Faulted, ProcessSession, compressed
from pagekeeper.memory.session_log import SessionLog
from pagekeeper.memory.session_views import SessionMutationLog, fault_metrics_of, metrics_of
from pagekeeper.memory.working_set import WorkingSetConfig, WorkingSetManager, of_session

REFUSALS: Final = (PageNotFound, FaultLimitReached, FaultTokensExceeded, LevelUnavailable)
"""Of a fault: what a model or an application can do something about."""


class Pager:
    """`log` is the session; `config` and `fault_policy` are what its settings were made of."""

    def __init__(
        self,
        log: SessionLog,
        config: WorkingSetConfig,
        fault_policy: FaultPolicy,
        compressor_registry: CompressorRegistry | None,
        storage: ArtifactsBridge | None,
        count: Callable[[str], int] | None,
    ) -> None:
        self._log = log
        self._own_compressors = (
            None if compressor_registry is None or compressor_registry.is_default else compressor_registry
        )
        self._own_count = count
        own = self._own_compressors is not None
        self._process = ProcessSession(log, shared_embedder, None if own else compressed, count)
        self._prompts = ProcessPrompts(self._process)
        self._application = ApplicationPages(self._process)
        self._turn_is_due = False
        self._fault_policy = fault_policy
        self.page_table = PageTable(log)
        self.working_set = WorkingSetManager(of_session(config, log.session.config), pages=self)
        self.mutation_log = SessionMutationLog(log)
        self._prefetcher = SimplePrefetcher(similar=self._similar)
        self._storage = storage or ArtifactsBridge(InMemoryBackend(), log.session_id)
        self._stored_elsewhere = storage is not None
        self._used_this_turn: dict[str, None] = {}

    @property
    def session(self) -> Session:
        """The state that the core folded, of which everything here is a view."""
        self._begin_due_turn()
        return self._log.session

    @property
    def folded(self) -> Session:
        """The state, without the turn that is due."""
        return self._log.session

    @property
    def session_id(self) -> str:
        return self._log.session_id

    @property
    def turn(self) -> int:
        return self._log.session.turn + self._turn_is_due

    @property
    def metrics(self) -> VMMetrics:
        """Counted so far, and what is true now."""
        return metrics_of(self.session, self.page_table, self.mutation_log)

    def fault_metrics(self) -> FaultMetrics:
        return fault_metrics_of(self.session)

    # Pages

    def create_page(  # noqa: PLR0913, PLR0917 - the guide's signature
        self,
        content: object,
        page_type: PageType = PageType.TRANSCRIPT,
        modality: Modality = Modality.TEXT,
        importance: float = 0.5,
        provenance: Sequence[str] = (),
        page_id: str | None = None,
        size_tokens: int | None = None,  # noqa: ARG002 - the guide's: a page takes what its line takes
        hint: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> MemoryPage:
        """A page of the session, in the prompt when there is room for it; in place of the page of that id, if any.

        Raises InvalidField when a line cannot show `page_id`, or another kind of page has it.
        """
        page = MemoryPage(
            page_id=page_id or "",
            content=content,
            page_type=page_type,
            modality=modality,
            importance=importance,
            provenance=list(provenance),
            metadata=dict(metadata or {}),
        )
        return self._mapped(page, hint=hint or "")

    def update_page(self, page_id: str, content: object) -> MemoryPage:
        """Have the page say something else from now on; its line keeps its place. Raises PageNotFound."""
        before = self._application.of_state(decisions.known_page(self.session, page_id), 0)
        return self._mapped(before.model_copy(update={"content": content}))

    def delete_page(self, page_id: str) -> bool:
        """Drop the page from prompt, search and table; whether there was one. Its id is free again."""
        if self.session.page(page_id) is None:
            return False
        self._log.commit(decisions.unmap(self._log.session, [page_id]))
        return True

    async def get_page(self, page_id: str) -> MemoryPage | None:
        """The page as the prompt has it, or whole when it is not there; None when there is none. The prompt stays."""
        return self._application.page(page_id)

    def get_l0_pages(self) -> list[MemoryPage]:
        """List the pages in the prompt, in the order in which they came there."""
        pages = (self._application.page(resident.page_id) for resident in self.session.working_set)
        return [page for page in pages if page is not None]

    # The prompt

    async def add_to_working_set(self, page: MemoryPage) -> bool:
        """Have the page in the prompt, making room; False when it cannot fit, and it stays one fault away."""
        placed = self.place(page)
        await self._compress_by_own()
        return placed

    def place(self, page: MemoryPage) -> bool:
        session = self.session
        known = session.page(page.page_id)
        if known is None or self._says_something_else(known, page):
            self._mapped(page)
        elif page.page_id not in session.working_set:
            try:
                self._process.fault(page.page_id, CompressionLevel.FULL, FaultReason.SPECULATIVE, prefetched=True)
            except LevelUnavailable:
                return False
        resident = page.page_id in session.working_set
        page.storage_tier = StorageTier.L0 if resident else StorageTier.L2
        return resident

    async def check_and_evict(self) -> list[str]:
        """List the pages that left the prompt since the last call. Pages leave when others come: none leaves here."""
        await self._compress_by_own()
        return self.mutation_log.evicted_since_asked()

    async def evict_page(self, page_id: str, target_tier: StorageTier = StorageTier.L2) -> bool:  # noqa: ARG002 - the guide's: contents stay where they are
        """Have a page leave the prompt; False when it is not there, or is pinned."""
        session = self.session
        page = session.page(page_id)
        if page is None or page_id not in session.working_set or session.is_pinned(page):
            return False
        self._process.release([page_id])
        return True

    async def evict_segment_pages(self, target_tier: StorageTier = StorageTier.L2) -> list[str]:  # noqa: ARG002 - likewise
        """Have everything leave the prompt that is neither pinned nor a claim; the answer is who left."""
        session = self.session
        pages = [session.pages[resident.page_id] for resident in session.working_set]
        leaving = [
            page.page_id for page in pages if not session.is_pinned(page) and page.page_type is not PageType.CLAIM
        ]
        if leaving:
            self._process.release(leaving)
        return leaving

    async def compress_page(self, page_id: str, target_level: CompressionLevel) -> CompressionResult | None:
        """Have a page of the prompt at a lower level, where it has one that is shorter; None when it is not there."""
        session = self.session
        resident = session.working_set.get(page_id)
        if resident is None:
            return None
        if len(session.pages[page_id].current.representations) == 1:
            self._process.compress([page_id])
            await self._compress_by_own([page_id])
        before = self._application.of_state(session.pages[page_id])
        lower = session.pages[page_id].current.nearest(target_level)
        if lower.level > resident.level and lower.size_tokens < resident.size_tokens:
            self._process.lower(page_id, lower.level)
        after = self._application.of_state(session.pages[page_id])
        return CompressionResult(
            page=after,
            original_tokens=before.estimate_tokens(),
            compressed_tokens=after.estimate_tokens(),
            level_before=before.compression_level,
            level_after=after.compression_level,
        )

    def pin_page(self, page_id: str) -> None:
        """Keep the page in the prompt. Raises PageNotFound, PinBudgetExceeded."""
        self._log.commit(decisions.pin(self.session, [page_id]))

    def unpin_page(self, page_id: str) -> None:
        self._log.commit(decisions.unpin(self.session, [page_id]))

    def set_importance(self, page_id: str, importance: float) -> None:
        """From 0 to 1: how much the page is missed when it is gone. Raises PageNotFound."""
        self._log.commit(decisions.set_importance(self.session, page_id, max(0.0, min(1.0, importance))))

    # Faults

    async def handle_fault(
        self,
        page_id: str,
        target_level: int = CompressionLevel.ABSTRACT,
        reason: FaultReason = FaultReason.RESOLVE_REFERENCE,
    ) -> FaultResult:
        """Bring a page into the prompt for the model; a page that is there at that level costs no fault."""
        if target_level not in tuple(CompressionLevel):
            return FaultResult(success=False, error=f"target_level must be 0 to 3, not {target_level}")
        if not self._fault_policy.allows(reason):
            return FaultResult(success=False, error=f"Not sure enough that the page is needed: {reason.value}")
        try:
            faulted = self.fault(page_id, target_level, reason)
        except REFUSALS as refused:
            return FaultResult(success=False, error=refused.message)
        return FaultResult(
            success=True,
            page=self._application.of_state(faulted.page, faulted.representation.level),
            requested_level=CompressionLevel(target_level),
            source_tier=faulted.source_tier,
            was_compressed=faulted.representation.level > 0,
        )

    def fault(self, page_id: str, target_level: int, reason: FaultReason) -> Faulted:
        """Raises PageNotFound, FaultLimitReached, FaultTokensExceeded, LevelUnavailable."""
        self._begin_due_turn()
        faulted = self._process.fault(page_id, target_level, reason)
        if faulted.promoted:
            self.note_use([page_id])
        return faulted

    async def demand_pre_pass(self, user_message: str) -> list[str]:
        """Bring in what a message calls for before the model has to ask; the answer is who came.

        A request recalls by itself, for that one prompt: this is for who makes prompts of the pages in it.
        """
        config = self.session.config
        intent = recall_intent_of(user_message)
        if config.demand_paging is ev.DemandPaging.MODEL or intent is RecallIntent.NONE:
            return []
        room_tokens = recall_room(intent, config.max_l0_tokens, config.max_fault_tokens_per_turn)
        recalled = self._process.recall(user_message, room_tokens, residents_placed=True)
        brought = self._fetch([one.page.page_id for one in recalled.pages if not one.resident])
        self.note_use(brought)
        return brought

    async def prefetch(self) -> list[str]:
        """Bring in what this turn is likely to need by what earlier ones needed; the answer is who came."""
        brought = self._fetch(await self._prefetcher.prefetch_on_turn_start(self.session_id, self.page_table))
        self._prefetcher.record_prefetched(brought)
        return brought

    def record_tool_call(self, tool_name: str) -> None:
        """A tool of the application was called: what was used in this turn before is what it needs."""
        self._prefetcher.record_tool_call(tool_name, self.turn, self._used_this_turn)

    def note_use(self, page_ids: Sequence[str]) -> None:
        """Note that pages were used: faulted in, called for by the user's words, or cited. A guess of one came true."""
        for page_id in page_ids:
            if self.session.page(page_id) is not None:
                self._prefetcher.record_page_access(page_id)
                self._used_this_turn[page_id] = None

    async def search_pages(self, query: str, modality: str | None = None, limit: int = 5) -> SearchResult:
        """Pages by relevance to words, in the prompt or not. A modality that does not exist has no pages."""
        session = self.session
        if modality is not None and modality not in tuple(Modality):
            return SearchResult(total_available=session.pages.mapped_total)
        where = SearchFilter(modality=None if modality is None else Modality(modality))
        results = [SearchResultEntry(**asdict(one)) for one in self._process.search(query, limit, where)]
        return SearchResult(results=results, total_available=self._process.searched(where))

    def set_last_segment_summary(self, page_id: str) -> None:
        """Have this page fetched ahead: it says what the last segment was about."""
        self._prefetcher.set_last_segment_summary(page_id)

    # Checkpoints

    async def configure_bridge(
        self, artifact_store: StorageBackend | None = None, session_id: str | None = None
    ) -> None:
        """Store checkpoints there from now on, so that another process can restore them."""
        await self._storage.configure(artifact_store, session_id or self.session_id)
        self._stored_elsewhere = artifact_store is not None

    # Underneath

    def _mapped(self, page: MemoryPage, *, hint: str = "", tool_name: str | None = None) -> MemoryPage:
        replaces = bool(page.page_id) and self.folded.page(page.page_id) is not None
        if page.metadata.get("role") == MessageRole.USER and not replaces:
            self.begin_turn_with_words()
        self._begin_due_turn()
        new = self._application.new(page, hint=hint, replaces=replaces, tool_name=tool_name)
        [state] = self._process.append(new)
        self._application.note(state.page_id, page)
        return self._application.of_state(state)

    def _says_something_else(self, known: PageState, page: MemoryPage) -> bool:
        new = self._application.new(page, replaces=True)
        return new.mapped.full.digest != known.current.full.digest and page.compression_level is CompressionLevel.FULL

    def begin_turn_with_words(self) -> None:
        """The page that is said now begins the turn that is due, if one is: the fold sees to it."""
        self._turn_is_due = False
        self._used_this_turn.clear()

    def begin_turn(self) -> None:
        self._begin_due_turn()
        self._turn_is_due = True

    def resident_page(self, page_id: str) -> MemoryPage | None:
        """The page as the prompt has it; None when it is not there."""
        return self._application.page(page_id) if page_id in self.session.working_set else None

    def release(self, page_ids: Sequence[str]) -> None:
        """Have these pages leave the prompt, pinned or not."""
        self._begin_due_turn()
        self._process.release(page_ids)

    def _begin_due_turn(self) -> None:
        if self._turn_is_due:
            self._turn_is_due = False
            self._used_this_turn.clear()
            self._log.commit(ev.TurnBegun())

    def _fetch(self, page_ids: Sequence[str]) -> list[str]:
        """Bring in the first of these that are not there, word for word: no more than a turn may have faults."""
        session = self.session
        absent = [page_id for page_id in page_ids if page_id not in session.working_set and session.page(page_id)]
        brought = []
        for page_id in absent[: session.config.max_faults_per_turn]:
            try:
                self._process.fault(page_id, CompressionLevel.FULL, FaultReason.SPECULATIVE, prefetched=True)
            except LevelUnavailable:
                continue
            brought.append(page_id)
        return brought

    def _similar(self, page_id: str, limit: int) -> list[str]:
        page = self.session.page(page_id)
        if page is None:
            return []
        found = self._process.search(f"{page.hint} {self._process.text(page)}", limit + 1)
        return [other.page_id for other in found if other.page_id != page_id][:limit]

    async def _compress_by_own(self, page_ids: Sequence[str] = ()) -> None:
        """Make lower levels by the application's compressors, of what the session has found worth it since."""
        if self._own_compressors is None:
            return
        for page_id in dict.fromkeys((*self._process.take_uncompressed(), *page_ids)):
            state = self._log.session.page(page_id)
            if state is None:
                continue
            made = await levels_by(self._own_compressors, self._application.of_state(state, 0), self._process.count)
            now = self._log.session.page(page_id)
            if now is not None and now.current_version == state.current_version:
                self._process.add_levels([(state, lower) for lower in made])
