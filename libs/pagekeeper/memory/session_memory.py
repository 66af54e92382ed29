"""The port of a SessionManager's memory, which is in process or in a running stack."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, runtime_checkable

from pagekeeper.core.pages import MessageRole
from pagekeeper.memory.chat_response import ChatMessage, ToolCall
from pagekeeper.memory.models import FaultResult, SearchResult

__all__ = ["VirtualMemoryDisabled"]

IMPORTANCE: Final = {
    MessageRole.SYSTEM: 1.0,
    MessageRole.USER: 0.6,
    MessageRole.ASSISTANT: 0.5,
    MessageRole.TOOL: 0.4,
}
"""Of what is said, unless the application knows better: the user's words are wanted again most often."""
IMPORTANCE_OF_SUMMARIES: Final = 0.9
SEGMENT: Final = "segment"
"""Metadata of a summary page: the number of the segment that it stands for."""
LINKS_MAX: Final = 64
"""How many pages a summary names as those that it stands for, the newest."""


class VirtualMemoryDisabled(Exception):
    """The session only keeps what was said: it was made with neither `enable_vm=True` nor a `client`."""


@dataclass(frozen=True, slots=True)
class Utterance:
    """Something to be remembered: a message, or what a tool did as JSON. `importance` from 0 to 1.

    Of the metadata, `speaker` names who says it, `tool_call_id` the call that it answers, and `said_unix_ms` when it
    was said: the line in a prompt shows them.
    """

    role: MessageRole
    text: str
    importance: float
    tool_name: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Spoken:
    """Something that is remembered. `session_id` is the segment's where every segment has an id of its own."""

    role: MessageRole
    text: str
    page_id: str
    session_id: str
    spoken_unix_ms: int
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SegmentSize:
    """How far the current segment has come: user and assistant messages, and their tokens."""

    messages: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Totals of the remembered messages, over all segments or the current one."""

    messages_by_role: Mapping[MessageRole, int]
    tokens: int
    segments: Sequence[str]
    """Their session ids, oldest first; a stack has one id for all."""
    segment_count: int
    created_unix_ms: int
    updated_unix_ms: int


class SessionMemory(Protocol):
    """`open` comes before everything else but `session_id`, and does nothing when it has been done."""

    @property
    def session_id(self) -> str: ...

    async def open(self) -> None: ...

    async def append(self, said: Utterance) -> str:
        """Remember; the answer is the page's id."""
        ...

    async def request(self, system_prompt: str, model: str) -> tuple[list[ChatMessage], list[dict[str, Any]]]:
        """Messages and tools to send to a model: what is resident, within the budget."""
        ...

    async def spoken(self, *, all_segments: bool) -> list[Spoken]:
        """Return the messages of user and model, oldest first."""
        ...

    async def segment_size(self) -> SegmentSize: ...

    async def end_segment(self, summary: str, covered: Sequence[str]) -> None:
        """Checkpoint the current segment, put the summary in its place, and begin the next one.

        `covered` are the pages that the summary is of, as `spoken` told them. When another process has ended the
        segment meanwhile, that process's summary stays, and this one is dropped.
        """
        ...

    async def totals(self, *, all_segments: bool) -> Totals: ...


@runtime_checkable
class PagedMemory(SessionMemory, Protocol):
    """With virtual memory: what does not fit leaves the prompt, and can be brought back."""

    async def answer(self, calls: Sequence[ToolCall]) -> list[ChatMessage]:
        """Tool messages that answer a model's calls, in order."""
        ...

    async def search(self, query: str, modality: str | None, limit: int) -> SearchResult: ...

    async def fault(self, page_id: str, target_level: int) -> FaultResult: ...

    async def pin(self, page_id: str) -> None: ...

    async def unpin(self, page_id: str) -> None: ...

    async def checkpoint(self, name: str) -> str:
        """The checkpoint's id."""
        ...

    async def restore(self, checkpoint_id: str) -> None:
        """Bring back the working set of a checkpoint."""
        ...


class SessionMemories(Protocol):
    """The port to memories of sessions elsewhere: a connection to a stack, `pagekeeper.client.Pagekeeper`."""

    def session_memory(self, session_id: str, config: Mapping[str, Any]) -> PagedMemory:
        """The session's; `config` are fields of SessionConfig, for a session that does not exist yet."""
        ...
