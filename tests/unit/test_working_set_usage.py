"""A provider's count of a prompt is written once, survives the replica, and is told to whoever assembles."""

import pytest

from pagekeeper.core.errors import InvalidField, RequestIdReused, SessionClosed
from pagekeeper.core.usage import REPORTS_TO_SHRINK
from pagekeeper.gateway.counting import counting_for
from pagekeeper.gateway.validation import check
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb
from tests.unit.faulting import FaultingReplica, serving
from tests.unit.stack import Stores, caller, ready


def report(request_id: str, input_tokens: int, model: str = "claude-sonnet-4") -> pb.ReportUsageRequest:
    return pb.ReportUsageRequest(
        request_id=request_id, session_id="s1", model=model, counted_tokens=1_000, input_tokens=input_tokens
    )


async def margin(replica: FaultingReplica, model: str) -> int:
    """As the gateway would add it."""
    resident = await replica.working_set.resident(caller(), working_pb.ResidentRequest(session_id="s1"))
    return counting_for(model, "gpt-4o").corrected(resident.usage).model.margin_percent


async def test_another_replica_keeps_to_what_was_reported() -> None:
    stores = Stores()
    one, other = FaultingReplica(await ready(stores)), FaultingReplica(await ready(stores))
    async with serving(one, other):
        await one.open()
        told = await one.working_set.report_usage(caller(), report("first", 2_000))
        assert told.margin_percent == 210
        assert await margin(other, "claude-3-haiku") == 210
        assert await margin(other, "gemini-2.5-pro") == 150
        assert await margin(other, "gpt-4o") == 100


async def test_reports_that_teach_nothing_are_not_written() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open()
        answers = [
            await replica.working_set.report_usage(caller(), report(f"r{number}", 1_200))
            for number in range(REPORTS_TO_SHRINK)
        ]
        told = answers[-1]
        assert told.margin_percent == 130
        assert (await replica.working_set.report_usage(caller(), report("more", 1_100))).revision == told.revision
        worse = await replica.working_set.report_usage(caller(), report("worse", 1_300))
        assert (worse.revision > told.revision, worse.margin_percent) == (True, 140)


async def test_a_report_is_answered_alike_and_refused_once_the_session_is_closed() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open()
        first = await replica.working_set.report_usage(caller(), report("same", 1_500, model=""))
        assert await replica.working_set.report_usage(caller(), report("same", 1_500, model="")) == first
        assert first.margin_percent == 160  # the session's model is exact until a report says otherwise
        with pytest.raises(RequestIdReused):
            await replica.working_set.report_usage(caller(), report("same", 1_501, model=""))
        await replica.page_table.close_session(caller(), pb.CloseSessionRequest(request_id="close", session_id="s1"))
        with pytest.raises(SessionClosed):
            await replica.working_set.report_usage(caller(), report("late", 1_500))


@pytest.mark.parametrize(
    ("counted", "given", "field"),
    [(0, 0, "counted_tokens"), (1_000, 249, "input_tokens"), (1_000, 4_001, "input_tokens"), (1, 0, "input_tokens")],
)
def test_what_is_no_usage_of_that_prompt_is_refused(counted: int, given: int, field: str) -> None:
    request = pb.ReportUsageRequest(session_id="s1", counted_tokens=counted, input_tokens=given)
    with pytest.raises(InvalidField) as caught:
        check(request)
    assert caught.value.metadata["field"] == field


def test_what_may_be_is_accepted() -> None:
    for given in (250, 1_000, 4_000):
        check(pb.ReportUsageRequest(session_id="s1", counted_tokens=1_000, input_tokens=given))
