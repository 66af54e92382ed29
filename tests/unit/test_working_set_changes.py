"""Turns, pins and importance: each done once, refused without a trace, and answered alike when asked again."""

from collections.abc import AsyncIterator, Awaitable

import pytest

from pagekeeper.core.errors import (
    InvalidField,
    PagekeeperError,
    PageNotFound,
    PinBudgetExceeded,
    RequestIdReused,
    RevisionConflict,
    SessionClosed,
    SessionNotFound,
)
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb
from tests.unit.faulting import FaultingReplica, said, serving
from tests.unit.stack import Stores, caller, ready


@pytest.fixture
async def replica() -> AsyncIterator[FaultingReplica]:
    one = FaultingReplica(await ready(Stores()))
    async with serving(one):
        await one.open(max_l0_tokens=600, reserved_tokens=10)
        await one.append(said("p1", 100), said("p2", 100), said("p3", 100))
        yield one


async def refused(replica: FaultingReplica, ask: Awaitable[object], refusal: type[PagekeeperError]) -> None:
    before = await replica.state()
    with pytest.raises(refusal):
        await ask
    assert await replica.state() == before


def pins(*page_ids: str, request_id: str = "pin", expected_revision: int = 0) -> pb.PinPagesRequest:
    return pb.PinPagesRequest(
        request_id=request_id, session_id="s1", page_ids=page_ids, expected_revision=expected_revision
    )


async def test_a_repeated_turn_is_the_turn_that_began(replica: FaultingReplica) -> None:
    first = await replica.begin_turn("the-turn")
    await replica.begin_turn()
    assert await replica.begin_turn("the-turn") == first
    assert (await replica.fold()).turn == first.turn + 1


async def test_pinned_pages_stay_until_they_are_unpinned(replica: FaultingReplica) -> None:
    await replica.working_set.pin(caller(), pins("p1"))
    for number in range(20):
        await replica.append(said(f"more-{number}", 60))
    assert "p1" in (await replica.fold()).working_set
    unpin = pb.UnpinPagesRequest(request_id="unpin", session_id="s1", page_ids=["p1"])
    await replica.working_set.unpin(caller(), unpin)
    await replica.push_out("p1")


async def test_what_is_so_already_is_not_written(replica: FaultingReplica) -> None:
    first = await replica.working_set.pin(caller(), pins("p1", "p1"))
    assert (await replica.working_set.pin(caller(), pins("p1", request_id="again"))).revision == first.revision
    unpin = pb.UnpinPagesRequest(request_id="unpin", session_id="s1", page_ids=["p2"])
    assert (await replica.working_set.unpin(caller(), unpin)).revision == first.revision
    same = pb.SetImportanceRequest(request_id="same", session_id="s1", page_id="p2", importance=0.5)
    assert (await replica.working_set.set_importance(caller(), same)).revision == first.revision


async def test_importance_is_overridden(replica: FaultingReplica) -> None:
    important = pb.SetImportanceRequest(request_id="important", session_id="s1", page_id="p2", importance=0.75)
    answer = await replica.working_set.set_importance(caller(), important)
    assert answer.revision == (await replica.fold()).revision
    assert (await replica.lookup("p2")).page.importance == 0.75
    for wrong in (-0.1, 1.1, float("nan")):
        request = pb.SetImportanceRequest(request_id="wrong", session_id="s1", page_id="p2", importance=wrong)
        await refused(replica, replica.working_set.set_importance(caller(), request), InvalidField)


async def test_refusals_leave_no_trace(replica: FaultingReplica) -> None:
    working_set = replica.working_set
    revision = (await replica.fold()).revision
    await refused(replica, working_set.pin(caller(), pins("nothing")), PageNotFound)
    await refused(replica, working_set.pin(caller(), pins("p1", expected_revision=revision - 1)), RevisionConflict)
    await working_set.pin(caller(), pins("p1", expected_revision=revision))
    await refused(replica, working_set.pin(caller(), pins("p2")), RequestIdReused)
    big = said("big", 350)
    await replica.append(big)
    await refused(replica, working_set.pin(caller(), pins("big", request_id="big")), PinBudgetExceeded)
    other = caller("umbrella")
    await refused(replica, working_set.pin(other, pins("p1")), SessionNotFound)
    await refused(replica, working_set.resident(other, working_pb.ResidentRequest(session_id="s1")), SessionNotFound)
    await replica.page_table.close_session(caller(), pb.CloseSessionRequest(request_id="close", session_id="s1"))
    await refused(replica, working_set.pin(caller(), pins("p2", request_id="late")), SessionClosed)
    await refused(replica, replica.begin_turn(), SessionClosed)
    assert (await replica.resident()).resident
