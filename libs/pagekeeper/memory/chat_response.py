"""The message and the tool calls of a chat completion, in the form of OpenAI Chat Completions.

An answer is an object with attributes, such as the `openai` package's, or a mapping, such as the parsed JSON of the
response.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from pagekeeper.core.tools import get_vm_tools
from pagekeeper.core.wellformed import whole_text, write_json
from pagekeeper.memory.arguments import InvalidArgument

VM_TOOLS: Final = frozenset(tool.function.name for tool in get_vm_tools())
"""The tools by which a model reads its memory."""

ChatMessage = dict[str, Any]
"""A message of OpenAI Chat Completions."""


class Completion(Protocol):
    """`choices[0].message` has `content` and `tool_calls`. The `openai` package's unions do not say so to a checker."""

    @property
    def choices(self) -> Sequence[Any]: ...


ChatResponse = Completion | Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call as the model wrote it; `arguments` is JSON text when the model got it right."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ResponseMessage:
    """The model's message.

    `content` is None where the model said nothing. `tool_calls` are in the model's order, none when it answered.
    """

    content: str | None
    tool_calls: tuple[ToolCall, ...]


def message_of(response: ChatResponse) -> ResponseMessage:
    """The message of the first choice. Raises InvalidArgument where there is none."""
    choices = _of(response, "choices")
    message = _of(choices[0], "message") if isinstance(choices, Sequence) and choices else None
    if message is None:
        raise InvalidArgument("response", "must be a chat completion, which has choices[0].message")
    content = _of(message, "content")
    calls = enumerate(_of(message, "tool_calls") or ())
    return ResponseMessage(
        content if content is None else whole_text(str(content)),
        tuple(_tool_call(call, f"call_{place}") for place, call in calls),
    )


async def answered(
    response: ChatResponse, answer: Callable[[Sequence[ToolCall]], Awaitable[list[ChatMessage]]]
) -> dict[str, Any] | str:
    """The model's answer; or, when it called tools, what the next request has to say more.

    `answer` makes the messages that answer calls to the memory, and is asked when there are any. Calls to the
    application's own tools are left to it.
    """
    message = message_of(response)
    if not message.tool_calls:
        return message.content or ""
    own = [call for call in message.tool_calls if call.name in VM_TOOLS]
    return {
        "assistant_message": assistant_message(message),
        "tool_results": await answer(own) if own else [],
        "tool_calls": [call for call in message.tool_calls if call.name not in VM_TOOLS],
    }


def assistant_message(message: ResponseMessage) -> ChatMessage:
    """The model's message as the next request has to repeat it, in front of the messages that answer its calls."""
    calls = [
        {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in message.tool_calls
    ]
    said: ChatMessage = {"role": "assistant", "content": message.content}
    return {**said, "tool_calls": calls} if calls else said


def tool_message(call: ToolCall, content: str) -> ChatMessage:
    """The answer to a call; `content` is JSON text."""
    return {"role": "tool", "tool_call_id": call.call_id, "content": content}


def _tool_call(call: object, call_id: str) -> ToolCall:
    """Of a provider that gives no id, the call's place in the message is its id; arguments may come parsed."""
    function = _of(call, "function")
    arguments = _of(function, "arguments")
    written = whole_text(arguments) if isinstance(arguments, str) else write_json(arguments or {}, "arguments")
    return ToolCall(whole_text(str(_of(call, "id") or call_id)), whole_text(str(_of(function, "name"))), written)


def _of(thing: object, name: str) -> Any:  # noqa: ANN401 - what a provider has put there
    """An attribute or an entry; None where there is neither."""
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)
