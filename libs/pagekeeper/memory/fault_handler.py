"""page_fault: a page that the prompt does not show, brought at the level asked for, within the turn's bounds.

Invariant: what is said of a page is what it is. A level that does not exist is not claimed: the nearest shorter one
is served, else the nearest that there is, under its own name. Nothing is moved and no page is changed: placing a page
is the working set's, and shortening it the compressor's.

It is for a program that keeps its pages itself: a `MemoryManager` faults by the decisions of its session.
"""

import inspect
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Final

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
    StorageTier,
    StructuredContent,
    TextContent,
    VideoContent,
    VMToolResult,
)
from pagekeeper.memory.page_table import PageTable
from pagekeeper.memory.page_view import LINKS, content_text, description_of

__all__ = ["PageFaultHandler"]

WORKING_SET: Final = frozenset({StorageTier.L0, StorageTier.L1})

GetPage = Callable[[str], "MemoryPage | Awaitable[MemoryPage | None] | None"]
"""A page by its id, or None; may be a coroutine."""


@checked
class PageFaultHandler:
    """Pages of `page_table` come from `get_page`. `policy` bounds a turn's faults, and counts them;
    `max_faults_per_turn` goes before its number.
    """

    def __init__(
        self,
        page_table: PageTable | None = None,
        get_page: GetPage | None = None,
        max_faults_per_turn: int | None = None,
        *,
        policy: FaultPolicy | None = None,
    ) -> None:
        self._policy = FaultPolicy() if policy is None else policy
        if max_faults_per_turn is not None:
            self._policy = self._policy.model_copy(update={"max_faults_per_turn": max_faults_per_turn})
        self._page_table = PageTable() if page_table is None else page_table
        self._get_page = get_page or _no_page

    @property
    def max_faults_per_turn(self) -> int:
        return self._policy.max_faults_per_turn

    def new_turn(self) -> None:
        self._policy.new_turn()

    def can_fault(self) -> bool:
        return self._policy.can_fault()

    async def handle_fault(
        self,
        page_id: str,
        target_level: int = CompressionLevel.ABSTRACT,
        reason: FaultReason = FaultReason.RESOLVE_REFERENCE,
    ) -> FaultResult:
        """Bring the page for the model and spend one of the turn's faults; a fault that fails spends nothing.

        Why it failed is in the result, for the model.
        """
        started = perf_counter()
        refused = self._refused(target_level, reason)
        if refused:
            return FaultResult(success=False, error=refused)
        entry = self._page_table.lookup(page_id)
        if entry is None:
            return FaultResult(success=False, error=f"Page not found: {page_id}")
        found = self._get_page(page_id)
        stored = await found if inspect.isawaitable(found) else found
        if stored is None:
            error = f"Failed to load page from {entry.tier.value}"
            return FaultResult(success=False, error=error, source_tier=entry.tier)
        page = stored.full if target_level <= stored.full.compression_level else stored
        size_tokens, left_tokens = page.estimate_tokens(), self._policy.tokens_remaining
        if size_tokens > left_tokens:
            error = f"Page too large: {page_id} takes {size_tokens} tokens, and {left_tokens} are left"
            return FaultResult(success=False, error=error, source_tier=entry.tier)
        self._policy.record_fault(size_tokens, page_id=page_id, reason=reason)
        self._page_table.mark_accessed(page_id)
        return FaultResult(
            success=True,
            page=page.model_copy(update={"storage_tier": entry.tier}),
            requested_level=CompressionLevel(target_level),
            source_tier=entry.tier,
            latency_ms=(perf_counter() - started) * 1_000,
            was_compressed=page.compression_level > 0,
        )

    def get_metrics(self) -> FaultMetrics:
        policy = self._policy
        return FaultMetrics(
            faults_this_turn=policy.faults_this_turn,
            max_faults_per_turn=policy.max_faults_per_turn,
            faults_remaining=policy.faults_remaining,
            can_fault=policy.can_fault(),
            total_faults=sum(policy.faults_by_reason.values()),
            tokens_used_this_turn=policy.tokens_used_this_turn,
            faults_by_reason=dict(policy.faults_by_reason),
        )

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
        asked = result.requested_level
        return VMToolResult(
            page=PageData(
                page_id=page.page_id,
                modality=page.modality,
                level=page.compression_level,
                tier=page.storage_tier,
                content=_content_of(page),
                meta=PageMeta(
                    requested_level=None if asked is page.compression_level else asked,
                    source_tier=result.source_tier,
                    mime_type=page.mime_type,
                    size_bytes=page.size_bytes or None,
                    dimensions=None if page.dimensions is None else list(page.dimensions),
                    duration_seconds=page.duration_seconds,
                    latency_ms=round(result.latency_ms, 2) or None,
                ),
            ),
            effects=FaultEffects(
                promoted_to_working_set=page.storage_tier in WORKING_SET,
                tokens_est=page.estimate_tokens(),
                evictions=evictions,
            ),
        )

    def _refused(self, target_level: int, reason: FaultReason) -> str:
        """Why no page may be brought at all; empty when one may."""
        if not self._policy.faults_remaining:
            return f"Fault limit exceeded ({self._policy.max_faults_per_turn} per turn)"
        if not self._policy.allows(reason):
            return f"Not sure enough that the page is needed: {reason.value}"
        if target_level not in tuple(CompressionLevel):
            return f"target_level must be 0 to 3, not {target_level}"
        return ""


def _no_page(_page_id: str) -> None:
    """No page is at hand."""


def _content_of(page: MemoryPage) -> PageContent:
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
