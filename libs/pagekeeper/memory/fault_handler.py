"""page_fault: a page that the prompt does not show, brought at the level asked for, within the turn's bounds.

Invariant: what is said of a page is what it is. A level that does not exist and that nothing can make is not claimed:
the nearest one that exists is served, under its own name. A page is found where the page table says; nothing is moved,
and no page that was given in is changed: placing it is the working set's, and shortening it the compressor's.
"""

import inspect
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final, Protocol

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import (
    AudioContent,
    CompressionLevel,
    FaultEffects,
    FaultMetrics,
    FaultPolicy,
    FaultReason,
    FaultResult,
    ImageContent,
    MemoryPage,
    Modality,
    PageContent,
    PageData,
    PageMeta,
    PageTableEntry,
    StorageTier,
    StructuredContent,
    TextContent,
    VideoContent,
    VMMetrics,
    VMToolResult,
)
from pagekeeper.memory.page_table import PageTable
from pagekeeper.memory.page_view import LINKS, content_text, description_of
from pagekeeper.memory.tlb import PageTLB

__all__ = ["PageCompressor", "PageFaultHandler", "PageLoader"]

WORKING_SET: Final = frozenset({StorageTier.L0, StorageTier.L1})

GetPage = Callable[[str], "MemoryPage | Awaitable[MemoryPage | None] | None"]
"""A page by its id, or None; may be a coroutine."""


class PageLoader(Protocol):
    """Brings pages from where they are stored."""

    async def load(self, page_id: str, tier: StorageTier, artifact_id: str | None = None) -> MemoryPage | None:
        """The page, or None when it is not there."""
        ...


class Shortened(Protocol):
    """An answer that says more than the page, such as a `CompressionResult`."""

    @property
    def page(self) -> MemoryPage: ...


class PageCompressor(Protocol):
    """Makes lower levels of pages. It returns another page and leaves the one it was given as it is."""

    async def compress(self, page: MemoryPage, target_level: CompressionLevel) -> MemoryPage | Shortened:
        """The page at `target_level`, or at the level that it has when there is nothing to save."""
        ...


@checked
class PageFaultHandler:
    """Pages come from `loader`, else from `get_page`, else from those given to `store_page`.

    The turn's bounds are `policy`'s, which may be shared with whoever else spends them. `max_page_tokens` is the most
    that one page may take, L0's capacity: a larger one is shortened if there is a compressor, and refused otherwise.
    """

    def __init__(  # noqa: PLR0913 - the guide's collaborators
        self,
        page_table: PageTable | None = None,
        get_page: GetPage | None = None,
        max_faults_per_turn: int | None = None,
        *,
        policy: FaultPolicy | None = None,
        tlb: PageTLB | None = None,
        loader: PageLoader | None = None,
        compressor: PageCompressor | None = None,
        metrics: VMMetrics | None = None,
        max_page_tokens: int | None = None,
    ) -> None:
        self.page_table = page_table
        self.tlb = tlb
        self.policy = FaultPolicy() if policy is None else policy
        self.metrics = VMMetrics() if metrics is None else metrics
        self.max_page_tokens = max_page_tokens
        self.page_store: dict[str, MemoryPage] = {}
        self._get_page: GetPage = self.page_store.get if get_page is None else get_page
        self._loader = loader
        self._compressor = compressor
        if max_faults_per_turn is not None:
            self.max_faults_per_turn = max_faults_per_turn

    def configure(
        self,
        page_table: PageTable,
        tlb: PageTLB | None = None,
        loader: PageLoader | None = None,
        compressor: PageCompressor | None = None,
    ) -> None:
        """Set the collaborators after the handler was made."""
        self.page_table, self.tlb, self._loader, self._compressor = page_table, tlb, loader, compressor

    @property
    def max_faults_per_turn(self) -> int:
        return self.policy.max_faults_per_turn

    @max_faults_per_turn.setter
    def max_faults_per_turn(self, faults: int) -> None:
        self.policy.max_faults_per_turn = faults

    @property
    def faults_this_turn(self) -> int:
        return self.policy.faults_this_turn

    @faults_this_turn.setter
    def faults_this_turn(self, faults: int) -> None:
        self.policy.faults_this_turn = faults

    def new_turn(self) -> None:
        self.policy.new_turn()
        self.metrics.new_turn()

    def can_fault(self) -> bool:
        return self.policy.can_fault()

    def store_page(self, page: MemoryPage) -> None:
        self.page_store[page.page_id] = page

    async def handle_fault(
        self,
        page_id: str,
        target_level: int = CompressionLevel.ABSTRACT,
        reason: FaultReason = FaultReason.RESOLVE_REFERENCE,
    ) -> FaultResult:
        """Bring the page for the model and spend one of the turn's faults; a fault that fails spends nothing.

        Why it failed is in the result, for the model. A page that exceeds the tokens left to the turn is shortened
        until it fits, when there is a compressor.
        """
        if not self.policy.faults_remaining:
            return _failed(f"Fault limit exceeded ({self.max_faults_per_turn} per turn)")
        if not self.policy.allows(reason):
            return _failed(f"Not sure enough that the page is needed: {reason.value}")
        result = await self._brought(page_id, target_level, self.policy.tokens_remaining)
        if result.page is not None:
            self.policy.record_fault(result.page.estimate_tokens(), page_id=page_id, reason=reason)
            self.metrics.record_fault()
        return result

    async def prefetch(self, page_id: str, target_level: int = CompressionLevel.ABSTRACT) -> FaultResult:
        """Bring the page before the model asks. The turn's faults are the model's: none is spent or given back."""
        return await self._brought(page_id, target_level, self.policy.max_fault_tokens_per_turn)

    def build_tool_result(self, brought: MemoryPage | FaultResult, evictions: list[str] | None = None) -> VMToolResult:
        """The envelope in which the model gets a page, after it was placed, or failed to be.

        It is said to be promoted when it is in L0 or L1 by its own account, which `WorkingSetManager` keeps.
        """
        result = FaultResult(success=True, page=brought) if isinstance(brought, MemoryPage) else brought
        page = result.page
        if page is None:
            return VMToolResult(
                page=PageData(
                    page_id="error",
                    modality=Modality.TEXT,
                    level=CompressionLevel.FULL,
                    tier=StorageTier.L0,
                    content=TextContent(text=result.error or "Unknown error"),
                )
            )
        return VMToolResult(
            page=PageData(
                page_id=page.page_id,
                modality=page.modality,
                level=page.compression_level,
                tier=page.storage_tier,
                content=self._format_content_for_modality(page),
                meta=self._build_meta(page, result),
            ),
            effects=FaultEffects(
                promoted_to_working_set=page.storage_tier in WORKING_SET,
                tokens_est=page.estimate_tokens(),
                evictions=evictions,
            ),
        )

    def get_metrics(self) -> FaultMetrics:
        return FaultMetrics(
            faults_this_turn=self.policy.faults_this_turn,
            max_faults_per_turn=self.policy.max_faults_per_turn,
            faults_remaining=self.policy.faults_remaining,
            can_fault=self.can_fault(),
            total_faults=self.metrics.faults_total,
            tokens_used_this_turn=self.policy.tokens_used_this_turn,
            tlb_hit_rate=self.metrics.tlb_hit_rate,
            faults_by_reason=dict(self.policy.faults_by_reason),
        )

    def _format_content_for_modality(self, page: MemoryPage) -> PageContent:
        """The page's content in the shape of its modality; data that is no object stands under `items` or as text."""
        text = content_text(page) or ""
        match page.modality:
            case Modality.IMAGE:
                link = page.content if isinstance(page.content, str) and page.content.startswith(LINKS) else None
                return ImageContent(
                    caption=description_of(page).caption or None,
                    url=link if link is not None and not link.startswith("data:") else None,
                    base64=link if link is not None and link.startswith("data:") else None,
                    dimensions=page.dimensions,
                )
            case Modality.AUDIO:
                return AudioContent(
                    transcript=description_of(page).transcript or None, duration_seconds=page.duration_seconds
                )
            case Modality.VIDEO:
                scenes = [{"description": scene} for scene in description_of(page).scenes]
                return VideoContent(
                    scenes=scenes, transcript=page.transcript or text or None, duration_seconds=page.duration_seconds
                )
            case Modality.STRUCTURED if isinstance(page.content, dict):
                return StructuredContent(data=page.content, schema_name=page.metadata.get("schema_name"))
            case Modality.STRUCTURED if isinstance(page.content, list | tuple):
                return StructuredContent(data={"items": list(page.content)})
            case _:
                return TextContent(text=text)

    def _build_meta(self, page: MemoryPage, result: FaultResult) -> PageMeta:
        asked = result.requested_level
        return PageMeta(
            requested_level=None if asked is page.compression_level else asked,
            source_tier=result.source_tier,
            mime_type=page.mime_type,
            size_bytes=page.size_bytes or None,
            dimensions=None if page.dimensions is None else list(page.dimensions),
            duration_seconds=page.duration_seconds,
            latency_ms=round(result.latency_ms, 2) or None,
        )

    async def _brought(self, page_id: str, target_level: int, tokens_max: int) -> FaultResult:
        """The page at the level asked for, or the nearest; why not, when there is none that fits."""
        started = perf_counter()
        if self.page_table is None:
            return _failed("PageFaultHandler not configured")
        if target_level not in tuple(CompressionLevel):
            return _failed(f"target_level must be 0 to 3, not {target_level}")
        entry = self._entry(self.page_table, page_id)
        if entry is None:
            return _failed(f"Page not found: {page_id}")
        stored = await self._stored(entry, CompressionLevel(target_level))
        if stored is None:
            return _failed(f"Failed to load page from {entry.tier.value}", entry.tier)
        page = await self._fitting(stored, CompressionLevel(target_level), self._least_of(tokens_max))
        if page is None:
            return _failed(
                f"Page too large: {page_id} takes {stored.estimate_tokens()} tokens, "
                f"and {self._least_of(tokens_max)} are left",
                entry.tier,
            )
        self.page_table.mark_accessed(page_id)
        return FaultResult(
            success=True,
            page=page.model_copy(update={"storage_tier": entry.tier}),
            requested_level=CompressionLevel(target_level),
            source_tier=entry.tier,
            latency_ms=(perf_counter() - started) * 1_000,
            was_compressed=page is not stored,
        )

    def _least_of(self, tokens_max: int) -> int:
        return tokens_max if self.max_page_tokens is None else min(tokens_max, self.max_page_tokens)

    def _entry(self, page_table: PageTable, page_id: str) -> PageTableEntry | None:
        if self.tlb is None:
            return page_table.lookup(page_id)
        entry = self.tlb.lookup(page_id)
        if entry is not None:
            self.metrics.record_tlb_hit()
            return entry
        self.metrics.record_tlb_miss()
        entry = page_table.lookup(page_id)
        if entry is not None:
            self.tlb.insert(entry)
        return entry

    async def _stored(self, entry: PageTableEntry, target: CompressionLevel) -> MemoryPage | None:
        """The page at the level nearest to `target` of those that exist, and that say no less if there is one."""
        page = await self._loaded(entry.page_id, entry.tier, entry.artifact_id)
        if page is None:
            return None
        known = {page.full.compression_level: page.full, page.compression_level: page}
        stored = page.representations if self._loader is not None else {}
        level = _nearest({*known, *stored}, target)
        if level in known:
            return known[level]
        return await self._loaded(entry.page_id, entry.tier, stored[level]) or known[_nearest(set(known), target)]

    async def _loaded(self, page_id: str, tier: StorageTier, artifact_id: str | None) -> MemoryPage | None:
        if self._loader is not None:
            return await self._loader.load(page_id, tier, artifact_id)
        found = self._get_page(page_id)
        return await found if inspect.isawaitable(found) else found

    async def _fitting(self, stored: MemoryPage, target: CompressionLevel, tokens_max: int) -> MemoryPage | None:
        """`stored` at `target` or, as far as it takes for `tokens_max`, below; None when nothing fits."""
        if stored.compression_level >= target and stored.estimate_tokens() <= tokens_max:
            return stored
        if self._compressor is not None:
            for level in CompressionLevel:
                if level >= max(target, stored.compression_level + 1):
                    made = await self._compressor.compress(stored, level)
                    page = made if isinstance(made, MemoryPage) else made.page
                    if page.compression_level > stored.compression_level and page.estimate_tokens() <= tokens_max:
                        return page
        return stored if stored.estimate_tokens() <= tokens_max else None


def _nearest(levels: set[CompressionLevel], target: CompressionLevel) -> CompressionLevel:
    """The lowest fidelity that is not below the target's; where all are, the highest there is."""
    return max((level for level in levels if level <= target), default=min(levels))


def _failed(error: str, tier: StorageTier | None = None) -> FaultResult:
    return FaultResult(success=False, error=error, source_tier=tier)
