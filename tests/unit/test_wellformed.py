"""The one rule for text and JSON from outside: whatever comes in, what is kept can be encoded and read again."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from demo.corpus.load import UnreadableConversation, load_conversations
from pagekeeper.client import pages
from pagekeeper.client.requests import made
from pagekeeper.core.compress.compressor import Source
from pagekeeper.core.compress.structured import ShapeCompressor
from pagekeeper.core.errors import InvalidField, PagekeeperError
from pagekeeper.core.hints import make_hint
from pagekeeper.core.pages import CompressionLevel, Modality
from pagekeeper.core.tools import ToolCallProblem, parse_tool_call, render_problem
from pagekeeper.core.wellformed import read_json, whole, whole_text, write_json
from pagekeeper.gateway import validation
from pagekeeper.gateway.prompt_tools import PromptTools, Tools
from pagekeeper.memory import SessionManager
from pagekeeper.runtime.tokens import for_model
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.unit.hostile_text import hostile_json_texts, hostile_texts, hostile_values
from tests.unit.stack import IN_PLACE, TENANT

QUICK = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def is_strict_json(text: str) -> bool:
    """Whether the strictest parser reads `text`: no constants, no number that is infinite, no half of a character."""

    def refuse(name: str) -> Any:  # noqa: ANN401 - it never returns
        raise ValueError(name)

    def finite(spelling: str) -> float:
        return float(spelling) if math.isfinite(float(spelling)) else refuse(spelling)

    value = json.loads(text, parse_constant=refuse, parse_float=finite)
    json.dumps(value, ensure_ascii=False).encode()
    return True


# The rule itself


@given(hostile_texts)
def test_a_whole_text_is_the_text_but_for_halves(text: str) -> None:
    mended = whole_text(text)
    assert whole_text(mended) == mended == mended.encode().decode()
    expected = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    assert mended == expected


@given(hostile_json_texts)
def test_json_is_read_whole_or_refused(text: str) -> None:
    try:
        value = read_json(text)
    except ValueError as problem:
        assert str(problem).encode()  # noqa: PT017 - either outcome is right, if it can be said
        return
    assert is_strict_json(json.dumps(value, allow_nan=False, ensure_ascii=False))
    assert whole(value) is value


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1E+0400", "1" * 400, "2e308"])
@pytest.mark.parametrize("around", ["{}", "[{}]", '{{"a": [1, {}]}}'])
def test_a_number_that_no_double_holds_is_refused_by_its_spelling(number: str, around: str) -> None:
    for spelled in (None, str):
        with pytest.raises(ValueError, match=number[:20].replace("+", r"\+")):
            read_json(around.format(number), spelled)


@pytest.mark.parametrize("number", ["1e308", "1e-999", "123e2", "0.1e300", "17", "1" * 300, "-0.0"])
def test_every_other_number_is_read(number: str) -> None:
    assert read_json(f"[{number}]") == json.loads(f"[{number}]")
    assert read_json(f"[{number}]", str) == [number]


@given(hostile_values)
def test_a_written_value_is_json_for_every_parser(value: object) -> None:
    assert is_strict_json(write_json(value, "value"))


def test_what_cannot_be_written_names_the_field() -> None:
    circle: list[object] = []
    circle.append(circle)
    for value in (circle, {(1, 2): 3}):
        with pytest.raises(InvalidField) as caught:
            write_json(value, "result")
        assert caught.value.field == "result"


# Every entrance


@given(hostile_texts, hostile_values)
def test_pages_of_the_client_can_be_sent(text: str, value: object) -> None:
    for page in (
        pages.user(text),
        pages.assistant(text, page_id=text),
        pages.system(text),
        pages.tool_result(text, tool_name=text, tool_call_id=text),
        pages.claim(text, derived_from=[text]),
        pages.procedure(text),
        pages.artifact(text, metadata={text: text}),
        pages.image(b"", caption=text, width=1, height=1, mime_type=text),
    ):
        assert page.SerializeToString()
        assert page.text in ("", whole_text(text))
    assert is_strict_json(pages.structured(value).text)


@given(hostile_texts)
def test_requests_of_the_client_can_be_sent(text: str) -> None:
    request = made(
        pb.AssemblePromptRequest, session_id="s", user_input=text, system_prompt=text, extra_tools_json=[text]
    )
    assert request.SerializeToString()
    assert request.user_input == request.system_prompt == request.extra_tools_json[0] == whole_text(text)


@given(hostile_json_texts)
async def test_the_gateway_takes_json_that_every_reader_takes(text: str) -> None:
    page = made(page_pb2.PageInput, modality=page_pb2.MODALITY_STRUCTURED, text=text)
    try:
        await check_page(pb.AppendPagesRequest(request_id="r", session_id="s", pages=[page]))
    except InvalidField as refused:
        assert refused.field == "pages[0].text"  # noqa: PT017 - refusing is one of the two right outcomes
        assert refused.message.encode()  # noqa: PT017 - as above
    else:
        assert is_strict_json(json.dumps(read_json(page.text), ensure_ascii=False))
    asked = made(pb.AssemblePromptRequest, session_id="s", extra_tools_json=[text])
    try:
        tools = await checked_tools(asked)
    except InvalidField as refused:
        assert refused.field == "extra_tools_json[0]"  # noqa: PT017 - as above
        assert refused.message.encode()  # noqa: PT017 - as above
    else:
        assert is_strict_json(tools.compact)
        assert is_strict_json(tools.canonical)


async def check_page(request: pb.AppendPagesRequest) -> None:
    """All that the gateway checks of pages before it takes them."""
    validation.check(request)
    await validation.check_structured(IN_PLACE, TENANT, request)


async def checked_tools(request: pb.AssemblePromptRequest) -> Tools:
    """A prompt's tools, once the gateway has checked all of them."""
    validation.check(request)
    return await PromptTools(IN_PLACE).tools(TENANT, request, for_model("gpt-4o"), passive=True)


@given(hostile_json_texts)
def test_what_is_made_of_a_page_can_be_encoded(text: str) -> None:
    stored = whole_text(text)
    assert make_hint(stored, Modality.STRUCTURED).encode() is not None
    for level in list(CompressionLevel)[1:]:
        lower = ShapeCompressor().compress(Source("p", Modality.STRUCTURED, text=stored), level, len)
        assert lower is None or lower.text.encode()


@given(hostile_json_texts | hostile_texts, st.sampled_from(["page_fault", "search_pages"]))
def test_a_call_of_a_model_becomes_a_call_or_a_problem(text: str, name: str) -> None:
    for arguments in (text, f'{{"page_id": {json.dumps(text)}, "query": {json.dumps(text)}}}'):
        call = parse_tool_call(name, arguments)
        if isinstance(call, ToolCallProblem):
            assert is_strict_json(render_problem(call))
        else:
            assert repr(call).encode()


@QUICK
@given(st.lists(hostile_texts, min_size=1, max_size=3))
def test_a_conversation_file_is_read_or_refused_in_words(tmp_path: Path, texts: list[str]) -> None:
    file = tmp_path / "talk.json"
    call = {"id": texts[-1], "type": "function", "function": {"name": texts[0], "arguments": texts[-1]}}
    messages: list[dict[str, object]] = [{"role": "user", "content": text, "id": text} for text in texts]
    file.write_text(json.dumps([*messages, {"role": "assistant", "content": None, "tool_calls": [call]}]))
    try:
        (conversation,) = load_conversations(file)
    except UnreadableConversation as refused:
        assert str(refused).encode()  # noqa: PT017 - refusing is one of the two right outcomes
        return
    for message in conversation.messages():
        for text in (message.text, *(each.arguments + each.name + each.call_id for each in message.tool_calls)):
            assert text == whole_text(text)


@QUICK
@given(hostile_texts, hostile_values)
async def test_a_conversation_in_process_can_be_sent_and_searched(text: str, value: object) -> None:
    sm = SessionManager(enable_vm=True)
    await sm.user_says(text or "x", source=text)
    await sm.ai_responds(text or "x", model=text or "m")
    await sm.tool_used(text or "t", {"a": value}, value)
    await sm.search_pages(text or "x")
    request = await sm.build_request()
    assert is_strict_json(json.dumps(request, ensure_ascii=False, allow_nan=False))


async def test_a_result_that_json_cannot_hold_is_refused_and_the_conversation_goes_on() -> None:
    sm = SessionManager(enable_vm=True)
    circle: dict[str, Any] = {}
    circle["self"] = circle
    with pytest.raises(PagekeeperError, match="result"):
        await sm.tool_used("t", {}, circle)
    await sm.tool_used("t", {}, float("nan"))
    assert "NaN" in json.dumps(await sm.get_messages_for_llm(), allow_nan=False)
