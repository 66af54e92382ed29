"""OpenAI-style messages as a conversation.

Content may be a string or an array of parts; pictures, sounds and files become a line that says what was there.

An `id` that fits the page id grammar becomes the page id; a message without one gets an id that no other message has. A
`name` is the speaker's, or the tool's; a tool's result without one is named after the call that it answers. A time in
`created_at` or `timestamp`, as ISO 8601 or in seconds or milliseconds since 1970, is when the message was said.
`recall` on a user's message makes its turn a recall question (see `generate`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from typing import Final

from demo.corpus.place import ROOT, Malformed, Place, as_array, as_object, shown
from demo.corpus.types import Conversation, Message, Recall, Role, ToolCall, Turn
from pagekeeper.core.ids import ID
from pagekeeper.core.packing import SAID_UNIX_MS_MAX

MESSAGE_BYTES_MAX: Final = 4 * 2**20
"""The most bytes that one page holds."""

_ROLES: Final = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
    "function": Role.TOOL,
}
SECONDS_BELOW: Final = 1e11
"""A number below counts seconds since 1970 (until the year 5138), one above milliseconds (from the year 1973)."""

Item = tuple[Message, Recall | None]
"""A message, and the right answer when it is a recall question."""


def read(values: Sequence[tuple[Place, object]], name: str) -> Conversation:
    """The conversation that these values, each with its place, make.

    Raises Malformed.
    """
    items: list[Item] = []
    seen: dict[str, Place] = {}
    tools: dict[str, str] = {}
    messages = [
        (place, as_object(value, place, "a message, an object with role and content")) for place, value in values
    ]
    given = {found["id"] for _, found in messages if isinstance(found.get("id"), str)}
    for number, (place, found) in enumerate(messages, 1):
        message = _message(found, place, tools)
        if not message.page_id:
            free = (f"m{later:04d}" for later in count(number, len(messages)))
            message = replace(message, page_id=next(page_id for page_id in free if page_id not in given))
        tools |= {call.call_id: call.name for call in message.tool_calls}
        if message.page_id in seen:
            raise Malformed(place / "id", f"{message.page_id!r} is the id of {seen[message.page_id]} already")
        recall = _recall(found, message.role, place, seen)
        seen[message.page_id] = place
        items.append((message, recall))
    return grouped(items, name)


def grouped(items: Iterable[Item], name: str) -> Conversation:
    """Messages as turns: a turn begins where the user speaks after the other side did, and after a recall question.

    Without any reply on record, every message of the user is a turn. Empty messages are left out, but for a tool's
    result: that a tool answered nothing is an answer. Raises Malformed.
    """
    said = [item for item in items if _holds_something(item[0])]
    if not any(message.role is Role.USER for message, _ in said):
        raise Malformed(ROOT, "no message is the user's; there is nothing to replay")
    first = next(index for index, (message, _) in enumerate(said) if message.role is not Role.SYSTEM)
    recorded = any(message.role not in (Role.USER, Role.SYSTEM) for message, _ in said)
    turns: list[Turn] = []
    question: list[Message] = []
    reply: list[Message] = []
    asked: Recall | None = None
    for message, recall in said[first:]:
        if message.role is Role.USER and (reply or (question and (asked or recall or not recorded))):
            turns.append(_turn(question, reply, asked))
            question, reply, asked = [], [], None
        asked = asked or recall
        (question if message.role is Role.USER else reply).append(message)
    turns.append(_turn(question, reply, asked))
    return Conversation(name=name, system=tuple(message for message, _ in said[:first]), turns=tuple(turns))


def _holds_something(message: Message) -> bool:
    size_bytes = len(message.text.encode())
    if size_bytes > MESSAGE_BYTES_MAX:
        problem = f"message {message.page_id} has {size_bytes:,} bytes; a page holds at most {MESSAGE_BYTES_MAX:,}"
        raise Malformed(ROOT, problem)
    return size_bytes > 0 or bool(message.tool_calls) or message.role is Role.TOOL


def _turn(question: list[Message], reply: list[Message], recall: Recall | None) -> Turn:
    """The reply on record to a recall question is left out: the model is to answer it."""
    return Turn(tuple(question), () if recall else tuple(reply), recall)


def _message(value: Mapping[str, object], place: Place, tools: Mapping[str, str]) -> Message:
    """The message, with an empty id when it has none; `tools` are the names of tools by the ids of earlier calls."""
    role = _role(value, place)
    calls = _tool_calls(value, place) if role is Role.ASSISTANT else ()
    text = _content(value, place, optional=bool(calls))
    call_id = value.get("tool_call_id") or ""
    name = value.get("name") or ""
    if not isinstance(call_id, str):
        raise Malformed(place / "tool_call_id", f"must be a string, not {shown(call_id)}")
    if not isinstance(name, str):
        raise Malformed(place / "name", f"must be a string, not {shown(name)}")
    if value["role"] == "tool" and not call_id:
        raise Malformed(place, "a message with the role tool needs tool_call_id, the id of the call that it answers")
    given = value.get("id")
    page_id = given if isinstance(given, str) and ID.fullmatch(given) else ""
    is_tool = role is Role.TOOL
    return Message(
        page_id,
        role,
        text,
        calls,
        call_id,
        tool_name=(name or tools.get(call_id, "")) if is_tool else "",
        speaker="" if is_tool else name,
        said_unix_ms=_said_unix_ms(value),
    )


def _said_unix_ms(value: Mapping[str, object]) -> int:
    """When a message was said, in milliseconds since 1970; 0 when it does not say so in a form that is known."""
    match value.get("created_at", value.get("timestamp")):
        case bool():
            return 0
        case int() | float() as moment if 0 < moment < SECONDS_BELOW:
            return int(moment * 1000)
        case int() | float() as moment if SECONDS_BELOW <= moment <= SAID_UNIX_MS_MAX:
            return int(moment)
        case str(text):
            try:
                written = datetime.fromisoformat(text)
            except ValueError:
                return 0
            zoned = written if written.tzinfo else written.replace(tzinfo=UTC)
            return min(max(int(zoned.timestamp() * 1000), 0), SAID_UNIX_MS_MAX)
        case _:
            return 0


def _role(value: Mapping[str, object], place: Place) -> Role:
    if "role" not in value:
        raise Malformed(place, f"role is missing in {shown(value)}")
    found = value["role"]
    if not isinstance(found, str) or found not in _ROLES:
        raise Malformed(place / "role", f"must be one of {', '.join(_ROLES)}, not {shown(found)}")
    return _ROLES[found]


def _content(value: Mapping[str, object], place: Place, *, optional: bool) -> str:
    match value:
        case {"content": str(text)}:
            return text
        case {"content": list(parts)}:
            inside = place / "content"
            return "\n".join(_part(part, inside / index) for index, part in enumerate(parts))
        case {"refusal": str(text)}:
            return text
        case {"content": found} if found is not None:
            raise Malformed(place / "content", f"must be a string or an array of parts, not {shown(found)}")
        case _ if optional:
            return ""
        case _:
            raise Malformed(place, "content is missing")


def _part(part: object, place: Place) -> str:
    match part:
        case str(text):
            said = text
        case {"type": "text" | "input_text" | "output_text", "text": str(text)} | {
            "type": "refusal",
            "refusal": str(text),
        }:
            said = text
        case {"type": "image_url", "image_url": {"url": str(url)}} | {"type": "input_image", "image_url": str(url)}:
            said = f"[image: {_address(url)}]"
        case {"type": "input_audio" | "audio"}:
            said = "[audio]"
        case {"type": "file" | "input_file", "file": {"filename": str(name)}}:
            said = f"[file: {name}]"
        case {"type": "file" | "input_file"}:
            said = "[file]"
        case {"type": kind}:
            raise Malformed(place, f"this content part of type {shown(kind)} is incomplete or of an unknown type")
        case _:
            raise Malformed(place, f"must be a content part, an object with type, not {shown(part)}")
    return said


def _address(url: str) -> str:
    if not url.startswith("data:"):
        return url
    kind, _, encoded = url.partition(",")
    return f"{kind.removeprefix('data:').split(';')[0]}, {len(encoded) * 3 // 4:,} bytes"


def _tool_calls(value: Mapping[str, object], place: Place) -> tuple[ToolCall, ...]:
    match value:
        case {"function_call": {"name": str(name), "arguments": str(arguments)}}:
            return (ToolCall("", name, arguments),)
        case {"tool_calls": calls} if calls is not None:
            inside = place / "tool_calls"
            array = as_array(calls, inside, "an array of tool calls")
            return tuple(_tool_call(call, inside / index) for index, call in enumerate(array))
        case _:
            return ()


def _tool_call(call: object, place: Place) -> ToolCall:
    match call:
        case {"id": str(call_id), "function": {"name": str(name), "arguments": str(arguments)}}:
            return ToolCall(call_id, name, arguments)
        case {"id": str(call_id), "function": {"name": str(name), "arguments": dict(arguments)}}:
            return ToolCall(call_id, name, json.dumps(arguments, ensure_ascii=False))
        case _:
            raise Malformed(place, f"must hold id, function.name and function.arguments, not {shown(call)}")


def _recall(value: Mapping[str, object], role: Role, place: Place, earlier: Mapping[str, Place]) -> Recall | None:
    """The side field of a question whose answer is known."""
    if "recall" not in value:
        return None
    inside = place / "recall"
    if role is not Role.USER:
        raise Malformed(inside, "belongs to a user's message")
    match value["recall"]:
        case {"topic": str(topic), "answer": [*answer], "decision_message": str(message)}:
            parts = tuple(part for part in answer if isinstance(part, str) and part)
            if not parts or len(parts) < len(answer):
                raise Malformed(inside / "answer", "must be an array of one or more strings, none of them empty")
            if message not in earlier:
                raise Malformed(inside / "decision_message", f"no earlier message has the id {message!r:.80}")
            return Recall(topic, parts, (message,))
        case found:
            raise Malformed(inside, f"must hold topic, answer (an array) and decision_message, not {shown(found)}")
