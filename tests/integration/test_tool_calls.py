"""Whatever a model writes as a tool call is answered by a message for it, never by a failed call."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from pagekeeper.client import Pagekeeper, Session, tool_result, user
from pagekeeper.core.errors import InvalidField, SessionClosed
from pagekeeper.v1 import error_reason_pb2 as errors
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2

pytestmark = pytest.mark.xdist_group("stacks")

BROKEN = [
    ("", "page_fault", "", "invalid_arguments"),
    ("1", "page_fault", "{", "invalid_arguments"),
    ("2", "page_fault", "[" * 50_000, "invalid_arguments"),
    ("3", "page_fault", "null", "invalid_arguments"),
    ("4", "page_fault", '"hello"', "invalid_arguments"),
    ("5", "page_fault", "{}", "invalid_arguments"),
    ("6", "page_fault", '{"page_id": null}', "invalid_arguments"),
    ("7", "page_fault", '{"page_id": 7}', "invalid_arguments"),
    ("8", "page_fault", '{"page_id": "a.*"}', "invalid_arguments"),
    ("9", "page_fault", '{"page_id": "\\ud800"}', "invalid_arguments"),
    ("10", "page_fault", '{"page_id": "hello", "target_level": 4}', "invalid_arguments"),
    ("11", "page_fault", '{"page_id": "hello", "target_level": 1e400}', "invalid_arguments"),
    ("12", "page_fault", '{"page_id": "hello", "target_level": ' + "9" * 5_000 + "}", "invalid_arguments"),
    ("13", "page_fault", '{"page_id": "unknown"}', "page_not_found"),
    ("14", "search_pages", '{"query": "  "}', "invalid_arguments"),
    ("15", "search_pages", '{"query": "hello", "limit": 0}', "invalid_arguments"),
    ("16", "search_pages", '{"query": "hello", "modality": {"a": []}}', "invalid_arguments"),
    ("21", "search_pages", '{"query": "hello", "modality": "\\udfff"}', "invalid_arguments"),
    ("22", "page_fault", '{"page_id": "hello", "target_level": "\\ud83d"}', "invalid_arguments"),
    ("17", "rm -rf", "{}", "unknown_tool"),
    ("18", "", "", "unknown_tool"),
    ("x" * 1_000, "page_fault\0", "{}", "unknown_tool"),
]
STRANGE_QUERIES = ["\\ud800", "\\u0000", "AND OR NOT (", '\\"', "*", "a" * 60_000, "!?", "NEAR/2", "🜚"]

FAILURES = {
    "invalid_arguments": errors.ERROR_REASON_INVALID_FIELD,
    "unknown_tool": errors.ERROR_REASON_INVALID_FIELD,
    "page_not_found": errors.ERROR_REASON_PAGE_NOT_FOUND,
}
"""The reason of each error that a model is told."""


@pytest.fixture
async def session(alice: Pagekeeper) -> Session:
    session = await alice.open_session(max_l0_tokens=4_000, max_faults_per_turn=2)
    await session.append(user("hello", page_id="hello"))
    return session


def envelope(message: pb.ToolMessage) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(message.content)
    return content


async def test_what_the_model_got_wrong_is_told_to_the_model(session: Session) -> None:
    before = await session.replay()
    calls = [pb.ToolCall(id=id_, name=name, arguments_json=arguments) for id_, name, arguments, _ in BROKEN]
    messages = await session.handle_tool_calls(*calls)
    assert [message.tool_call_id for message in messages] == [id_ for id_, *_ in BROKEN]
    for message, (*_, error) in zip(messages, BROKEN, strict=True):
        assert envelope(message)["error"] == error
        assert message.failure == FAILURES[error]
        assert 0 < len(envelope(message)["message"]) < 500
        assert not message.HasField("fault")
    assert (await session.replay()).state_digest == before.state_digest


async def test_any_words_are_a_query(session: Session) -> None:
    calls = [pb.ToolCall(name="search_pages", arguments_json=f'{{"query": "{query}"}}') for query in STRANGE_QUERIES]
    for message in await session.handle_tool_calls(*calls):
        assert "results" in envelope(message) or message.failure == errors.ERROR_REASON_INVALID_FIELD


async def test_a_right_call_beside_wrong_ones_is_done(session: Session) -> None:
    wrong = pb.ToolCall(id="1", name="page_fault", arguments_json="{")
    right = pb.ToolCall(id="2", name="page_fault", arguments_json='{"page_id": "hello", "target_level": 0}')
    first, second = await session.handle_tool_calls(wrong, right)
    assert envelope(first)["error"] == "invalid_arguments"
    assert envelope(second)["page"]["page_id"] == "hello"
    assert envelope(second)["page"]["content"] == {"text": "hello"}


async def test_the_turns_faults_run_out_politely_and_come_back(session: Session) -> None:
    words = "The tide comes in at dawn and again at dusk. " * 12
    for number in range(30):
        await session.append(tool_result(f"{number}: {words}", page_id=f"p{number}"))
    away = [page.page_id async for page in session.pages() if not _is_resident(page)]
    assert len(away) >= 4
    calls = [
        pb.ToolCall(id=page_id, name="page_fault", arguments_json=json.dumps({"page_id": page_id, "target_level": 0}))
        for page_id in away[:4]
    ]
    messages = await session.handle_tool_calls(*calls, request_id="four")
    used_up = errors.ERROR_REASON_FAULT_LIMIT_REACHED
    assert [message.failure for message in messages] == [0, 0, used_up, used_up]
    assert "2" in envelope(messages[2])["message"]
    await session.append(user("Next turn."))
    # Repeated, though a newer state has been seen: not one fault more, and the first two pages are answered again.
    revision = session.revision
    again = await session.handle_tool_calls(*calls[:2], request_id="other")
    assert [message.failure for message in again] == [0, 0]
    assert session.revision >= revision


async def test_a_repeated_request_faults_once(session: Session) -> None:
    words = "The tide comes in at dawn and again at dusk. " * 12
    for number in range(30):
        await session.append(tool_result(f"{number}: {words}", page_id=f"p{number}"))
    page_id, *_ = [page.page_id async for page in session.pages() if not _is_resident(page)]
    call = pb.ToolCall(name="page_fault", arguments_json=json.dumps({"page_id": page_id, "target_level": 0}))
    (first,) = await session.handle_tool_calls(call, request_id="once")
    assert first.fault.promoted
    await session.append(user("Something else."))
    (second,) = await session.handle_tool_calls(call, request_id="once")
    assert not second.failure
    assert envelope(second)["page"]["content"] == envelope(first)["page"]["content"]
    assert (await session.stats()).faults_total == 1


async def test_a_result_says_which_tool_it_is_of_and_a_message_who_said_it(session: Session) -> None:
    noon = datetime(2026, 5, 8, 12, 0, tzinfo=UTC)
    await session.append(
        user("Is SKU 12 in stock?", page_id="asked", speaker="Alice (work)", said_at=noon),
        tool_result("true", tool_name="stock_lyon", tool_call_id="c1", page_id="lyon"),
        tool_result("", tool_name="stock_turin", tool_call_id="c2", page_id="turin"),
    )
    shown = "".join(message.content for message in (await session.assemble(user_input="Well?")).messages)
    assert r'U (asked "Alice \u{28}work\u{29}" 2026-05-08 12:00): "Is SKU 12 in stock?"' in shown
    assert 'T (lyon "stock_lyon" "c1"): "true"' in shown
    assert 'T (turin "stock_turin" "c2"): ""' in shown
    ids = ["asked", "lyon", "turin"]
    calls = [pb.ToolCall(id=name, name="page_fault", arguments_json=json.dumps({"page_id": name})) for name in ids]
    metas = [envelope(answer)["page"]["meta"] for answer in (await session.handle_tool_calls(*calls))[:2]]
    assert [(meta.get("speaker"), meta.get("tool_call_id"), meta.get("said")) for meta in metas] == [
        ("Alice (work)", None, "2026-05-08 12:00"),
        ("stock_lyon", "c1", None),
    ]
    edited = page_pb2.PageInput(page_id="asked", new_version=True, role=page_pb2.MESSAGE_ROLE_USER, text="SKU 13?")
    await session.append(edited)
    page = await session.page("asked")
    assert (page.speaker, page.said_unix_ms) == ("Alice (work)", int(noon.timestamp() * 1000))
    with pytest.raises(InvalidField, match="must stay 'c1'"):
        await session.append(
            page_pb2.PageInput(
                page_id="lyon", new_version=True, role=page_pb2.MESSAGE_ROLE_TOOL, text="no", tool_call_id="c9"
            )
        )


async def test_role_and_tools_follow_the_model_unless_the_request_says_otherwise(session: Session) -> None:
    claude = await session.assemble(model="claude-sonnet-4-5")
    assert [message.role for message in claude.messages] == ["system", "user"]
    assert {"name", "description", "input_schema"} == {key for tool in json.loads(claude.tools_json) for key in tool}
    proxied = await session.assemble(model="claude-sonnet-4-5", tool_format=pb.TOOL_FORMAT_FUNCTION)
    default = await session.assemble()
    assert proxied.tools_json == default.tools_json != claude.tools_json
    assert [message.role for message in default.messages] == ["developer", "user"]
    gemini = json.loads((await session.assemble(model="gemini-3-pro")).tools_json)
    assert [one["name"] for one in gemini[0]["functionDeclarations"]] == ["page_fault", "search_pages"]
    mine = '{"name": "clock", "description": "The time.", "input_schema": {"type": "object"}}'
    both = await session.assemble(model="claude-sonnet-4-5", extra_tools_json=[mine])
    assert [tool["name"] for tool in json.loads(both.tools_json)] == ["page_fault", "search_pages", "clock"]
    assert both.tokens.tools > claude.tokens.tools


async def test_what_is_the_callers_fault_fails_the_call(session: Session) -> None:
    with pytest.raises(InvalidField) as none:
        await session.handle_tool_calls()
    assert none.value.metadata == {"field": "calls"}
    with pytest.raises(InvalidField):
        await session.handle_tool_calls(*[pb.ToolCall(name="page_fault", arguments_json="{}")] * 33)
    await session.append(*[user(f"turn {number} " * 300, page_id=f"t{number}") for number in range(8)])
    away = [page.page_id async for page in session.pages() if not _is_resident(page)]
    await session.close()
    with pytest.raises(SessionClosed):
        await session.handle_tool_calls(
            pb.ToolCall(name="page_fault", arguments_json=json.dumps({"page_id": away[0], "target_level": 0}))
        )


def _is_resident(page: page_pb2.Page) -> bool:
    return page.tier == page_pb2.STORAGE_TIER_L0
