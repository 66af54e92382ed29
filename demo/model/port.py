"""The port to a language model: messages and tools in the form of OpenAI Chat Completions, a reply back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from demo.corpus.types import ToolCall

ChatMessage = Mapping[str, object]
"""A Chat Completions message: `role`, `content` and, where they belong, `tool_calls` and `tool_call_id`."""

ToolSchema = Mapping[str, object]
"""A Chat Completions tool definition."""


class ModelFailed(Exception):
    """The model gave no usable reply, and asking again will not help. The message is for the person at the terminal."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Text, or tool calls to be answered first. `prompt_tokens` is the provider's own count; 0 when it tells none."""

    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    prompt_tokens: int = 0


class Model(Protocol):
    """Answers a prompt. Sees nothing but what `complete` is given."""

    @property
    def name(self) -> str:
        """For people."""
        ...

    @property
    def counted_as(self) -> str:
        """The provider's model whose tokenizer counts the prompt, such as `gpt-4o`."""
        ...

    async def complete(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema]) -> Reply:
        """The model's next message.

        Raises ModelFailed.
        """
        ...

    async def close(self) -> None:
        """Let go of whatever it holds; nothing is asked of it afterwards."""
        ...
