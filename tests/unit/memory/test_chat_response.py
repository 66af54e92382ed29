"""A model's answer is read alike from the client's object, from its JSON, and from providers that leave things out."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion

from pagekeeper.core.errors import InvalidField
from pagekeeper.memory import MemoryManager
from pagekeeper.memory.chat_response import ToolCall, assistant_message, message_of
from tests.unit.hostile_text import hostile_texts

calls = st.lists(st.builds(ToolCall, st.text(min_size=1), st.text(min_size=1), st.text()), max_size=3)


def completion(content: str | None, made: list[ToolCall]) -> dict[str, Any]:
    functions = [
        {"id": c.call_id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in made
    ]
    message = {"role": "assistant", "content": content, "tool_calls": functions or None}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}


@given(st.none() | st.text(), calls)
def test_an_object_and_its_json_say_the_same(content: str | None, made: list[ToolCall]) -> None:
    parsed = completion(content, made)
    from_object, from_json = message_of(ChatCompletion.model_validate(parsed)), message_of(parsed)
    assert from_object == from_json
    assert from_json.content == content
    assert list(from_json.tool_calls) == made
    said = assistant_message(from_json)
    assert said.get("tool_calls") == parsed["choices"][0]["message"]["tool_calls"]


@given(hostile_texts)
def test_what_is_repeated_to_the_model_can_be_encoded(text: str) -> None:
    message = message_of(completion(text, [ToolCall("c1", text, text)]))
    assert json.dumps(assistant_message(message), ensure_ascii=False).encode()


def test_a_call_without_an_id_and_with_parsed_arguments() -> None:
    called = {"function": {"name": "page_fault", "arguments": {"page_id": "p1"}}}
    response = {"choices": [{"message": {"content": "", "tool_calls": [called, called]}}]}
    assert list(message_of(response).tool_calls) == [
        ToolCall("call_0", "page_fault", '{"page_id": "p1"}'),
        ToolCall("call_1", "page_fault", '{"page_id": "p1"}'),
    ]


@pytest.mark.parametrize("response", [{}, {"choices": []}, {"choices": [{}]}, {"choices": None}, None, "text"])
def test_what_is_no_completion_is_refused(response: object) -> None:
    with pytest.raises(InvalidField, match="response must be a chat completion"):
        message_of(response)  # type: ignore[arg-type]


async def test_a_manager_answers_calls_that_came_as_json() -> None:
    memory = MemoryManager()
    page = await memory.add_user_message("The launch is on the 14th of May.")
    fault = ToolCall("c1", "page_fault", json.dumps({"page_id": page.page_id, "target_level": 0}))
    result = await memory.process_response(completion(None, [fault]))
    assert isinstance(result, dict)
    (answer,) = result["tool_results"]
    assert answer["tool_call_id"] == "c1"
    assert "14th of May" in answer["content"]
    assert await memory.process_response(completion("Done.", [])) == "Done."
