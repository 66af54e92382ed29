"""No answer is larger than a message may be, whatever callers have written into a session, and none is lost after its
effects.
"""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagekeeper.client import user
from pagekeeper.core.errors import ContentTooLarge
from pagekeeper.runtime.listing import ListRoom, fitting
from pagekeeper.runtime.rpc.methods import MESSAGE_BYTES_MAX
from pagekeeper.v1 import error_reason_pb2, page_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from tests.unit.faulting import FaultingReplica, serving
from tests.unit.stack import Stores, caller, ready
from tests.unit.test_unreadable_pages import stack

TOO_LARGE = error_reason_pb2.ERROR_REASON_CONTENT_TOO_LARGE
TOKENS_EXCEEDED = error_reason_pb2.ERROR_REASON_FAULT_TOKENS_EXCEEDED
HEAVY = {f"key {number}": "v" * 1_000 for number in range(30)}
"""30 KiB of what an application says of one page."""


def heavy(page_id: str) -> page_pb2.PageInput:
    return page_pb2.PageInput(page_id=page_id, text="short", metadata=HEAVY, hint="h" * 1_000)


@given(st.lists(st.integers(0, 400), max_size=30), st.integers(1, 12), st.integers(1, 600))
def test_a_list_ends_where_its_room_does(sizes: list[int], entries_max: int, bytes_max: int) -> None:
    entries = [page_pb2.Page(hint="h" * size) for size in sizes]
    room = ListRoom(entries_max, bytes_max)
    listed = []
    for entry in entries:
        if not room.takes(entry):
            break
        listed.append(entry)
    assert len(listed) <= entries_max
    assert len(listed) <= 1 or sum(entry.ByteSize() for entry in listed) <= bytes_max
    if len(listed) < min(len(entries), entries_max):
        assert sum(entry.ByteSize() for entry in entries[: len(listed) + 1]) > bytes_max
    assert listed or not entries


async def walked(page: Callable[[str], Awaitable[Any]], field: str) -> list[Any]:
    """All entries of a list; every answer on the way fits a message."""
    token, entries = "", []
    while True:
        answer = await page(token)
        assert answer.ByteSize() < MESSAGE_BYTES_MAX
        entries += getattr(answer, field)
        token = answer.next_page_token
        if not token:
            return entries


async def test_lists_of_heavy_entries_are_cut_by_bytes_and_lose_none() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open(max_l0_tokens=100_000)
        for start in range(0, 320, 20):
            await replica.append(*(heavy(f"p{number}") for number in range(start, start + 20)))
        for number in range(160):
            metadata = {name: f"{number}{value[:900]}" for name, value in HEAVY.items()}
            annotated = pb.AnnotatePageRequest(
                request_id=f"note{number}", session_id="s1", page_id="p0", metadata=metadata
            )
            await replica.page_table.annotate_page(caller(), annotated)

        def pages(token: str) -> Awaitable[pb.ListPagesResponse]:
            asked = pb.ListPagesRequest(session_id="s1", page_size=1_000, page_token=token)
            return replica.page_table.list_pages(caller(), asked)

        def history(token: str) -> Awaitable[pb.GetPageHistoryResponse]:
            asked = pb.GetPageHistoryRequest(session_id="s1", page_id="p0", page_size=1_000, page_token=token)
            return replica.page_table.get_page_history(caller(), asked)

        listed = await walked(pages, "pages")
        assert [page.page_id for page in listed] == [f"p{number}" for number in range(320)]
        assert all(dict(page.metadata) == HEAVY for page in listed[1:])
        entries = await walked(history, "entries")
        assert sum(entry.HasField("annotated") for entry in entries) == 160
        resident = await replica.resident()
        assert len(resident.resident) == 320
        assert resident.ByteSize() < 1024 * 1024, "what an application says of pages is in no internal answer"


async def test_labels_of_many_sessions_are_cut_by_bytes() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        labels = {name: value[:900] for name, value in HEAVY.items()}
        for number in range(200):
            request = pb.OpenSessionRequest(request_id=f"o{number}", session_id=f"s{number:03}", labels=labels)
            await replica.page_table.open_session(caller(), request)

        def sessions(token: str) -> Awaitable[pb.ListSessionsResponse]:
            return replica.page_table.list_sessions(caller(), pb.ListSessionsRequest(page_size=500, page_token=token))

        listed = await walked(sessions, "sessions")
        assert [session.session_id for session in listed] == [f"s{number:03}" for number in range(200)]


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.sampled_from((1_000, 400_000, 1_200_000, 3_000_000)), min_size=4, max_size=7),
    st.sampled_from(("a ", "\x00", "\u202e", "\U000e0041")),
)
async def test_a_call_whose_answer_would_not_fit_has_no_effect(sizes: list[int], written: str) -> None:
    pagekeeper, _ = await stack()
    session = await pagekeeper.open_session(
        max_l0_tokens=2_000_000, max_faults_per_turn=100, max_fault_tokens_per_turn=2_000_000, pin_last_turns=1
    )
    unit = len(written.encode())
    for number, size in enumerate(sizes):
        await session.append(user(written * (size // unit // 8), page_id=f"f{number}"))
    calls = [
        pb.ToolCall(
            id=f"c{n}",
            name="page_fault",
            arguments_json=json.dumps({"page_id": f"f{n % len(sizes)}", "target_level": 0}),
        )
        for n in range(32)
    ]
    request = pb.HandleToolCallsRequest(session_id=session.session_id, calls=calls)
    answer = await pagekeeper.api.handle_tool_calls(pagekeeper.caller(), request)
    assert answer.ByteSize() < MESSAGE_BYTES_MAX
    assert len(answer.messages) == 32
    for message in answer.messages:
        assert message.failure in {0, TOO_LARGE, TOKENS_EXCEEDED}
        if message.failure or message.next_offset:
            assert not message.HasField("fault")
    faults = pb.FaultPagesRequest(session_id=session.session_id, page_ids=[f"f{n % len(sizes)}" for n in range(32)])
    items = await pagekeeper.api.fault_pages(pagekeeper.caller(), faults)
    assert items.ByteSize() < MESSAGE_BYTES_MAX
    assert {item.failure for item in items.items} <= {0, TOO_LARGE, TOKENS_EXCEEDED}


async def test_a_working_set_of_many_pages_is_told_in_parts() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open(max_l0_tokens=100_000)
        for start in range(0, 60, 20):
            await replica.append(*(page_pb2.PageInput(page_id=f"p{n}", text="short") for n in range(start, start + 20)))
        whole = await replica.working_set.context_at(caller(), pb.GetContextAtRequest(session_id="s1", turn=60))
        told: list[str] = []
        for _ in range(4):
            asked = pb.GetContextAtRequest(session_id="s1", revision=whole.revision, skip=len(told))
            part = await replica.working_set.context_at(caller(), asked)
            told += [page.page_id for page in part.pages][:25]
            assert part.pages_left_out == 0
        assert told == [page.page_id for page in whole.pages]
        diff = pb.DiffContextRequest(session_id="s1", from_turn=20, to_turn=60)
        different = await replica.working_set.diff_context(caller(), diff)
        diff.skip = 15
        rest = await replica.working_set.diff_context(caller(), diff)
        assert list(rest.entered) == list(different.entered)[15:]


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(1, 900))
def test_what_fits_is_the_longest_beginning(sizes: list[int], bytes_max: int) -> None:
    entries = [page_pb2.Page(hint="h" * size) for size in sizes]
    listed = fitting(entries, bytes_max)
    assert listed == entries[: len(listed)]
    assert listed or not entries
    if len(listed) < len(entries):
        assert sum(entry.ByteSize() for entry in entries[: len(listed) + 1]) > bytes_max


async def test_a_prompt_is_no_larger_than_a_message() -> None:
    pagekeeper, _ = await stack()
    session = await pagekeeper.open_session(max_l0_tokens=2_000_000, reserved_tokens=1_000, pin_last_turns=1)
    blank = " " * 100 + "a"
    for number in range(6):
        await session.append(user(blank * 20_000, page_id=f"w{number}"))
    prompt = await session.assemble(user_input="Go on.")
    assert prompt.ByteSize() < MESSAGE_BYTES_MAX
    assert prompt.omitted_page_ids
    assert prompt.messages[-1].content.endswith("Go on.")
    with pytest.raises(ContentTooLarge):
        await session.assemble(user_input="Go on.", extra_tools_json=[json.dumps({"name": "n" * 60_000})] * 40)
