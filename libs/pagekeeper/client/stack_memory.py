"""A SessionManager's memory in a running stack, through the public API alone.

The stack owns every fact. Several processes may speak in one session: what is read here (messages, figures, prompts) is
the session as the log has it now, and what is kept here (how far the current segment has come) is counted anew as soon
as an append shows that another process has spoken.

A segment is a summary page and a checkpoint in one session, whose id never changes; what leaves the prompt, and when,
is decided by the stack's own eviction. A segment has one summary, whoever writes it: the summary's page id is the
segment's, so the second process that ends a segment finds the id taken. A summary says which page it covers last; what
was said behind that page belongs to the next segment, also when it was said before the summary was written.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from pagekeeper.client.requests import made
from pagekeeper.client.session import Session
from pagekeeper.core.errors import (
    CheckpointExists,
    FaultLimitReached,
    FaultTokensExceeded,
    PageExists,
    PageNotFound,
    SessionExists,
)
from pagekeeper.core.ids import ID_LENGTH_MAX
from pagekeeper.core.pages import CompressionLevel, MessageRole, Modality, PageType, StorageTier
from pagekeeper.core.tools import get_vm_tools_as_dicts
from pagekeeper.memory import FaultResult, MemoryPage, SearchResult, SearchResultEntry
from pagekeeper.memory.chat_response import ChatMessage, ToolCall, tool_message
from pagekeeper.memory.page_view import said_unix_ms_of
from pagekeeper.memory.session_memory import (
    IMPORTANCE_OF_SUMMARIES,
    LINKS_MAX,
    SEGMENT,
    SegmentSize,
    Spoken,
    Totals,
    Utterance,
)
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2

if TYPE_CHECKING:
    from pagekeeper.client.connection import Pagekeeper

_ROLES: Final = {
    MessageRole.USER: page_pb2.MESSAGE_ROLE_USER,
    MessageRole.ASSISTANT: page_pb2.MESSAGE_ROLE_ASSISTANT,
    MessageRole.TOOL: page_pb2.MESSAGE_ROLE_TOOL,
}
_MODALITIES: Final = {modality: page_pb2.Modality.Value(f"MODALITY_{modality.name}") for modality in Modality}
_MODALITY: Final = {number: modality for modality, number in _MODALITIES.items()}
_TIERS: Final = {page_pb2.StorageTier.Value(f"STORAGE_TIER_{tier.name}"): tier for tier in StorageTier}
_SPEAKERS: Final = {
    page_pb2.MESSAGE_ROLE_USER: MessageRole.USER,
    page_pb2.MESSAGE_ROLE_ASSISTANT: MessageRole.ASSISTANT,
}


_SEGMENT_PAGE: Final = "pagekeeper:segment/{}"
"""The page id of a segment's summary."""
_UNTIL: Final = "until"
"""The metadata key of a summary for the last page that it covers."""


@dataclass(slots=True)
class _Segments:
    """Where a session stands: its segments, and the pages of the current one, oldest first."""

    number: int = 1
    """Of the current segment, from 1."""
    summary_page_id: str = ""
    """The summary of the segment before; empty for the first segment."""
    pages: list[page_pb2.Page] = field(default_factory=list)

    @classmethod
    def of(cls, pages: Iterable[page_pb2.Page]) -> "_Segments":
        """The segments of a session with these pages, which stand in the order in which they were said."""
        found = cls()
        for page in pages:
            if SEGMENT not in page.metadata:
                found.pages.append(page)
                continue
            ids = [one.page_id for one in found.pages]
            until = page.metadata.get(_UNTIL, "")
            found.pages = found.pages[ids.index(until) + 1 :] if until in ids else []
            found.number, found.summary_page_id = found.number + 1, page.page_id
        return found

    @property
    def size(self) -> SegmentSize:
        return SegmentSize(
            sum(map(_is_message, self.pages)), sum(page.representations[0].size_tokens for page in self.pages)
        )


class StackMemory:
    def __init__(self, pagekeeper: "Pagekeeper", session_id: str, config: Mapping[str, Any]) -> None:
        """`config` are fields of SessionConfig, for a session that does not exist yet."""
        self._pagekeeper = pagekeeper
        self._config = config
        self._session = pagekeeper.session(session_id)
        self._opened = False
        self._size = SegmentSize(messages=0, tokens=0)
        self._next_ordinal = 1
        """The ordinal of the next page, unless another process appends one before."""

    @property
    def session_id(self) -> str:
        return self._session.session_id

    @property
    def session(self) -> Session:
        """The stack's own session, with all that it can do."""
        return self._session

    async def open(self) -> None:
        if self._opened:
            return
        try:
            self._session = await self._pagekeeper.open_session(self.session_id, **self._config)
        except SessionExists:
            await self._segments()
        self._opened = True

    async def append(self, said: Utterance) -> str:
        tool = said.role is MessageRole.TOOL
        response = await self._session.append(
            made(
                page_pb2.PageInput,
                role=_ROLES[said.role],
                modality=page_pb2.MODALITY_STRUCTURED if tool else page_pb2.MODALITY_TEXT,
                page_type=page_pb2.PAGE_TYPE_ARTIFACT if tool else page_pb2.PAGE_TYPE_TRANSCRIPT,
                text=said.text,
                importance=said.importance,
                tool_name=said.tool_name,
                tool_call_id=said.metadata.get("tool_call_id", ""),
                speaker=said.metadata.get("speaker", ""),
                said_unix_ms=said_unix_ms_of(said.metadata),
                metadata=said.metadata,
            )
        )
        [page] = response.pages
        expected, ordinal = self._next_ordinal, int(page.page_id.removeprefix("p"))
        self._next_ordinal = ordinal + 1
        if ordinal == expected:
            self._size = SegmentSize(self._size.messages + (not tool), self._size.tokens + page.size_tokens)
        else:
            await self._segments()
        return page.page_id

    async def request(self, system_prompt: str, model: str) -> tuple[list[ChatMessage], list[dict[str, Any]]]:
        prompt = await self._session.strict().assemble(system_prompt=system_prompt, model=model)
        roles = {"developer": "system"}
        messages = [{"role": roles.get(said.role, said.role), "content": said.content} for said in prompt.messages]
        # What takes these messages is OpenAI's Chat Completions, or speaks the same to another model.
        tools = get_vm_tools_as_dicts() if json.loads(prompt.tools_json) else []
        return messages, tools

    async def spoken(self, *, all_segments: bool) -> list[Spoken]:
        heard = []
        pages = await self._pages() if all_segments else (await self._segments()).pages
        for page in filter(_is_message, pages):
            text = (await self._session.read(page.page_id)).decode()
            role, metadata = _SPEAKERS[page.role], dict(page.metadata)
            heard.append(Spoken(role, text, page.page_id, self.session_id, page.created_unix_ms, metadata))
        return heard

    async def segment_size(self) -> SegmentSize:
        return self._size

    async def end_segment(self, summary: str, covered: Sequence[str]) -> None:
        segments = await self._segments()
        until = covered[-1] if covered else ""
        if until not in [page.page_id for page in segments.pages]:
            return  # another process has ended the segment
        number = str(segments.number)
        links = [
            page_pb2.PageLink(kind=page_pb2.LINK_KIND_REPRESENTS, target_page_id=page_id)
            for page_id in covered[-LINKS_MAX:]
        ]
        summary_page = made(
            page_pb2.PageInput,
            page_id=_SEGMENT_PAGE.format(number),
            role=page_pb2.MESSAGE_ROLE_ASSISTANT,
            page_type=page_pb2.PAGE_TYPE_SUMMARY,
            text=summary,
            importance=IMPORTANCE_OF_SUMMARIES,
            pinned=True,
            links=links,
            metadata={SEGMENT: number, _UNTIL: until},
        )
        # With the page in its id: after a restore, a segment of the same number ends elsewhere.
        checkpoint_id = f"segment-{number}-{until}"[:ID_LENGTH_MAX]
        with suppress(CheckpointExists):
            await self._session.checkpoint(f"segment {number}", checkpoint_id=checkpoint_id)
        with suppress(PageExists):
            await self._session.append(summary_page)
            self._next_ordinal += 1
            if segments.summary_page_id:
                await self._session.unpin(segments.summary_page_id)
        await self._segments()

    async def totals(self, *, all_segments: bool) -> Totals:
        pages = await self._pages()
        segments = _Segments.of(pages)
        counted = Counter(
            _SPEAKERS.get(page.role, MessageRole.TOOL)
            for page in (pages if all_segments else segments.pages)
            if page.page_type != page_pb2.PAGE_TYPE_SUMMARY
        )
        session = self._session.strict()
        stats, known = await session.stats(), await session.get()
        return Totals(
            messages_by_role=counted,
            tokens=stats.total_tokens if all_segments else segments.size.tokens,
            segments=[self.session_id],
            segment_count=segments.number if all_segments else 1,
            created_unix_ms=known.created_unix_ms,
            updated_unix_ms=known.updated_unix_ms,
        )

    async def answer(self, calls: Sequence[ToolCall]) -> list[ChatMessage]:
        asked = [made(pb.ToolCall, id=call.call_id, name=call.name, arguments_json=call.arguments) for call in calls]
        answers = await self._session.handle_tool_calls(*asked)
        return [tool_message(call, answer.content) for call, answer in zip(calls, answers, strict=True)]

    async def search(self, query: str, modality: str | None, limit: int) -> SearchResult:
        request = made(
            pb.SearchPagesRequest,
            session_id=self.session_id,
            query=query,
            modality=_MODALITIES[Modality(modality)] if modality else page_pb2.MODALITY_UNSPECIFIED,
            limit=limit,
            min_revision=self._session.revision,
        )
        found = await self._pagekeeper.api.search_pages(self._pagekeeper.caller(), request)
        return SearchResult(results=[_entry(hit) for hit in found.hits], total_available=found.searched_pages)

    async def fault(self, page_id: str, target_level: int) -> FaultResult:
        try:
            response = await self._session.fault(page_id, target_level=target_level)
        except (PageNotFound, FaultLimitReached, FaultTokensExceeded) as refused:
            return FaultResult(success=False, error=refused.message)
        return FaultResult(
            success=True,
            page=_memory_page(self.session_id, response),
            source_tier=_TIERS[response.outcome.source_tier],
        )

    async def pin(self, page_id: str) -> None:
        await self._session.pin(page_id)

    async def unpin(self, page_id: str) -> None:
        await self._session.unpin(page_id)

    async def checkpoint(self, name: str) -> str:
        return (await self._session.checkpoint(name)).checkpoint_id

    async def restore(self, checkpoint_id: str) -> None:
        await self._session.restore(checkpoint_id)
        await self._segments()

    async def _pages(self) -> list[page_pb2.Page]:
        """The session's pages as the log has them now."""
        return [page async for page in self._session.strict().pages()]

    async def _segments(self) -> _Segments:
        """Where the session stands now, and how far its current segment has come."""
        segments = _Segments.of(await self._pages())
        self._size = segments.size
        return segments


def _is_message(page: page_pb2.Page) -> bool:
    return page.role in _SPEAKERS and page.page_type == page_pb2.PAGE_TYPE_TRANSCRIPT


def _entry(hit: pb.SearchHit) -> SearchResultEntry:
    return SearchResultEntry(
        page_id=hit.page_id,
        modality=_MODALITY[hit.modality],
        tier=_TIERS[hit.tier],
        levels=[CompressionLevel(level) for level in hit.levels],
        hint=hit.hint,
        relevance=hit.relevance,
    )


def _memory_page(session_id: str, response: pb.FaultPageResponse) -> MemoryPage:
    """The faulted page in the guide's form; a medium's bytes stay where they are, its description comes along."""
    page, content = response.page, response.content
    return MemoryPage(
        page_id=page.page_id,
        session_id=session_id,
        modality=_MODALITY[page.modality],
        page_type=PageType(page_pb2.PageType.Name(page.mapped_type).removeprefix("PAGE_TYPE_").lower()),
        storage_tier=StorageTier.L0,
        compression_level=CompressionLevel(content.level),
        content=content.text if content.WhichOneof("content") == "text" else None,
        caption=page.media.caption or None,
        transcript=page.media.transcript or None,
        size_tokens=content.size_tokens,
        importance=page.importance,
        pinned=page.pinned,
        metadata=dict(page.metadata),
    )
