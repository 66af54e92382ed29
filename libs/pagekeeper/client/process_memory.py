"""A SessionManager's memory in this process: what was said, and with virtual memory, the pages of it.

`Transcript` owns what was said and knows no budget. `ProcessMemory` adds a `MemoryManager`, which owns what is in the
prompt; the last turns are sent as the messages that they were, everything else that is resident as lines of the
memory's message, and no page twice.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import uuid4

from pagekeeper.client.session_memory import (
    IMPORTANCE_OF_SUMMARIES,
    SegmentSize,
    Spoken,
    Totals,
    Utterance,
)
from pagekeeper.core.pages import MessageRole
from pagekeeper.memory import FaultResult, MemoryManager, PageType, SearchResult
from pagekeeper.memory.chat_response import ChatMessage, ToolCall
from pagekeeper.runtime.clock import Clock, SystemClock

TURNS_AS_MESSAGES: Final = 2
"""The turn that is being spoken and the one before it, which its words often answer."""

SUMMARIES_TOKENS_MAX: Final = 4_000
"""What the summaries of all segments may take of a request: the oldest go first, so an endless talk stays bounded."""

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
        """It is."""

    async def append(self, said: Utterance) -> str:
        return self._keep(said, f"msg_{len(self._said):04d}")

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

    async def end_segment(self, summary: str, number: int) -> None:  # noqa: ARG002 - there is nothing to name
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
        self._said.append(Spoken(said.role, said.text, page_id, self.session_id, now, said.metadata))
        return page_id

    def _segment(self) -> list[Spoken]:
        """The messages of the current one."""
        return [said for said in self._said if said.session_id == self.session_id and said.role in _SPEAKERS]


class ProcessMemory(Transcript):
    """A transcript whose utterances are pages."""

    def __init__(self, vm: MemoryManager, count: Callable[[str], int], clock: Clock = SYSTEM_CLOCK) -> None:
        super().__init__(vm.session_id, count, clock)
        self._vm = vm
        self._summary_page_id = ""

    async def append(self, said: Utterance) -> str:
        if said.role is MessageRole.USER:
            self._vm.new_turn()
            await self._vm.demand_pre_pass(said.text)
        page = await self._vm.add_message(said.role, said.text, importance=said.importance, metadata=said.metadata)
        return self._keep(said, page.page_id)

    async def request(self, system_prompt: str, model: str) -> tuple[list[ChatMessage], list[dict[str, Any]]]:
        latest = self._latest()
        context = self._vm.build_context(
            system_prompt=system_prompt, model_id=model, without={said.page_id for said in latest}
        )
        memory: ChatMessage = {"role": "system", "content": context.developer_message}
        return [memory, *(_message(said) for said in latest)], context.tools

    async def end_segment(self, summary: str, number: int) -> None:
        await self._vm.checkpoint(f"segment_{number}")
        page = self._vm.create_page(
            summary,
            page_type=PageType.SUMMARY,
            importance=IMPORTANCE_OF_SUMMARIES,
            provenance=[said.page_id for said in self._segment()],
            hint=f"segment summary: {summary[:100]}",
        )
        if self._summary_page_id:
            self._vm.unpin_page(self._summary_page_id)
        self._vm.pin_page(page.page_id)
        await self._vm.evict_segment_pages()
        await self._vm.add_to_working_set(page)
        self._vm.set_last_segment_summary(page.page_id)
        self._summary_page_id = page.page_id
        await super().end_segment(summary, number)
        self._vm.update_session_id(self.session_id)

    async def answer(self, calls: Sequence[ToolCall]) -> list[ChatMessage]:
        return [await self._vm.answer_tool_call(call) for call in calls]

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

    def _latest(self) -> list[Spoken]:
        """Messages of the last turns that are in the prompt, and the user's last words in any case."""
        segment = self._segment()
        turns = [number for number, said in enumerate(segment) if said.role is MessageRole.USER]
        if not turns:
            return []
        first = turns[-TURNS_AS_MESSAGES:][0]
        resident = set(self._vm.working_set.get_l0_page_ids())
        return [
            said
            for number, said in enumerate(segment[first:], start=first)
            if number == turns[-1] or said.page_id in resident
        ]


def _message(said: Spoken) -> ChatMessage:
    return {"role": said.role.value, "content": said.text}
