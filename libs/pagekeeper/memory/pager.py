"""Pages that come back: by the model's fault, by what a message calls for, by a guess, and from a checkpoint."""

from collections.abc import Callable, Sequence

from pagekeeper.core.errors import CheckpointNotFound
from pagekeeper.memory.artifacts_bridge import ArtifactsBridge, StorageBackend
from pagekeeper.memory.compressor import CompressorRegistry
from pagekeeper.memory.demand_paging import DemandPagingMode, DemandPagingPrePass
from pagekeeper.memory.eviction_policy import EvictionPolicy
from pagekeeper.memory.fault_handler import PageFaultHandler
from pagekeeper.memory.models import (
    Actor,
    CompressionLevel,
    FaultPolicy,
    FaultReason,
    FaultResult,
    MemoryPage,
    MutationType,
    SearchResult,
    StorageTier,
)
from pagekeeper.memory.prefetcher import SimplePrefetcher
from pagekeeper.memory.residency import Residency
from pagekeeper.memory.working_set import WorkingSetConfig


class Pager(Residency):
    """A residency with the ways back into it. Of the turn's faults, the model alone spends any."""

    def __init__(  # noqa: PLR0913 - its collaborators
        self,
        session_id: str,
        config: WorkingSetConfig | None,
        fault_policy: FaultPolicy | None,
        eviction_policy: EvictionPolicy | str | None,
        compressor_registry: CompressorRegistry | None,
        *,
        storage: ArtifactsBridge | None,
        count: Callable[[str], int],
        demand_paging: DemandPagingMode,
    ) -> None:
        super().__init__(session_id, config, eviction_policy, compressor_registry, storage, count)
        self._fault_policy = fault_policy or FaultPolicy()
        self._fault_handler = PageFaultHandler(
            page_table=self._page_table,
            policy=self._fault_policy,
            tlb=self._tlb,
            loader=self,
            compressor=compressor_registry,
            metrics=self._metrics,
            max_page_tokens=self._working_set.budget.usable,
        )
        self._pre_pass = DemandPagingPrePass(mode=demand_paging)
        self._prefetcher = SimplePrefetcher(similar=self._search_handler.similar)

    @property
    def fault_handler(self) -> PageFaultHandler:
        return self._fault_handler

    # Faults

    async def handle_fault(
        self,
        page_id: str,
        target_level: int = CompressionLevel.ABSTRACT,
        reason: FaultReason = FaultReason.RESOLVE_REFERENCE,
    ) -> FaultResult:
        """Bring a page into the prompt for the model; a page that is there at that level costs no fault."""
        result, _ = await self._fault(page_id, target_level, reason)
        return result

    async def demand_pre_pass(self, user_message: str) -> list[str]:
        """Bring in what the message calls for, before the model has to ask; the answer is who came."""
        return await self._fetch_ahead(
            self._pre_pass.get_prefetch_candidates(
                message=user_message,
                page_table=self._page_table,
                page_hints=self._search_handler.page_hints,
                working_set_ids=set(self._working_set.get_l0_page_ids()),
                search=self._search_handler,
            )
        )

    async def prefetch(self) -> list[str]:
        """Bring in what this turn is likely to need by what earlier ones needed; the answer is who came."""
        return await self._fetch_ahead(
            await self._prefetcher.prefetch_on_turn_start(self._session_id, self._page_table)
        )

    async def search_pages(self, query: str, modality: str | None = None, limit: int = 5) -> SearchResult:
        """Pages by relevance to words, in the prompt or not."""
        return await self._search_handler.search(query, modality, limit)

    def set_last_segment_summary(self, page_id: str) -> None:
        """Have this page fetched ahead: it says what the last segment was about."""
        self._prefetcher.set_last_segment_summary(page_id)

    # Storage

    async def configure_bridge(
        self, artifact_store: StorageBackend | None = None, session_id: str | None = None
    ) -> None:
        """Store pages there from now on. Pages that were only stored move along."""
        async with self._lock:
            await self._move_storage(artifact_store, session_id or self._session_id)

    async def checkpoint(self, name: str) -> str:
        """Store what is in the prompt under a name; the answer is the checkpoint's id."""
        return await self._storage.checkpoint(pages=self.get_l0_pages(), name=name)

    async def restore_checkpoint(self, checkpoint_id: str) -> list[MemoryPage]:
        """Have in the prompt what was in it, and only that. Pinned pages stay. Raises CheckpointNotFound."""
        if await self._storage.get_checkpoint_manifest(checkpoint_id) is None:
            raise CheckpointNotFound(checkpoint_id)
        pages = await self._storage.restore_checkpoint(checkpoint_id)
        restored = {page.page_id for page in pages}
        async with self._lock:
            for page_id in self._working_set.get_l0_page_ids():
                if page_id not in restored and page_id not in self._kept():
                    await self._evict(page_id, StorageTier.L2, "restore_checkpoint")
            for page in pages:
                await self._place(page)
        return pages

    # Underneath

    async def _move_storage(self, artifact_store: StorageBackend | None, session_id: str) -> None:
        stored = [entry for entry in self._page_table.entries.values() if entry.artifact_id is not None]
        moving = {entry.page_id: await self.load(entry.page_id, entry.tier, entry.artifact_id) for entry in stored}
        await self._storage.configure(artifact_store, session_id)
        for page_id, page in moving.items():
            if page is not None:
                page.full.artifact_id = await self._storage.store_page(page.full, page.storage_tier)
                self._page_table.update_location(page_id, page.storage_tier, page.full.artifact_id)

    async def _fault(self, page_id: str, target_level: int, reason: FaultReason) -> tuple[FaultResult, list[str]]:
        """The page or why not, and who left for it."""
        resident = self._working_set.get_page(page_id) if self._working_set.is_in_l0(page_id) else None
        if resident is not None and resident.compression_level <= target_level:
            self._working_set.record_access(page_id)
            self._page_table.mark_accessed(page_id)
            self._prefetcher.record_page_access(page_id)
            return FaultResult(success=True, page=resident, source_tier=StorageTier.L0), []
        result = await self._fault_handler.handle_fault(page_id, target_level, reason)
        if result.success:
            self._prefetcher.record_page_access(page_id)
        return result, await self._bring_in(result, Actor.MODEL, "page_fault") or []

    async def _bring_in(self, result: FaultResult, actor: Actor, cause: str) -> list[str] | None:
        """Put a page that was found into the prompt: who left for it, or None when it is not there."""
        if result.page is None:
            return None
        before = self._tier_of(result.page.page_id)
        self._working_set.record_fault(result.page.page_id)
        result.page.size_tokens = None
        async with self._lock:
            placed, evicted = await self._place(result.page)
        if not placed:
            return None
        self._log(result.page.page_id, MutationType.FAULT_IN, before, StorageTier.L0, cause, actor)
        return evicted

    async def _fetch_ahead(self, page_ids: Sequence[str]) -> list[str]:
        """Bring in the first of these that are not there, word for word: no more than a turn may have faults."""
        absent = [page_id for page_id in page_ids if not self._working_set.is_in_l0(page_id)]
        brought = []
        for page_id in absent[: self._fault_policy.max_faults_per_turn]:
            result = await self._fault_handler.prefetch(page_id, CompressionLevel.FULL)
            if await self._bring_in(result, Actor.SYSTEM, "prefetch") is not None:
                brought.append(page_id)
        self._prefetcher.record_prefetched(brought)
        return brought
