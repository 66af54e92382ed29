"""A public request that is wrong is refused with the field's path and what would be right."""

import json
import math
from typing import Any

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from pagekeeper.core.errors import ContentTooLarge, InvalidField
from pagekeeper.gateway.validation import check, check_structured
from pagekeeper.runtime.pool import HERE_BYTES_MAX
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from tests.unit.stack import SeenPool

HOSTILE_IDS = ["*", ">", "a,b", "a=2Fb", "a\0b", "a" * 65, "ü", " ", "a b", "a\n", "x" * 1_000_000]
MESSAGE = page_pb2.PageInput(text="hello")


def append(**page: Any) -> pb.AppendPagesRequest:  # noqa: ANN401 - fields of PageInput
    return pb.AppendPagesRequest(session_id="s", pages=[page_pb2.PageInput(**{"text": "hello"} | page)])


@pytest.mark.parametrize("hostile", HOSTILE_IDS)
@pytest.mark.parametrize(
    "field",
    [
        ("OpenSessionRequest", "session_id"),
        ("OpenSessionRequest", "request_id"),
        ("GetSessionRequest", "session_id"),
        ("FaultPageRequest", "page_id"),
        ("GetCheckpointRequest", "checkpoint_id"),
        ("ForkSessionRequest", "new_session_id"),
    ],
)
def test_a_hostile_id_names_its_field(field: tuple[str, str], hostile: str) -> None:
    message_name, name = field
    request = GetMessageClass(pb.DESCRIPTOR.message_types_by_name[message_name])()
    for known in request.DESCRIPTOR.fields_by_name:
        if known.endswith("_id"):
            setattr(request, known, "fine")
    setattr(request, name, hostile)
    with pytest.raises(InvalidField) as refusal:
        check(request)
    assert refusal.value.field == name
    assert len(str(refusal.value)) < 300


def test_ids_in_lists_are_checked_too() -> None:
    with pytest.raises(InvalidField, match=r"page_ids\[1\]"):
        check(pb.PinPagesRequest(session_id="s", page_ids=["a", "*"]))


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GetSessionRequest(), "session_id"),
        (pb.AppendPagesRequest(session_id="s"), "pages"),
        (append(text=""), "pages[0].text"),
        (append(text="", role=page_pb2.MESSAGE_ROLE_ASSISTANT), "pages[0].text"),
        (append(text="", role=page_pb2.MESSAGE_ROLE_TOOL, modality=page_pb2.MODALITY_STRUCTURED), "pages[0].text"),
        (
            pb.AppendPagesRequest(session_id="s", pages=[page_pb2.PageInput(role=page_pb2.MESSAGE_ROLE_TOOL)]),
            "pages[0].text",
        ),
        (append(page_id="a*b"), "pages[0].page_id"),
        (append(modality=99), "pages[0].modality"),
        (append(role=42), "pages[0].role"),
        (append(importance=1.5), "pages[0].importance"),
        (append(importance=math.nan), "pages[0].importance"),
        (append(trust=page_pb2.TRUST_CLASS_SYSTEM), "pages[0].trust"),
        (append(modality=page_pb2.MODALITY_IMAGE), "pages[0].text"),
        (append(new_version=True), "pages[0].page_id"),
        (append(metadata={"": "x"}), "pages[0].metadata"),
        (append(links=[page_pb2.PageLink(target_page_id="x")]), "pages[0].links[0].kind"),
        (pb.FaultPageRequest(session_id="s", page_id="p", target_level=4), "target_level"),
        (pb.FaultPageRequest(session_id="s", page_id="p", reason=77), "reason"),  # type: ignore[arg-type]
        (pb.AssemblePromptRequest(session_id="s", budget_tokens=2**31), "budget_tokens"),
        (pb.AssemblePromptRequest(session_id="s", budget_tokens=100, reserve_tokens=100), "reserve_tokens"),
        (pb.SearchPagesRequest(session_id="s", query="  "), "query"),
        (pb.SearchPagesRequest(session_id="s", query="x", limit=101), "limit"),
        (pb.SearchPagesRequest(session_id="s", query="x", from_turn=5, to_turn=4), "to_turn"),
        (pb.ListPagesRequest(session_id="s", page_size=1001), "page_size"),
        (pb.FaultPagesRequest(session_id="s"), "page_ids"),
        (pb.FaultPagesRequest(session_id="s", page_ids=["p"] * 33), "page_ids"),
        (pb.HandleToolCallsRequest(session_id="s"), "calls"),
        (pb.RestoreCheckpointRequest(session_id="s"), "target"),
        (pb.GetContextAtRequest(session_id="s"), "at"),
        (pb.DiffContextRequest(session_id="s", from_turn=1), "to"),
        (pb.StreamFaultRequest(), "fault"),
        (pb.StreamFaultRequest(fault=pb.FaultPageRequest(session_id="s", page_id="*")), "fault.page_id"),
        (pb.SetImportanceRequest(session_id="s", page_id="p", importance=-0.1), "importance"),
        (pb.OpenSessionRequest(config=session_pb2.SessionConfig(mode=9)), "config.mode"),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_field_is_named(request_: Message, field: str) -> None:
    with pytest.raises(InvalidField) as refusal:
        check(request_)
    assert refusal.value.field == field
    assert refusal.value.problem.startswith("must ")


def test_too_much_says_how_much_is_accepted() -> None:
    with pytest.raises(ContentTooLarge) as refusal:
        check(append(text="x" * (4 * 1024 * 1024 + 1)))
    assert refusal.value.metadata["limit_bytes"] == str(4 * 1024 * 1024)
    half = page_pb2.PageInput(text="x" * (3 * 1024 * 1024))
    with pytest.raises(ContentTooLarge, match="pages has"):
        check(pb.AppendPagesRequest(session_id="s", pages=[half, half]))
    with pytest.raises(ContentTooLarge, match="query has"):
        check(pb.SearchPagesRequest(session_id="s", query="x" * 1_000_000))


def structured(*texts: str) -> pb.AppendPagesRequest:
    pages = [page_pb2.PageInput(text=text, modality=page_pb2.MODALITY_STRUCTURED) for text in texts]
    return pb.AppendPagesRequest(session_id="s", pages=[page_pb2.PageInput(text="{"), *pages])


@pytest.mark.parametrize("size", [1, HERE_BYTES_MAX], ids=["small", "large"])
@pytest.mark.parametrize("wrong", ["{", "[NaN]", "[1e999]", "[" * 100_000])
async def test_a_structured_page_is_json(wrong: str, size: int) -> None:
    pool = SeenPool()
    right = json.dumps(["x" * size])
    check(structured(right, wrong))
    with pytest.raises(InvalidField) as refusal:
        await check_structured(pool, "acme", structured(right, wrong, "{"))
    assert refusal.value.field == "pages[2].text"
    assert refusal.value.problem.startswith("must be JSON when modality is STRUCTURED: ")
    await check_structured(pool, "acme", structured(right))
    computed = ("acme", "first_that_is_no_json")
    assert set(pool.computed) == (set() if size == 1 and len(wrong) < HERE_BYTES_MAX else {computed})


def test_what_is_right_passes() -> None:
    check(append(page_id="m_1-A", metadata={"k": "v"}, importance=0.0))
    check(append(modality=page_pb2.MODALITY_STRUCTURED, text='{"a": 1}'))
    check(append(text="", role=page_pb2.MESSAGE_ROLE_TOOL))
    check(pb.OpenSessionRequest())
    check(pb.AssemblePromptRequest(session_id="s", user_input="\0\u2028 anything", extra_tools_json=["{}"]))
    check(pb.HandleToolCallsRequest(session_id="s", calls=[pb.ToolCall(id="call.1/*", name=">", arguments_json="{")]))
    check(pb.GetContextAtRequest(session_id="s", turn=0))
