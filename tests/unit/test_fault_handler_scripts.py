"""Whatever two replicas did to a session, a fault answers what was said, and the page is resident."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.errors import PagekeeperError
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.unit.faulting import FaultingReplica, represent, said, serving
from tests.unit.stack import Stores, caller, ready

CONFIG = {"max_l0_tokens": 600, "reserved_tokens": 10, "max_faults_per_turn": 100, "max_fault_tokens_per_turn": 9_000}

ACTS = st.one_of(
    st.tuples(st.just("append"), st.integers(0, 5), st.integers(5, 90)),
    st.tuples(st.just("represent"), st.integers(0, 5), st.integers(1, 3)),
    st.tuples(st.just("fault"), st.integers(0, 5), st.integers(0, 3)),
    st.tuples(st.just("fault"), st.integers(0, 5), st.integers(0, 3)),
    st.tuples(st.sampled_from(["flush", "snapshot", "turn", "drop"]), st.integers(0, 5), st.just(0)),
)


@settings(max_examples=50)
@given(st.lists(st.tuples(st.integers(0, 1), ACTS), min_size=10, max_size=40))
def test_whatever_happened_a_fault_answers_what_was_said(script: list[tuple[int, tuple[str, int, int]]]) -> None:
    """Two replicas, each with caches of its own; every fault wants to see what was written last."""

    async def play() -> None:
        stores = await ready(Stores())
        replicas = [FaultingReplica(stores, "a"), FaultingReplica(stores, "b", cache_bytes_max=200)]
        texts: dict[str, dict[int, str]] = {}
        async with serving(*replicas):
            await replicas[0].open("s1", **CONFIG)
            for which, (what, number, amount) in script:
                await act(replicas[which], what, f"p{number}", amount, texts)

    asyncio.run(play())


async def act(replica: FaultingReplica, what: str, page_id: str, amount: int, texts: dict[str, dict[int, str]]) -> None:
    known = texts.get(page_id)
    match what:
        case "append":
            page = said(page_id, amount, page_pb2.MESSAGE_ROLE_TOOL)
            page.text += f" {replica.request_id()}"
            page.new_version = known is not None
            await attempt(replica.append(page), lambda _: texts.update({page_id: {0: page.text}}))
        case "represent" if known is not None:
            text = f"{page_id} at level {amount}, {replica.request_id()}"
            await attempt(represent(replica, page_id, amount, text), lambda _: known.setdefault(amount, text))
        case "fault":
            revision = (await replica.fold()).revision
            answer = await attempt(replica.fault(page_id, amount, min_revision=revision), lambda _: None)
            if answer is not None:
                assert known is not None
                assert answer.content.text == known[answer.content.level]
                assert answer.content.level == answer.outcome.level <= amount
                resident = (await replica.fold()).working_set.get(page_id)
                assert resident is not None
                assert resident.level == answer.outcome.level
        case "drop" if known is not None:
            drop = pb.DropPagesRequest(request_id=replica.request_id(), session_id="s1", page_ids=[page_id])
            await attempt(replica.page_table.unmap_pages(caller(), drop), lambda _: None)
        case "flush":
            await replica.flush()
        case "snapshot":
            await replica.snapshot()
        case "turn":
            await replica.begin_turn()
        case _:
            pass


async def attempt(asked: Awaitable[object], then: Callable[[object], object]) -> pb.FaultPageResponse | None:
    try:
        answer = await asked
    except PagekeeperError:
        return None
    then(answer)
    return cast(pb.FaultPageResponse, answer)
