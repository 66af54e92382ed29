"""A SessionManager's memory in a running stack, through the public API alone.

The stack owns every fact: nothing that was said is kept here, and what is counted here is only how far the current
segment has come. A segment is a summary page and a checkpoint in one session, whose id never changes; what leaves the
prompt, and when, is decided by the stack's own eviction.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pagekeeper.client.requests import made
from pagekeeper.client.session import Session
from pagekeeper.core.errors import FaultLimitReached, FaultTokensExceeded, PageNotFound, SessionExists
from pagekeeper.core.pages import CompressionLevel, MessageRole, Modality, PageType, StorageTier
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


class StackMemory:
    def __init__(self, pagekeeper: "Pagekeeper", session_id: str, config: Mapping[str, Any]) -> None:
        """`config` are fields of SessionConfig, for a session that does not exist yet."""
        self._pagekeeper = pagekeeper
        self._config = config
        self._session = pagekeeper.session(session_id)
        self._opened = False
        self._segment = SegmentSize(messages=0, tokens=0)
        self._segment_pages: list[str] = []
        self._summary_page_id = ""
        self._segments = 1

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
            await self._find_the_segment()
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
        self._note(page.page_id, page.size_tokens, is_message=not tool)
        return page.page_id

    async def request(self, system_prompt: str, model: str) -> tuple[list[ChatMessage], list[dict[str, Any]]]:
        prompt = await self._session.assemble(system_prompt=system_prompt, model=model)
        roles = {"developer": "system"}
        messages = [{"role": roles.get(said.role, said.role), "content": said.content} for said in prompt.messages]
        tools: list[dict[str, Any]] = json.loads(prompt.tools_json)
        return messages, tools

    async def spoken(self, *, all_segments: bool) -> list[Spoken]:
        heard = []
        async for page in self._messages(all_segments=all_segments):
            text = (await self._session.read(page.page_id)).decode()
            role, metadata = _SPEAKERS[page.role], dict(page.metadata)
            heard.append(Spoken(role, text, page.page_id, self.session_id, page.created_unix_ms, metadata))
        return heard

    async def segment_size(self) -> SegmentSize:
        return self._segment

    async def end_segment(self, summary: str, number: int) -> None:
        await self._session.checkpoint(f"segment {number}")
        links = [
            page_pb2.PageLink(kind=page_pb2.LINK_KIND_REPRESENTS, target_page_id=page_id)
            for page_id in self._segment_pages[-LINKS_MAX:]
        ]
        response = await self._session.append(
            made(
                page_pb2.PageInput,
                role=page_pb2.MESSAGE_ROLE_ASSISTANT,
                page_type=page_pb2.PAGE_TYPE_SUMMARY,
                text=summary,
                importance=IMPORTANCE_OF_SUMMARIES,
                pinned=True,
                links=links,
                metadata={SEGMENT: str(number)},
            )
        )
        if self._summary_page_id:
            await self._session.unpin(self._summary_page_id)
        self._begin_segment(response.pages[0].page_id)

    async def totals(self, *, all_segments: bool) -> Totals:
        counted: Counter[MessageRole] = Counter()
        current = set(self._segment_pages)
        async for page in self._session.pages():
            if page.page_type != page_pb2.PAGE_TYPE_SUMMARY and (all_segments or page.page_id in current):
                counted[_SPEAKERS.get(page.role, MessageRole.TOOL)] += 1
        stats, session = await self._session.stats(), await self._session.get()
        return Totals(
            messages_by_role=counted,
            tokens=stats.total_tokens if all_segments else self._segment.tokens,
            segments=[self.session_id],
            segment_count=self._segments if all_segments else 1,
            created_unix_ms=session.created_unix_ms,
            updated_unix_ms=session.updated_unix_ms,
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
        await self._find_the_segment()

    def _note(self, page_id: str, tokens: int, *, is_message: bool) -> None:
        self._segment_pages.append(page_id)
        size = self._segment
        self._segment = SegmentSize(size.messages + is_message, size.tokens + tokens)

    def _begin_segment(self, summary_page_id: str) -> None:
        self._summary_page_id = summary_page_id
        self._segments += 1
        self._segment_pages.clear()
        self._segment = SegmentSize(messages=0, tokens=0)

    async def _find_the_segment(self) -> None:
        """Where a session stands that exists: its last summary, and what came after it."""
        self._segments, self._segment = 1, SegmentSize(messages=0, tokens=0)
        self._segment_pages.clear()
        async for page in self._session.pages():
            if SEGMENT in page.metadata:
                self._begin_segment(page.page_id)
            else:
                self._note(page.page_id, page.representations[0].size_tokens, is_message=_is_message(page))

    async def _messages(self, *, all_segments: bool) -> AsyncIterator[page_pb2.Page]:
        """Pages of the user and the model, in order; those of the current segment have no place but its list."""
        current = set(self._segment_pages)
        async for page in self._session.pages():
            if _is_message(page) and (all_segments or page.page_id in current):
                yield page


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
