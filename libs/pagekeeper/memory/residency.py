"""Pages of one session in this process: at hand, in the prompt, in storage, and on their way between the three.

It composes table, working set, storage and compressors. What it owns are the pages at hand; where a page is, what it
costs and who is pinned is asked of their owners.

Invariant: a page leaves L0 only when it is stored, and it leaves whole: what was shortened to stay is itself again.
Placing, shortening and evicting happen one at a time.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from uuid import uuid4

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import check_id
from pagekeeper.memory.artifacts_bridge import ArtifactsBridge, InMemoryBackend
from pagekeeper.memory.compressor import CompressionResult, CompressorRegistry
from pagekeeper.memory.context_packer import ContextPacker
from pagekeeper.memory.eviction_policy import EvictionPolicy, ImportanceWeightedLRU, NamedEvictionPolicy
from pagekeeper.memory.manifest import generate_simple_hint
from pagekeeper.memory.models import (
    Actor,
    CompressionLevel,
    MemoryPage,
    Modality,
    MutationType,
    PageType,
    StorageTier,
    VMMetrics,
)
from pagekeeper.memory.mutation_log import MutationLogLite
from pagekeeper.memory.page_table import PageTable
from pagekeeper.memory.page_view import line_of
from pagekeeper.memory.search_handler import PageSearchHandler
from pagekeeper.memory.tlb import PageTLB, TLBWithPageTable
from pagekeeper.memory.working_set import WorkingSetConfig, WorkingSetManager

ONLY_STORED: Final = frozenset({StorageTier.L3, StorageTier.L4})
"""Pages there are not kept at hand as well."""


class Residency:
    """`count` says how many tokens a text has. Without `storage`, evicted pages are stored in this process."""

    def __init__(
        self,
        session_id: str,
        config: WorkingSetConfig | None,
        eviction_policy: EvictionPolicy | str | None,
        compressor_registry: CompressorRegistry | None,
        storage: ArtifactsBridge | None,
        count: Callable[[str], int],
    ) -> None:
        self._session_id = session_id or str(uuid4())
        self._pages: dict[str, MemoryPage] = {}
        self._lock = asyncio.Lock()
        self._page_table = PageTable()
        self._tlb = PageTLB()
        self._combined = TLBWithPageTable(self._page_table, self._tlb)
        policy = NamedEvictionPolicy(eviction_policy) if isinstance(eviction_policy, str) else eviction_policy
        self._working_set = WorkingSetManager(config=config, eviction_policy=policy or ImportanceWeightedLRU())
        self._storage = storage or ArtifactsBridge(InMemoryBackend(), self._session_id)
        self._compressors = compressor_registry
        self._count = count
        self._packer = ContextPacker(count=count)
        self._search_handler = PageSearchHandler(page_table=self._page_table)
        self._mutation_log = MutationLogLite(session_id=self._session_id)
        self._metrics = VMMetrics()

    @property
    def session_id(self) -> str:
        return self._session_id

    @property
    def turn(self) -> int:
        return self._working_set.current_turn

    @property
    def page_table(self) -> PageTable:
        return self._page_table

    @property
    def tlb(self) -> PageTLB:
        return self._tlb

    @property
    def combined(self) -> TLBWithPageTable:
        return self._combined

    @property
    def working_set(self) -> WorkingSetManager:
        return self._working_set

    @property
    def packer(self) -> ContextPacker:
        return self._packer

    @property
    def storage(self) -> ArtifactsBridge:
        return self._storage

    @property
    def mutation_log(self) -> MutationLogLite:
        return self._mutation_log

    @property
    def metrics(self) -> VMMetrics:
        """Counted so far, and what is true now."""
        table = self._page_table.get_stats()
        self._metrics.tokens_in_working_set = self._working_set.tokens_used
        self._metrics.tokens_available = self._working_set.tokens_available
        self._metrics.pages_by_tier = table.pages_by_tier
        self._metrics.pages_by_modality = table.pages_by_modality
        return self._metrics

    @property
    def _page_store(self) -> dict[str, MemoryPage]:
        """The pages at hand, by the name that the tests of the documented system know."""
        return self._pages

    @property
    def _page_hints(self) -> dict[str, str]:
        return self._search_handler.page_hints

    def create_page(  # noqa: PLR0913, PLR0917 - the guide's signature
        self,
        content: object,
        page_type: PageType = PageType.TRANSCRIPT,
        modality: Modality = Modality.TEXT,
        importance: float = 0.5,
        provenance: Sequence[str] = (),
        page_id: str | None = None,
        size_tokens: int | None = None,
        hint: str | None = None,
        *,
        metadata: Mapping[str, Any] | None = None,
    ) -> MemoryPage:
        """A new page at hand, not yet in the prompt. Its size is that of its line in a prompt, unless it is given.

        Raises InvalidField when a model could not name `page_id`, or a page has that id already.
        """
        known_id = check_id("page_id", page_id or f"{page_type.value}_{uuid4().hex}")
        if known_id in self._page_table:
            raise InvalidField("page_id", f"must be new, and {known_id!r} is not")
        page = MemoryPage(
            page_id=known_id,
            session_id=self._session_id,
            content=content,
            page_type=page_type,
            modality=modality,
            importance=importance,
            provenance=list(provenance),
            storage_tier=StorageTier.L1,
            size_tokens=size_tokens,
            metadata=dict(metadata or {}),
        )
        self._have(self._measured(page))
        if hint:
            self._search_handler.set_hint(page.page_id, hint)
        self._log(page.page_id, MutationType.CREATE, None, StorageTier.L1, "create_page")
        return page

    async def get_page(self, page_id: str) -> MemoryPage | None:
        """The page, from storage when it is not at hand; None when there is none. The prompt does not change."""
        entry = self._combined.lookup(page_id)
        return None if entry is None else await self.load(page_id, entry.tier, entry.artifact_id)

    async def load(self, page_id: str, tier: StorageTier, artifact_id: str | None = None) -> MemoryPage | None:
        """The page at hand, or else what is stored under `artifact_id`; None when there is neither."""
        page = self._pages.get(page_id)
        if page is None and artifact_id is not None:
            page = await self._storage.load_page(artifact_id)
            if page is not None:
                page.storage_tier, page.artifact_id = tier, artifact_id
        return page

    def get_l0_pages(self) -> list[MemoryPage]:
        """What is in the prompt, in its order."""
        return [self._pages[page_id] for page_id in self._working_set.get_l0_page_ids() if page_id in self._pages]

    # The prompt

    async def add_to_working_set(self, page: MemoryPage) -> bool:
        """Put the page into the prompt, making room; False, and nothing has changed, when it cannot fit."""
        async with self._lock:
            placed, _ = await self._place(page)
            return placed

    async def check_and_evict(self) -> list[str]:
        """Relieve pressure, if there is any; the answer is who left."""
        async with self._lock:
            return await self._make_room(0) if self._working_set.needs_eviction() else []

    async def evict_page(self, page_id: str, target_tier: StorageTier = StorageTier.L2) -> bool:
        """Move a page out of the prompt; False when it is not at hand, is pinned by name, or L1 is full."""
        async with self._lock:
            if page_id not in self._pages or page_id in self._kept():
                return False
            return await self._evict(page_id, target_tier, "requested")

    async def evict_segment_pages(self, target_tier: StorageTier = StorageTier.L2) -> list[str]:
        """Move everything out of the prompt but what is pinned; being of the last turns is no pin at a segment's end.

        The answer is who left.
        """
        async with self._lock:
            kept = self._kept() | self._working_set.pinned_page_ids(last_turns=False)
            leaving = [page_id for page_id in self._working_set.get_l0_page_ids() if page_id not in kept]
            return [page_id for page_id in leaving if await self._evict(page_id, target_tier, "segment_end")]

    async def compress_page(self, page_id: str, target_level: CompressionLevel) -> CompressionResult | None:
        """Have the page at a lower level, when that is shorter; None without compressors, and if it is not at hand."""
        async with self._lock:
            return await self._compress(page_id, target_level)

    # Pins

    def pin_page(self, page_id: str) -> None:
        """Keep the page in the prompt, once it is there."""
        self._working_set.pin_page(page_id)
        self._page_table.update_pinned(page_id, pinned=True)
        tier = self._tier_of(page_id)
        self._log(page_id, MutationType.PIN, tier, tier, "explicit_pin")

    def unpin_page(self, page_id: str) -> None:
        self._working_set.unpin_page(page_id)
        self._page_table.update_pinned(page_id, pinned=False)
        tier = self._tier_of(page_id)
        self._log(page_id, MutationType.UNPIN, tier, tier, "explicit_unpin")

    # One at a time, under the lock

    async def _place(self, page: MemoryPage) -> tuple[bool, list[str]]:
        """Whether the page is in the prompt now, and who left for it."""
        self._measured(page)
        size_tokens = page.estimate_tokens()
        if size_tokens > self._working_set.budget.usable:
            return False, []
        resident = self._working_set.get_page(page.page_id)
        growth = size_tokens
        if resident is not None and self._working_set.is_in_l0(page.page_id):
            growth -= resident.estimate_tokens()
        evicted = [] if self._working_set.can_fit(growth) else await self._make_room(growth, page.page_id)
        placed = self._working_set.add_to_l0(page)
        if placed:
            self._have(page)
        return placed, evicted

    async def _make_room(self, tokens_needed: int, for_page_id: str = "") -> list[str]:
        """Lower or evict until the target is reached with that many tokens more, or nobody is left; who left.

        A page goes down a level before it goes out, and before others do again.
        """
        evicted: list[str] = []
        for _ in CompressionLevel:
            for page_id, _score in self._working_set.get_eviction_candidates(
                tokens_needed, StorageTier.L0, self._page_table
            ):
                if self._working_set.calculate_eviction_target(tokens_needed) <= 0:
                    return evicted
                if page_id == for_page_id or await self._lowered(page_id):
                    continue
                if page_id in self._pages and await self._evict(page_id, StorageTier.L2, "eviction_pressure"):
                    evicted.append(page_id)
        return evicted

    async def _compress(self, page_id: str, target_level: CompressionLevel) -> CompressionResult | None:
        page = self._pages.get(page_id)
        if self._compressors is None or page is None:
            return None
        result = await self._compressors.compress(page, target_level)
        made = self._measured(result.page.model_copy(update={"size_tokens": None}))
        result = result.model_copy(
            update={
                "page": made,
                "original_tokens": page.estimate_tokens(),
                "compressed_tokens": made.estimate_tokens(),
            }
        )
        if result.tokens_saved > 0 and made.compression_level > page.compression_level:
            self._have(made)
            self._working_set.replace_page(made)
            self._metrics.record_compression(result.tokens_saved)
            cause = f"compress_{made.compression_level.name.lower()}"
            self._log(page_id, MutationType.COMPRESS, page.storage_tier, page.storage_tier, cause)
        return result

    async def _lowered(self, page_id: str) -> bool:
        page = self._pages.get(page_id)
        if page is None or page.compression_level >= CompressionLevel.ABSTRACT:
            return False
        result = await self._compress(page_id, CompressionLevel(page.compression_level + 1))
        return result is not None and self._pages[page_id] is result.page

    async def _evict(self, page_id: str, tier: StorageTier, cause: str) -> bool:
        page = self._pages[page_id].full
        before = self._tier_of(page_id)
        if tier is StorageTier.L0:
            raise ValueError("a page is not evicted into the prompt")
        if tier is StorageTier.L1:
            if not self._working_set.add_to_l1(page):
                return False
        else:
            if page.artifact_id is None or page.dirty:
                page.artifact_id = await self._storage.store_page(page, tier)
                page.mark_clean()
                self._page_table.mark_clean(page_id)
            self._working_set.remove(page_id)
        page.storage_tier = tier
        self._have(page)
        if tier in ONLY_STORED:
            self._search_handler.page_hints.setdefault(page_id, generate_simple_hint(page))
            del self._pages[page_id]
        self._working_set.record_eviction(page_id)
        self._metrics.record_eviction()
        self._log(page_id, MutationType.EVICT, before, tier, cause)
        return True

    def _have(self, page: MemoryPage) -> None:
        """Keep the page at hand as it is, and let the table say so."""
        self._pages[page.page_id] = page
        if page.page_id not in self._page_table:
            self._page_table.register(page)
            self._search_handler.add_page(page)
        self._page_table.update_location(page.page_id, page.storage_tier, page.artifact_id)
        self._page_table.update_compression(page.page_id, page.compression_level, page.estimate_tokens())

    def _measured(self, page: MemoryPage) -> MemoryPage:
        """The page with a size: that of its line, unless the application has said another."""
        if page.size_tokens is None:
            page.size_tokens = self._count(line_of(page) or "")
        return page

    def _kept(self) -> set[str]:
        """Who is pinned by name, or says so itself."""
        return self._working_set.pinned_set.pinned | {page.page_id for page in self.get_l0_pages() if page.pinned}

    def _tier_of(self, page_id: str) -> StorageTier:
        entry = self._page_table.lookup(page_id)
        return StorageTier.L0 if entry is None else entry.tier

    def _log(
        self,
        page_id: str,
        mutation: MutationType,
        before: StorageTier | None,
        after: StorageTier,
        cause: str,
        actor: Actor = Actor.SYSTEM,
    ) -> None:
        self._mutation_log.record_mutation(page_id, mutation, after, before, actor, cause, self.turn)
