"""Whatever a model writes as a tool call is answered, and what it is answered is JSON of the documented shape."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.errors import FaultLimitReached, PageNotFound
from pagekeeper.core.ids import PageId
from pagekeeper.core.pages import CompressionLevel, MediaDescription, Modality, StorageTier
from pagekeeper.core.tools import (
    PAGE_FAULT_TOOL,
    SEARCH_PAGES_TOOL,
    FaultedPage,
    FaultEffects,
    FoundPage,
    PageFaultCall,
    SearchPagesCall,
    ToolCallProblem,
    ToolFormat,
    formatted,
    get_vm_tools,
    get_vm_tools_as_dicts,
    parse_tool_call,
    render_problem,
    render_search_result,
    render_tool_result,
)
from tests.unit.hostile_text import hostile_texts, json_documents, json_values, page_ids

field_names = st.sampled_from(("page_id", "target_level", "query", "modality", "limit", "extra"))
argument_texts = st.one_of(
    hostile_texts,
    json_documents,
    st.dictionaries(field_names, json_values | st.integers(-1, 30) | page_ids).map(json.dumps),
)
tool_names = st.sampled_from(("page_fault", "search_pages")) | hostile_texts


def decoded(envelope: str) -> dict[str, Any]:
    """The envelope, after checking what holds for every one."""
    envelope.encode()
    assert len(envelope.splitlines()) == 1
    assert "<VM:" not in envelope.upper()
    value = json.loads(envelope)
    assert isinstance(value, dict)
    return value


@given(tool_names, argument_texts)
def test_every_call_is_a_call_or_a_problem_that_can_be_told(name: str, arguments: str) -> None:
    match parse_tool_call(name, arguments):
        case PageFaultCall(page_id, level):
            assert name == "page_fault"
            assert json.loads(arguments)["page_id"] == page_id
            assert 0 <= level <= 3
        case SearchPagesCall(query, _, limit):
            assert name == "search_pages"
            assert query.strip()
            assert 1 <= limit <= 20
        case ToolCallProblem() as problem:
            value = decoded(render_problem(problem))
            assert value["error"] in {"unknown_tool", "invalid_arguments"}
            assert len(value["message"]) < 300


@pytest.mark.parametrize(
    ("name", "arguments", "call"),
    [
        ("page_fault", '{"page_id": "msg_001"}', PageFaultCall(PageId("msg_001"), CompressionLevel(2))),
        (
            "page_fault",
            '{"page_id": "msg_001", "target_level": 0}',
            PageFaultCall(PageId("msg_001"), CompressionLevel(0)),
        ),
        (
            "page_fault",
            '{"page_id": "m", "target_level": 1.0, "why": "x"}',
            PageFaultCall(PageId("m"), CompressionLevel(1)),
        ),
        ("page_fault", '{"page_id": "m", "target_level": null}', PageFaultCall(PageId("m"), CompressionLevel(2))),
        ("search_pages", '{"query": "JWT"}', SearchPagesCall("JWT", None, 5)),
        ("search_pages", '{"query": "a", "modality": "image", "limit": 3}', SearchPagesCall("a", Modality.IMAGE, 3)),
    ],
)
def test_calls(name: str, arguments: str, call: PageFaultCall | SearchPagesCall) -> None:
    assert parse_tool_call(name, arguments) == call


@pytest.mark.parametrize(
    ("name", "arguments", "error", "said"),
    [
        ("drop_table", "{}", "unknown_tool", "There is no tool 'drop_table'; there are page_fault and search_pages."),
        ("page_fault", "", "invalid_arguments", "JSON object"),
        ("page_fault", '{"page_id": "m"', "invalid_arguments", "JSON object"),
        ("page_fault", '["m"]', "invalid_arguments", "JSON object"),
        ("page_fault", "[" * 50_000, "invalid_arguments", "JSON object"),
        ("page_fault", '{"page_id": ' + "[" * 800 + "]" * 800 + "}", "invalid_arguments", "not a list"),
        ("page_fault", f'"{"x" * 70_000}"', "invalid_arguments", "at most 65,536 characters"),
        ("page_fault", "{}", "invalid_arguments", "page_id is missing"),
        ("page_fault", '{"page_id": 7}', "invalid_arguments", "page_id must be a text"),
        ("page_fault", '{"page_id": "a.b>"}', "invalid_arguments", "page_id must be 1 to 64 characters"),
        ("page_fault", '{"page_id": "m", "target_level": 4}', "invalid_arguments", "from 0 to 3, not '4'"),
        ("page_fault", '{"page_id": "m", "target_level": "2"}', "invalid_arguments", "from 0 to 3"),
        ("page_fault", '{"page_id": "m", "target_level": true}', "invalid_arguments", "from 0 to 3"),
        (
            "page_fault",
            '{"page_id": "m", "target_level": 1e999}',
            "invalid_arguments",
            "1e999 is larger",
        ),
        ("search_pages", '{"query": " "}', "invalid_arguments", "query must be a text"),
        ("search_pages", '{"query": "a", "modality": "smell"}', "invalid_arguments", "must be one of text, image"),
        ("search_pages", '{"query": "a", "modality": ["text"]}', "invalid_arguments", "must be one of text, image"),
        ("search_pages", '{"query": "a", "limit": 21}', "invalid_arguments", "from 1 to 20"),
    ],
)
def test_problems_say_what_would_be_right(name: str, arguments: str, error: str, said: str) -> None:
    problem = parse_tool_call(name, arguments)
    assert isinstance(problem, ToolCallProblem)
    assert problem.error == error
    assert said in problem.message


def test_refusals_of_the_platform_become_problems() -> None:
    problem = ToolCallProblem.from_refusal(PageNotFound("msg_9"), "msg_9")
    assert decoded(render_problem(problem)) == {
        "error": "page_not_found",
        "message": "page 'msg_9' does not exist in this session",
        "page_id": "msg_9",
    }
    limit = ToolCallProblem.from_refusal(FaultLimitReached("3 faults this turn; none is left"))
    assert decoded(render_problem(limit)).keys() == {"error", "message"}


@given(page_ids, st.sampled_from(Modality), st.integers(0, 3), hostile_texts | json_documents, hostile_texts)
def test_a_page_envelope_holds_the_page(
    page_id: str, modality: Modality, level: int, text: str, tool_name: str
) -> None:
    page = FaultedPage(page_id, modality, level, StorageTier.L2, text, meta={"turn": 3, "tool_name": tool_name})
    effects = FaultEffects(promoted_to_working_set=True, tokens_est=12, evictions=("a", "b"))
    value = decoded(render_tool_result(page, effects))
    content = value["page"].pop("content")
    assert value == {
        "page": {
            "page_id": page_id,
            "modality": modality.value,
            "level": level,
            "tier": "L2",
            "meta": {"turn": 3, "tool_name": tool_name},
        },
        "effects": {"promoted_to_working_set": True, "tokens_est": 12, "evictions": ["a", "b"]},
    }
    (held,) = content.values()
    assert held == text or held == json.loads(text)


@given(hostile_texts, hostile_texts)
def test_media_envelopes_hold_the_description(caption: str, transcript: str) -> None:
    media = MediaDescription(caption, transcript, 1200, 800, 342.5, ("one", "two"))
    seen = {"caption": caption, "dimensions": [1200, 800]}
    heard = {"transcript": transcript, "duration_seconds": 342.5}
    for modality, content in (
        (Modality.IMAGE, seen),
        (Modality.AUDIO, heard),
        (Modality.VIDEO, {**seen, **heard, "scenes": ["one", "two"]}),
    ):
        page = FaultedPage("m", modality, 0, StorageTier.L3, "", media)
        assert decoded(render_tool_result(page, FaultEffects()))["page"]["content"] == content


def test_numbers_of_structured_content_stay_as_they_are_spelled() -> None:
    page = FaultedPage("j", Modality.STRUCTURED, 0, StorageTier.L2, '{"price": 1.50, "n": 12345678901234567890}')
    assert '"content":{"data":{"price":1.50,"n":12345678901234567890}}' in render_tool_result(page, FaultEffects())


@given(st.lists(st.builds(FoundPage, page_ids, st.sampled_from(Modality), st.sampled_from(StorageTier),
                          st.just((0, 1)), hostile_texts, st.floats(0, 1)), max_size=5))  # fmt: skip
def test_a_search_envelope_lists_what_was_found(found: list[FoundPage]) -> None:
    value = decoded(render_search_result(found, 1_000))
    assert value["total_available"] == 1_000
    assert [entry["page_id"] for entry in value["results"]] == [page.page_id for page in found]
    for entry, page in zip(value["results"], found, strict=True):
        assert entry.keys() == {"page_id", "modality", "tier", "levels", "hint", "relevance"}
        assert entry["hint"] == page.hint
        assert entry["relevance"] == pytest.approx(page.relevance, abs=0.001)


def test_tools_as_objects_and_as_the_provider_wants_them() -> None:
    assert [tool.function.name for tool in get_vm_tools()] == ["page_fault", "search_pages"]
    assert list(PAGE_FAULT_TOOL.function.parameters.properties) == ["page_id", "target_level", "offset"]
    assert list(SEARCH_PAGES_TOOL.function.parameters.properties) == ["query", "modality", "limit"]
    fault, search = get_vm_tools_as_dicts()
    assert fault["type"] == "function"
    assert fault["function"]["parameters"]["required"] == ["page_id"]
    assert fault["function"]["parameters"]["properties"]["target_level"]["default"] == 2
    assert search["function"]["parameters"]["properties"]["modality"]["enum"] == [*Modality]
    assert json.loads(json.dumps([fault, search])) == [fault, search]


def test_tools_say_the_same_in_every_form() -> None:
    functions = get_vm_tools_as_dicts()
    said = [
        (one["function"]["name"], one["function"]["description"], one["function"]["parameters"]) for one in functions
    ]
    assert formatted(functions, ToolFormat.FUNCTION) == functions
    anthropic = formatted(functions, ToolFormat.ANTHROPIC)
    assert [(one["name"], one["description"], one["input_schema"]) for one in anthropic] == said
    assert {key for one in anthropic for key in one} == {"name", "description", "input_schema"}
    [gemini] = formatted(functions, ToolFormat.GEMINI)
    assert [(one["name"], one["description"], one["parameters"]) for one in gemini["functionDeclarations"]] == said
    assert [formatted([], one) for one in ToolFormat] == [[], [], []]
