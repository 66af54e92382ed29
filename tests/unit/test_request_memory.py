"""A retry is answered as the first time, however many requests came between, or is told that nothing tells any more."""

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.bookkeeping import (
    REMEMBERED_MS,
    REQUEST_HASH_BYTES,
    REQUEST_HASHES_BYTES_MAX,
    forget_old_requests,
    forgotten_until_unix_ms,
)
from pagekeeper.core.errors import OutcomeUnknown, RequestIdReused
from pagekeeper.core.events import ArchiveSegment
from pagekeeper.core.pages import Extent
from pagekeeper.core.session import OPERATIONS_MAX
from pagekeeper.runtime.request_memory import made_unix_ms
from pagekeeper.runtime.rpc.methods import Method, methods
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from tests.fakes.faulty_bucket import Faults
from tests.fakes.manual_clock import ManualClock
from tests.integration.requests import SERVICE, filled
from tests.unit.platforms import PlatformReplica, Platforms
from tests.unit.stack import caller


@pytest.fixture(autouse=True)
def short_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """States that remember 20 requests, so that few requests are many."""
    monkeypatch.setattr("pagekeeper.core.session.OPERATIONS_MAX", 20)


ENDS_A_SESSION = {"close_session", "delete_session"}
"""After these nothing is written, so nothing comes between."""
WRITING = [one for one in methods(SERVICE) if one.repeatable_by_id and one.attribute not in ENDS_A_SESSION]
BETWEEN = 60
SNAPSHOT_EVERY = 25
OF_CONTENT = {"fault_page", "fault_pages", "handle_tool_calls"}
"""These find out where a page is, and write only when the page has to move."""
ANSWERED_OF_NOW = {"happenings", "session", "outcome", "page", "messages", "data", "made", "items", "resident"}
"""Parts of answers that tell how things are now, or what making room did."""


async def session_with_a_page(replica: PlatformReplica) -> None:
    """Session s1 with page p and checkpoint c; p is pinned, and q has left for later pages."""
    config = session_pb2.SessionConfig(max_l0_tokens=2_000)
    opening = pb.OpenSessionRequest(request_id="open", session_id="s1", config=config)
    await replica.api.open_session(caller(), opening)
    await replica.api.append_pages(caller(), appending("p"))
    await replica.api.pin_pages(caller(), pb.PinPagesRequest(request_id="pin", session_id="s1", page_ids=["p"]))
    await replica.api.create_checkpoint(
        caller(), pb.CreateCheckpointRequest(request_id="check", session_id="s1", checkpoint_id="c")
    )
    for page_id in "qrstuvwxyz":
        await replica.api.append_pages(caller(), appending(page_id))
    listed = await replica.api.get_page(caller(), pb.GetPageRequest(session_id="s1", page_id="q"))
    assert listed.page.tier != page_pb2.STORAGE_TIER_L0


def appending(page_id: str) -> pb.AppendPagesRequest:
    page = page_pb2.PageInput(
        page_id=page_id, role=page_pb2.MESSAGE_ROLE_USER, text=f"page {page_id}" + " of words" * 150
    )
    return pb.AppendPagesRequest(request_id=f"append-{page_id}", session_id="s1", pages=[page])


async def many_turns(replica: PlatformReplica, session_id: str, count: int, name: str = "turn") -> None:
    """Others' requests, with a snapshot now and then."""
    for number in range(count):
        await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id=f"{name}{number}", session_id=session_id))
        if number % SNAPSHOT_EVERY == SNAPSHOT_EVERY - 1:
            await replica.snapshot(session_id)


def request_for(method: Method) -> Any:  # noqa: ANN401 - a request of any RPC
    session_id = "s2" if method.attribute == "open_session" else "s1"
    page_id = "q" if method.attribute in OF_CONTENT or method.attribute == "pin_pages" else "p"
    request: Any = filled(method.request, session_id, page_id, "c")
    request.request_id = "first"
    if method.attribute == "annotate_page":
        request.hint = "another hint"
    if method.attribute == "fork_session":
        request.new_session_id = "s2"
    return request


def lasting(answer: Any) -> dict[str, object]:  # noqa: ANN401 - an answer of any RPC
    """What of an answer does not change with time."""
    return {field.name: value for field, value in answer.ListFields() if field.name not in ANSWERED_OF_NOW}


@pytest.mark.parametrize("method", WRITING, ids=[method.attribute for method in WRITING])
async def test_a_retry_after_many_others_is_answered_as_the_first_time(method: Method) -> None:
    platforms = await Platforms(ManualClock()).open()
    replica = platforms.replica()
    await session_with_a_page(replica)
    request = request_for(method)
    first = await getattr(replica.api, method.attribute)(
        caller(), type(request).FromString(request.SerializeToString())
    )
    written = "s2" if method.attribute in ("open_session", "fork_session") else "s1"
    await many_turns(replica, written, BETWEEN)
    for asked in (replica, platforms.replica()):
        before = await asked.api.get_session(caller(), pb.GetSessionRequest(session_id=written, strict=True))
        again = await getattr(asked.api, method.attribute)(
            caller(), type(request).FromString(request.SerializeToString())
        )
        after = await asked.api.get_session(caller(), pb.GetSessionRequest(session_id=written, strict=True))
        assert after.session.revision == before.session.revision, "it was done again"
        if method.attribute not in OF_CONTENT:
            assert lasting(again) == lasting(first)


async def test_a_retry_is_recognised_in_a_tail_that_no_snapshot_has_shortened() -> None:
    platforms = await Platforms(ManualClock()).open()
    replica = platforms.replica()
    await session_with_a_page(replica)
    first = await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id="first", session_id="s1"))
    for number in range(BETWEEN):
        await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id=f"t{number}", session_id="s1"))
    for asked in (replica, platforms.replica()):
        again = await asked.api.begin_turn(caller(), pb.BeginTurnRequest(request_id="first", session_id="s1"))
        assert (again.revision, again.turn) == (first.revision, first.turn)


async def test_a_retry_is_answered_after_more_requests_than_a_state_remembers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same with the memory that states have."""
    monkeypatch.undo()
    replica = (await Platforms(ManualClock()).open()).replica()
    await session_with_a_page(replica)
    first = await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id="first", session_id="s1"))
    for number in range(OPERATIONS_MAX + 8):
        await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id=f"t{number}", session_id="s1"))
    await replica.snapshot("s1")
    again = await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id="first", session_id="s1"))
    assert (again.revision, again.turn) == (first.revision, first.turn)
    with pytest.raises(RequestIdReused):
        await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id="append-p", session_id="s1"))


async def test_another_body_under_an_old_id_is_refused() -> None:
    replica = (await Platforms(ManualClock()).open()).replica()
    await session_with_a_page(replica)
    await many_turns(replica, "s1", BETWEEN)
    other = appending("other")
    other.request_id = "append-p"
    with pytest.raises(RequestIdReused):
        await replica.api.append_pages(caller(), other)


async def test_what_cannot_be_read_is_not_guessed() -> None:
    """Neither done again nor denied: the archive alone tells, and its store is away."""
    platforms = await Platforms(ManualClock()).open()
    replica = platforms.replica()
    await session_with_a_page(replica)
    await many_turns(replica, "s1", BETWEEN)
    platforms.bucket.faults = Faults(refused=1.0)
    before = await replica.api.get_session(caller(), pb.GetSessionRequest(session_id="s1", strict=True))
    with pytest.raises(OutcomeUnknown):
        await replica.api.append_pages(caller(), appending("p"))
    # A request that is new needs no archive.
    await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id="new", session_id="s1"))
    after = await replica.api.get_session(caller(), pb.GetSessionRequest(session_id="s1", strict=True))
    assert after.session.turn == before.session.turn + 1


async def test_an_id_from_before_what_is_remembered_cannot_be_told() -> None:
    platforms = await Platforms(ManualClock()).open()
    replica = platforms.replica()
    await session_with_a_page(replica)
    old = uuid7(platforms.clock.now_ms())
    first = await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id=old, session_id="s1"))
    await many_turns(replica, "s1", BETWEEN)
    # Within the hour it is answered.
    platforms.clock.advance(3_500)
    await many_turns(replica, "s1", SNAPSHOT_EVERY, "within")
    again = await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id=old, session_id="s1"))
    assert (again.revision, again.turn) == (first.revision, first.turn)
    platforms.clock.advance(REMEMBERED_MS / 1_000 + 1)
    await many_turns(replica, "s1", SNAPSHOT_EVERY, "after")
    with pytest.raises(OutcomeUnknown):
        await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id=old, session_id="s1"))
    # A new id of that kind, and one that tells no time, are taken.
    for request_id in (uuid7(platforms.clock.now_ms()), "tells-no-time"):
        await replica.api.begin_turn(caller(), pb.BeginTurnRequest(request_id=request_id, session_id="s1"))


def uuid7(unix_ms: int) -> str:
    return UUID(int=unix_ms << 80 | 7 << 76 | 2 << 62 | 12345).hex


@given(unix_ms=st.integers(0, 2**48 - 1), dashes=st.booleans())
def test_the_time_of_an_id_is_read_where_it_tells_one(unix_ms: int, dashes: bool) -> None:  # noqa: FBT001
    text = uuid7(unix_ms)
    assert made_unix_ms(str(UUID(text)) if dashes else text) == unix_ms


@given(st.uuids(version=4))
def test_an_id_that_tells_no_time_has_none(made: UUID) -> None:
    assert made_unix_ms(made.hex) is None


def segment(minutes: int, requests: int) -> ArchiveSegment:
    return ArchiveSegment(1, 2, 0, Extent("k", 0, 1), b"", bytes(requests * REQUEST_HASH_BYTES), minutes * 60_000)


@given(st.lists(st.tuples(st.integers(0, 40), st.integers(1, 20_000)), min_size=1, max_size=30))
def test_an_hour_is_remembered_as_far_as_the_bytes_go(steps: list[tuple[int, int]]) -> None:
    archive: list[ArchiveSegment] = []
    made: list[ArchiveSegment] = []
    minutes = 0
    for pause, requests in steps:
        minutes += pause
        made.append(segment(minutes, requests))
        archive.append(made[-1])
        forget_old_requests(archive)
        kept = [bool(one.request_hashes) for one in archive]
        assert kept == sorted(kept), "an older segment is remembered, a newer one is not"
        assert sum(len(one.request_hashes) for one in archive) <= REQUEST_HASHES_BYTES_MAX
        newest = made[-1].last_written_unix_ms
        for index, (one, there) in enumerate(zip(made, archive, strict=True)):
            later_bytes = sum(len(other.request_hashes) for other in made[index:])
            within = newest - one.last_written_unix_ms <= REMEMBERED_MS
            assert bool(there.request_hashes) == (within and later_bytes <= REQUEST_HASHES_BYTES_MAX)
        forgotten = [one.last_written_unix_ms for one, is_kept in zip(made, kept, strict=True) if not is_kept]
        assert forgotten_until_unix_ms(archive) == max(forgotten, default=0)
