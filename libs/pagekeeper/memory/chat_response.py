"""What a chat completion asks for, read from an answer in the form of OpenAI Chat Completions.

Attributes are all that is asked of a response, so the `openai` package's objects and plain ones will do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

ChatMessage = dict[str, Any]
"""A message of OpenAI Chat Completions."""


class _Function(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def arguments(self) -> str: ...


class _Call(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def function(self) -> _Function: ...


class ResponseMessage(Protocol):
    """The message of a choice."""

    @property
    def content(self) -> str | None: ...

    @property
    def tool_calls(self) -> Sequence[Any] | None: ...


class _Choice(Protocol):
    @property
    def message(self) -> Any: ...  # noqa: ANN401 - see `ChatResponse`


class ChatResponse(Protocol):
    """A completion: `choices[0].message` is a `ResponseMessage`. The client's own unions do not say so to a checker."""

    @property
    def choices(self) -> Sequence[_Choice]: ...


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the model wrote it; `arguments` is JSON text when the model got it right."""

    call_id: str
    name: str
    arguments: str


def message_of(response: ChatResponse) -> ResponseMessage:
    """The model's message, of the only choice there is or the first."""
    message: ResponseMessage = response.choices[0].message
    return message


def tool_calls_of(message: ResponseMessage) -> list[ToolCall]:
    """The calls in the model's order; none when it answered."""
    calls: Sequence[_Call] = message.tool_calls or ()
    return [ToolCall(call.id, call.function.name, call.function.arguments) for call in calls]


def assistant_message(message: ResponseMessage) -> ChatMessage:
    """The model's message as the next request has to repeat it, in front of the messages that answer its calls."""
    calls = [
        {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in tool_calls_of(message)
    ]
    said: ChatMessage = {"role": "assistant", "content": message.content}
    return {**said, "tool_calls": calls} if calls else said


def tool_message(call: ToolCall, content: str) -> ChatMessage:
    """The answer to a call; `content` is JSON text."""
    return {"role": "tool", "tool_call_id": call.call_id, "content": content}
