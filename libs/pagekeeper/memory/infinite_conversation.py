"""Conversations without end, in this process: the guide's manager of them, over one SessionManager for each.

Every segment has an id of its own, and any of a conversation's ids names it.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from pagekeeper.core.errors import SessionNotFound
from pagekeeper.core.pages import MessageRole
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.chat_response import ChatMessage
from pagekeeper.memory.manager import DEFAULT_MODEL
from pagekeeper.memory.session_manager import (
    MESSAGES_PER_SEGMENT,
    SessionManager,
    Summarizer,
    refuse_settings,
)
from pagekeeper.memory.summaries import SummarizationStrategy
from pagekeeper.memory.working_set import WorkingSetConfig

__all__ = ["EventSource", "InfiniteConversationManager"]

TOKENS_PER_SEGMENT: Final = 3_000
MESSAGES_IN_CONTEXT: Final = 10


class EventSource(StrEnum):
    """The source of a message."""

    USER = "user"
    LLM = "llm"


SOURCE_OF_ROLE: Final[Mapping[str, EventSource]] = {
    MessageRole.USER: EventSource.USER,
    MessageRole.ASSISTANT: EventSource.LLM,
}


@checked
class InfiniteConversationManager:
    """Many conversations by id, kept as long as this object. A segment ends when a message finds it full."""

    def __init__(
        self,
        token_threshold: int = TOKENS_PER_SEGMENT,
        max_turns_per_segment: int = MESSAGES_PER_SEGMENT,
        summarization_strategy: SummarizationStrategy = SummarizationStrategy.BASIC,
        *,
        enable_vm: bool = False,
        vm_config: WorkingSetConfig | None = None,
    ) -> None:
        """With `enable_vm`, messages are pages, and a segment that ends leaves the prompt for its summary.

        Raises InvalidArgument for `vm_config` without it.
        """
        if not enable_vm:
            refuse_settings(vm_config=vm_config)
        self.token_threshold = token_threshold
        self.max_turns_per_segment = max_turns_per_segment
        self.summarization_strategy = summarization_strategy
        self._enable_vm = enable_vm
        self._vm_config = vm_config
        self._conversations: dict[str, SessionManager] = {}

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self._conversations):,} ids of segments)"

    async def process_message(
        self,
        session_id: str,
        message: str,
        source: EventSource,
        llm_callback: Summarizer | None = None,
        model: str = DEFAULT_MODEL,
    ) -> str:
        """Take a message; the answer is the id of the segment that it is in. An unknown id begins a conversation.

        `llm_callback` is asked for the summary of a segment that ends, with the strategy's instructions first; without
        one, the summary is extracted.
        """
        said = self._conversations.get(session_id) or self._begun(session_id, model)
        if llm_callback is not None:
            said.set_summary_callback(self._instructed(llm_callback))
        if source is EventSource.USER:
            now_in = await said.user_says(message)
        else:
            now_in = await said.ai_responds(message, model=model)
        self._conversations[session_id] = self._conversations[now_in] = said
        return now_in

    def conversation(self, session_id: str) -> SessionManager:
        """All that can be done with a conversation. Raises SessionNotFound."""
        if session_id not in self._conversations:
            raise SessionNotFound(session_id)
        return self._conversations[session_id]

    async def build_context_for_llm(
        self,
        session_id: str,
        max_messages: int = MESSAGES_IN_CONTEXT,
        include_summaries: bool = True,  # noqa: FBT001, FBT002 - the guide's signature
    ) -> list[ChatMessage]:
        """Return the summary of earlier segments, unless switched off, and the last messages of this segment."""
        messages = await self.conversation(session_id).get_messages_for_llm(include_system=include_summaries)
        before = [message for message in messages if message["role"] == MessageRole.SYSTEM]
        said = messages[len(before) :]
        return [*before, *said[max(0, len(said) - max_messages) :]]

    async def get_session_chain(self, session_id: str) -> list[str]:
        """The ids of the conversation's segments, oldest first."""
        return await self.conversation(session_id).get_session_chain()

    async def get_full_conversation_history(self, session_id: str) -> list[tuple[str, EventSource, str]]:
        """Role, source and words of every message of all segments, oldest first."""
        said = await self.conversation(session_id).get_conversation(include_all_segments=True)
        return [(one["role"], SOURCE_OF_ROLE[one["role"]], one["content"]) for one in said]

    def _begun(self, session_id: str, model: str) -> SessionManager:
        return SessionManager(
            session_id,
            infinite_context=True,
            token_threshold=self.token_threshold,
            max_turns_per_segment=self.max_turns_per_segment,
            summarization_strategy=self.summarization_strategy,
            default_model=model,
            enable_vm=self._enable_vm,
            vm_config=self._vm_config,
        )

    def _instructed(self, llm_callback: Summarizer) -> Summarizer:
        async def summarize(messages: list[dict[str, str]]) -> str:
            return await llm_callback([{"role": "system", "content": self.summarization_strategy.prompt}, *messages])

        return summarize
