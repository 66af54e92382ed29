"""A SessionManager's memory in this process: what was said, and with virtual memory, the pages of it.

`Transcript` owns what was said and knows no budget. `ProcessMemory` owns nothing: what was said, its segments and their
summaries are pages of the session that a `MemoryManager` holds, so a restored session has what it had then, and one
that is loaded from a file goes on. It does what `StackMemory` does over a running stack.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final
from uuid import uuid4

from pagekeeper.core.pages import KeyValue, LinkKind, MessageRole, PageLink, PageState, PageType
from pagekeeper.core.wellformed import whole_text
from pagekeeper.memory.chat_response import ChatMessage, ToolCall
from pagekeeper.memory.manager import MemoryManager
from pagekeeper.memory.models import FaultResult, SearchResult
from pagekeeper.memory.process_prompts import PromptRequest
from pagekeeper.memory.session_memory import (
    IMPORTANCE_OF_SUMMARIES,
    LINKS_MAX,
    SEGMENT,
    SegmentSize,
    Spoken,
    Totals,
    Utterance,
)
from pagekeeper.runtime.clock import Clock, SystemClock

SUMMARIES_TOKENS_MAX: Final = 4_000
"""What the summaries of all segments may take of a request: the oldest go first, so an endless talk stays bounded."""
SEGMENT_ID: Final = "segment_id"
"""Metadata of a summary page: the id of the segment that comes after it."""

SYSTEM_CLOCK: Final = SystemClock()
_SPEAKERS: Final = frozenset({MessageRole.USER, MessageRole.ASSISTANT})


class Transcript:
    """Everything that was said, in segments. Nothing of it is lost or shortened, and nothing is paged.

    `count` says how many tokens a text has.
    """

    def __init__(self, session_id: str, count: Callable[[str], int], clock: Clock = SYSTEM_CLOCK) -> None:
        self._count = count
        self._clock = clock
        self._segments = [session_id]
        self._said: list[Spoken] = []
        self._summaries: list[str] = []
        self._created_unix_ms = self._clock.now_ms()

    @property
    def session_id(self) -> str:
        return self._segments[-1]

    async def open(self) -> None:
        """Do nothing: a memory in this process is always open."""

    async def append(self, said: Utterance) -> str:
        return self._keep(said, f"p{len(self._said) + 1}")

    async def request(self, system_prompt: str, _model: str) -> tuple[list[ChatMessage], list[dict[str, Any]]]:
        told = "\n".join(self._newest_summaries())
        before = [f"Summary of the conversation so far:\n{told}"] if told else []
        instructions: list[ChatMessage] = [
            {"role": "system", "content": text} for text in (system_prompt, *before) if text.strip()
        ]
        return [*instructions, *(_message(said) for said in self._segment())], []

    async def spoken(self, *, all_segments: bool) -> list[Spoken]:
        return [said for said in self._said if said.role in _SPEAKERS] if all_segments else self._segment()

    async def segment_size(self) -> SegmentSize:
        segment = self._segment()
        return SegmentSize(len(segment), sum(self._count(said.text) for said in segment))

    async def end_segment(self, summary: str, covered: Sequence[str]) -> None:  # noqa: ARG002 - the summary links to none
        self._summaries.append(summary)
        self._segments.append(str(uuid4()))

    async def totals(self, *, all_segments: bool) -> Totals:
        segments = self._segments if all_segments else self._segments[-1:]
        counted = [said for said in self._said if all_segments or said.session_id == self.session_id]
        return Totals(
            messages_by_role=Counter(said.role for said in counted),
            tokens=sum(self._count(said.text) for said in counted),
            segments=tuple(segments),
            segment_count=len(segments),
            created_unix_ms=self._created_unix_ms,
            updated_unix_ms=self._said[-1].spoken_unix_ms if self._said else self._created_unix_ms,
        )

    def _newest_summaries(self) -> list[str]:
        """Of as many segments as there is room for, oldest first; the last one's in any case."""
        kept: list[str] = []
        tokens = 0
        for summary in reversed(self._summaries):
            tokens += self._count(f"{summary}\n")
            if kept and tokens > SUMMARIES_TOKENS_MAX:
                break
            kept.append(summary)
        return kept[::-1]

    def _keep(self, said: Utterance, page_id: str) -> str:
        now = self._clock.now_ms()
        text = whole_text(said.text)
        self._said.append(Spoken(said.role, text, page_id, self.session_id, now, said.metadata))
        return page_id

    def _segment(self) -> list[Spoken]:
        """The messages of the current one."""
        return [said for said in self._said if said.session_id == self.session_id and said.role in _SPEAKERS]


class ProcessMemory:
    """The pages of one conversation. `first_segment_id` is the id that it began with."""

    def __init__(self, vm: MemoryManager, first_segment_id: str = "") -> None:
        self._vm = vm
        self._first_segment_id = first_segment_id or vm.session_id
        self._segment = SegmentSize(messages=0, tokens=0)
        self._segment_ids: list[str] = []
        self._segment_pages: list[str] = []
        self._summary_page_id = ""
        self._find_the_segment()

    @property
    def session_id(self) -> str:
        return self._vm.session_id

    @property
    def first_segment_id(self) -> str:
        return self._first_segment_id

    async def open(self) -> None:
        """Do nothing: a memory in this process is always open."""

    async def append(self, said: Utterance) -> str:
        tool = said.role is MessageRole.TOOL
        if said.role is MessageRole.ASSISTANT:
            self._vm.note_citations(said.text)
        page = await self._vm.add_message(
            said.role, said.text, importance=said.importance, metadata=said.metadata, tool_name=said.tool_name
        )
        if tool:
            self._vm.record_tool_call(said.tool_name)
        self._note(self._vm.session.pages[page.page_id])
        return page.page_id

    async def request(self, system_prompt: str, model: str) -> tuple[list[ChatMessage], list[dict[str, Any]]]:
        chat = self._vm.assemble(PromptRequest(system_prompt=whole_text(system_prompt), model=model)).chat
        roles = {"developer": "system"}
        messages = [{"role": roles.get(said.role, said.role), "content": said.content} for said in chat.messages]
        return messages, [dict(tool) for tool in chat.tools]

    async def spoken(self, *, all_segments: bool) -> list[Spoken]:
        return list(self._spoken(all_segments=all_segments))

    async def segment_size(self) -> SegmentSize:
        return self._segment

    async def end_segment(self, summary: str, covered: Sequence[str]) -> None:
        number = len(self._segment_ids)
        await self._vm.checkpoint(f"segment {number}")
        if self._summary_page_id:
            self._vm.unpin_page(self._summary_page_id)
        await self._vm.evict_segment_pages()
        links = [PageLink(LinkKind.REPRESENTS, page_id) for page_id in covered[-LINKS_MAX:]]
        segment_id = str(uuid4())
        page = await self._vm.add_page(
            summary,
            role=MessageRole.ASSISTANT,
            page_type=PageType.SUMMARY,
            importance=IMPORTANCE_OF_SUMMARIES,
            pinned=True,
            links=links,
            metadata=[KeyValue(SEGMENT, str(number)), KeyValue(SEGMENT_ID, segment_id)],
        )
        self._begin_segment(page)
        self._vm.set_last_segment_summary(page.page_id)

    async def totals(self, *, all_segments: bool) -> Totals:
        session = self._vm.session
        current = set(self._segment_pages)
        counted = [
            page
            for page in session.mapped_pages()
            if page.page_type is not PageType.SUMMARY and (all_segments or page.page_id in current)
        ]
        segments = self._segment_ids if all_segments else self._segment_ids[-1:]
        return Totals(
            messages_by_role=Counter(page.role for page in counted),
            tokens=sum(page.current.full.size_tokens for page in counted),
            segments=tuple(segments),
            segment_count=len(segments),
            created_unix_ms=session.created_unix_ms,
            updated_unix_ms=session.updated_unix_ms,
        )

    async def answer(self, calls: Sequence[ToolCall]) -> list[ChatMessage]:
        return await self._vm.answer_tool_calls(calls)

    async def search(self, query: str, modality: str | None, limit: int) -> SearchResult:
        return await self._vm.search_pages(query, modality, limit)

    async def fault(self, page_id: str, target_level: int) -> FaultResult:
        return await self._vm.handle_fault(page_id, target_level)

    async def pin(self, page_id: str) -> None:
        self._vm.pin_page(page_id)

    async def unpin(self, page_id: str) -> None:
        self._vm.unpin_page(page_id)

    async def checkpoint(self, name: str) -> str:
        return await self._vm.checkpoint(name)

    async def restore(self, checkpoint_id: str) -> None:
        await self._vm.restore_checkpoint(checkpoint_id)
        self._find_the_segment()

    def _spoken(self, *, all_segments: bool) -> Iterator[Spoken]:
        segment_id = self._first_segment_id
        current = set(self._segment_pages)
        for page in self._vm.session.mapped_pages():
            segment_id = _metadata(page).get(SEGMENT_ID, segment_id)
            if _is_message(page) and (all_segments or page.page_id in current):
                text, at = self._vm.text_of(page), page.current.created_unix_ms
                yield Spoken(page.role, text, page.page_id, segment_id, at, _metadata(page))

    def _note(self, page: PageState) -> None:
        self._segment_pages.append(page.page_id)
        messages, tokens = self._segment.messages, self._segment.tokens
        self._segment = SegmentSize(messages + _is_message(page), tokens + page.current.full.size_tokens)

    def _begin_segment(self, summary: PageState) -> None:
        self._summary_page_id = summary.page_id
        self._segment_ids.append(_metadata(summary)[SEGMENT_ID])
        self._segment_pages.clear()
        self._segment = SegmentSize(messages=0, tokens=0)
        self._vm.update_session_id(self._segment_ids[-1])

    def _find_the_segment(self) -> None:
        """Where the conversation stands: its last summary, and what came after it."""
        self._segment, self._segment_ids = SegmentSize(messages=0, tokens=0), [self._first_segment_id]
        self._segment_pages = []
        self._summary_page_id = ""
        self._vm.update_session_id(self._first_segment_id)
        for page in self._vm.session.mapped_pages():
            if SEGMENT_ID in _metadata(page):
                self._begin_segment(page)
            else:
                self._note(page)


def _message(said: Spoken) -> ChatMessage:
    return {"role": said.role.value, "content": said.text}


def _metadata(page: PageState) -> dict[str, str]:
    return {pair.key: pair.value for pair in page.metadata}


def _is_message(page: PageState) -> bool:
    return page.role in _SPEAKERS and page.page_type is PageType.TRANSCRIPT
