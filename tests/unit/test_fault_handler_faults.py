"""A fault answers the page's own bytes and makes it resident, or does neither."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from pagekeeper.core.errors import (
    ContentCorrupt,
    FaultLimitReached,
    PagekeeperError,
    PageNotFound,
    SessionClosed,
    StoreUnavailable,
)
from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb
from pagekeeper.v1 import error_reason_pb2 as errors
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import working_set_service_pb2 as working_pb
from tests.fakes.faulty_bucket import Faults
from tests.unit.faulting import FaultingReplica, represent, said, serving, text_of
from tests.unit.stack import Stores, caller, ready

CONFIG = {"max_l0_tokens": 600, "reserved_tokens": 10, "max_faults_per_turn": 100, "max_fault_tokens_per_turn": 9_000}


@pytest.fixture
async def replica() -> AsyncIterator[FaultingReplica]:
    one = FaultingReplica(await ready(Stores()))
    async with serving(one):
        await one.open("s1", **CONFIG)
        yield one


async def state_unchanged_by(replica: FaultingReplica, ask: Awaitable[object], refusal: type[PagekeeperError]) -> None:
    before = await replica.state()
    with pytest.raises(refusal):
        await ask
    assert await replica.state() == before


async def test_it_answers_the_bytes_from_the_log_and_from_the_object_store(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50), said("p2", 50))
    await replica.push_out("p1", "p2")
    from_log = await replica.fault("p1")
    assert from_log.content.text == text_of("p1", 50)
    assert from_log.outcome.source_tier == from_log.content.source_tier == page_pb2.STORAGE_TIER_L1
    await replica.flush()
    from_store = await replica.fault("p2")
    assert from_store.content.text == text_of("p2", 50)
    assert from_store.outcome.source_tier == page_pb2.STORAGE_TIER_L2
    for answer in (from_log, from_store):
        assert answer.outcome.promoted
        assert answer.page.tier == page_pb2.STORAGE_TIER_L0
        assert answer.page.fault_count == 1
        assert answer.content.size_tokens == answer.outcome.size_tokens
    session = await replica.fold()
    assert {"p1", "p2"} <= {resident.page_id for resident in session.working_set}


async def test_what_is_resident_already_is_answered_and_nothing_is_written(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50))
    before = await replica.fold()
    answer = await replica.fault("p1", 3)
    assert answer.revision == before.revision
    assert not answer.outcome.promoted
    assert answer.outcome.level == answer.content.level == 0
    assert answer.outcome.source_tier == page_pb2.STORAGE_TIER_L0
    assert answer.content.text == text_of("p1", 50)
    assert (await replica.fold()).faults_total == 0


async def test_a_missing_level_is_answered_by_the_nearest_shorter_one(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50))
    await represent(replica, "p1", 1, "fewer words")
    await represent(replica, "p1", 3, "words")
    await replica.push_out("p1")
    shorter = await replica.fault("p1", 2)
    assert (shorter.outcome.level, shorter.content.text) == (3, "words")
    reduced = await replica.fault("p1", 1)
    assert (reduced.outcome.level, reduced.content.text) == (1, "fewer words")
    again = await replica.fault("p1", 2)
    assert (again.outcome.level, again.outcome.promoted) == (1, False), "the prompt shows more already"
    full = await replica.fault("p1", 0)
    assert (full.outcome.level, full.content.text) == (0, text_of("p1", 50))
    assert full.outcome.source_tier == page_pb2.STORAGE_TIER_L0


async def test_where_no_level_is_shorter_the_shortest_is_answered(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50), said("p2", 50))
    await represent(replica, "p1", 2, "few words")
    await replica.push_out("p1", "p2")
    shortest = await replica.fault("p1", 3)
    assert (shortest.outcome.level, shortest.content.text) == (2, "few words")
    alone = await replica.fault("p2", 3)
    assert (alone.outcome.level, alone.content.text) == (0, text_of("p2", 50))


async def test_a_repeated_request_is_answered_alike_and_done_once(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50))
    await replica.push_out("p1")
    first = await replica.fault("p1", request_id="the-fault")
    await replica.append(said("p2", 20))
    again = await replica.fault("p1", request_id="the-fault", min_revision=first.revision)
    assert again.revision == first.revision
    assert again.content == first.content
    assert again.outcome.promoted
    assert (await replica.fold()).faults_total == 1


async def test_a_repetition_finds_other_levels_and_is_still_the_same_request(replica: FaultingReplica) -> None:
    """The answer was lost; until the client asks again, the background has made a lower level."""
    await replica.append(said("p1", 50))
    await replica.push_out("p1")
    first = await replica.fault("p1", 1, request_id="the-fault")
    await represent(replica, "p1", 1, "few words")
    again = await replica.fault("p1", 1, request_id="the-fault", min_revision=(await replica.fold()).revision)
    assert again.content == first.content


async def test_when_the_turns_faults_are_used_up_nothing_is_answered(replica: FaultingReplica) -> None:
    await replica.append(*(said(f"p{number}", 20) for number in range(6)))
    await replica.push_out(*(f"p{number}" for number in range(6)))
    config = pb.ConfigureSessionRequest(request_id="config", session_id="s1")
    config.config.max_faults_per_turn = 2
    await replica.page_table.configure_session(caller(), config)
    await replica.fault("p0")
    await replica.fault("p1")
    await state_unchanged_by(replica, replica.fault("p2"), FaultLimitReached)
    await replica.begin_turn()
    assert (await replica.fault("p2")).content.text == text_of("p2", 20)


async def test_bytes_that_are_not_what_was_stored_are_neither_answered_nor_admitted(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50))
    await replica.push_out("p1")
    await replica.flush()
    replica.stores.bucket.faults = Faults(wrong=1.0)
    await state_unchanged_by(replica, replica.fault("p1"), ContentCorrupt)
    replica.stores.bucket.faults = Faults(refused=1.0)
    await state_unchanged_by(replica, replica.fault("p1"), StoreUnavailable)
    replica.stores.bucket.faults = Faults()
    assert (await replica.fault("p1")).content.text == text_of("p1", 50)


class LyingArtifacts:
    """Artifact-storage that answers other bytes than it was asked for, and says that they are right."""

    async def get_blobs(self, _: Caller, request: artifact_pb.GetBlobsRequest) -> artifact_pb.GetBlobsResponse:
        return artifact_pb.GetBlobsResponse(items=[artifact_pb.BlobItem(data=b"something else") for _ in request.refs])


async def test_bytes_are_verified_whoever_says_that_they_are_right(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50))
    await replica.push_out("p1")
    await replica.flush()
    replica.compose(replica.page_table, replica.working_set, LyingArtifacts())
    await state_unchanged_by(replica, replica.fault("p1"), ContentCorrupt)
    many = pb.FaultPagesRequest(request_id="many", session_id="s1", page_ids=["p1"])
    answer = await replica.faults.fault_many(caller(), many)
    assert [item.failure for item in answer.items] == [errors.ERROR_REASON_CONTENT_CORRUPT]


async def test_what_does_not_exist_or_may_not_change_is_refused(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 20))
    await state_unchanged_by(replica, replica.fault("p2"), PageNotFound)
    await replica.page_table.close_session(caller(), pb.CloseSessionRequest(request_id="close", session_id="s1"))
    await state_unchanged_by(replica, replica.fault("p1"), SessionClosed)


async def test_an_entry_whose_bytes_have_moved_is_looked_up_again(replica: FaultingReplica) -> None:
    """The TLB knows that the bytes are in the log; no content is kept; write-back moves them unheard."""
    small = FaultingReplica(replica.stores, "b", cache_bytes_max=0)
    async with serving(small):
        await replica.append(said("p1", 50), said("p2", 20))
        await small.fault("p1")
        await replica.flush()
        await replica.push_out("p1")
        assert (await small.fault("p1")).content.text == text_of("p1", 50)


class WorkingSetAfter:
    """Working-set, to which something happens just before it is asked the first time."""

    def __init__(self, replica: FaultingReplica, happen: Callable[[], Awaitable[object]]) -> None:
        self._working_set = replica.working_set
        self._happen: Callable[[], Awaitable[object]] | None = happen

    async def admit(self, caller: Caller, request: working_pb.AdmitRequest) -> working_pb.AdmitResponse:
        happen, self._happen = self._happen, None
        if happen is not None:
            await happen()
        return await self._working_set.admit(caller, request)


async def test_a_page_that_changes_after_it_was_read_is_read_again(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50))
    await replica.push_out("p1")

    async def another_version() -> None:
        again = said("p1", 30)
        again.new_version = True
        await replica.append(again)
        await replica.push_out("p1")

    replica.compose(replica.page_table, WorkingSetAfter(replica, another_version), replica.artifacts)
    answer = await replica.fault("p1")
    assert (answer.content.version, answer.content.text) == (2, text_of("p1", 30))
    assert answer.page.version == answer.outcome.version == 2


async def test_a_page_that_changes_after_it_was_read_and_is_resident_is_read_again(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50))
    await replica.push_out("p1")
    again = said("p1", 30)
    again.new_version = True
    replica.compose(replica.page_table, WorkingSetAfter(replica, lambda: replica.append(again)), replica.artifacts)
    answer = await replica.fault("p1")
    assert (answer.content.version, answer.content.text) == (2, text_of("p1", 30))
    assert not answer.outcome.promoted


async def test_a_page_that_changes_to_unreadable_bytes_is_not_admitted(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50))
    await replica.push_out("p1")

    async def unreadable_version() -> None:
        again = said("p1", 30)
        again.new_version = True
        await replica.append(again)
        await replica.flush()
        await replica.push_out("p1")
        replica.stores.bucket.faults = Faults(wrong=1.0)

    replica.compose(replica.page_table, WorkingSetAfter(replica, unreadable_version), replica.artifacts)
    with pytest.raises(ContentCorrupt):
        await replica.fault("p1")
    assert "p1" not in (await replica.fold()).working_set


async def test_a_level_that_appears_after_the_page_was_read_is_used(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50))
    await replica.push_out("p1")
    happens = WorkingSetAfter(replica, lambda: represent(replica, "p1", 1, "few words"))
    replica.compose(replica.page_table, happens, replica.artifacts)
    answer = await replica.fault("p1", 1)
    assert (answer.outcome.level, answer.content.text) == (1, "few words")


async def test_a_page_that_is_dropped_after_it_was_read_is_not_found(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50), said("p2", 20))
    await replica.push_out("p1")
    drop = pb.DropPagesRequest(request_id="drop", session_id="s1", page_ids=["p1"])
    happens = WorkingSetAfter(replica, lambda: replica.page_table.unmap_pages(caller(), drop))
    replica.compose(replica.page_table, happens, replica.artifacts)
    with pytest.raises(PageNotFound):
        await replica.fault("p1")


class SlowArtifacts:
    """Artifact-storage that answers when it is told to, and refuses to be asked for the same bytes twice at once."""

    def __init__(self, replica: FaultingReplica) -> None:
        self._artifacts = replica.artifacts
        self._reading: set[bytes] = set()
        self.asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def get_blobs(self, caller: Caller, request: artifact_pb.GetBlobsRequest) -> artifact_pb.GetBlobsResponse:
        wanted = {ref.digest for ref in request.refs}
        assert not wanted & self._reading, "a load was started beside one that runs"
        self._reading |= wanted
        try:
            self.asked.set()
            await self.may_answer.wait()
            return await self._artifacts.get_blobs(caller, request)
        finally:
            self._reading -= wanted


async def test_faults_on_one_page_share_a_load_and_none_takes_the_others_down(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50), said("p2", 50))
    await replica.push_out("p1", "p2")
    await replica.flush()
    slow = SlowArtifacts(replica)
    replica.compose(replica.page_table, replica.working_set, slow)
    first = asyncio.ensure_future(replica.fault("p1"))
    await slow.asked.wait()
    others = [asyncio.ensure_future(replica.fault("p1")) for _ in range(3)]
    many = asyncio.ensure_future(
        replica.faults.fault_many(
            caller(), pb.FaultPagesRequest(request_id="many", session_id="s1", page_ids=["p2", "p1"])
        )
    )
    await asyncio.sleep(0.01)
    # The one that started the load gives up.
    first.cancel()
    await asyncio.sleep(0.01)
    slow.may_answer.set()
    for answer in await asyncio.gather(*others):
        assert answer.content.text == text_of("p1", 50)
    assert [item.fault.content.text for item in (await many).items] == [text_of("p2", 50), text_of("p1", 50)]
    assert first.cancelled()


async def test_several_pages_have_a_status_each(replica: FaultingReplica) -> None:
    await replica.append(*(said(f"p{number}", 20) for number in range(4)))
    await replica.push_out(*(f"p{number}" for number in range(4)))
    await replica.flush()
    config = pb.ConfigureSessionRequest(request_id="config", session_id="s1")
    config.config.max_faults_per_turn = 2
    await replica.page_table.configure_session(caller(), config)
    request = pb.FaultPagesRequest(request_id="many", session_id="s1", page_ids=["p0", "nothing", "p1", "p0", "p2"])
    answer = await replica.faults.fault_many(caller(), request)
    unknown, used_up = errors.ERROR_REASON_PAGE_NOT_FOUND, errors.ERROR_REASON_FAULT_LIMIT_REACHED
    assert [item.failure for item in answer.items] == [0, unknown, 0, 0, used_up]
    assert [item.fault.outcome.promoted for item in answer.items] == [True, False, True, False, False]
    for item in answer.items:
        assert item.fault.content.text == ("" if item.failure else text_of(item.page_id, 20))
    assert answer.revision == (await replica.fold()).revision
    again = await replica.faults.fault_many(caller(), request)
    assert [item.fault.content for item in again.items] == [item.fault.content for item in answer.items]
    assert (await replica.fold()).faults_total == 2


async def test_a_stream_shows_the_placeholder_before_the_bytes_are_there(replica: FaultingReplica) -> None:
    await replica.append(said("p1", 50))
    await replica.push_out("p1")
    await replica.flush()
    slow = SlowArtifacts(replica)
    replica.compose(replica.page_table, replica.working_set, slow)
    fault = pb.FaultPageRequest(request_id="fault", session_id="s1", page_id="p1")
    parts = replica.faults.stream_fault(caller(), pb.StreamFaultRequest(fault=fault))
    first = await anext(parts)
    assert first.placeholder.page_id == "p1"
    assert first.placeholder.hint
    assert not slow.asked.is_set()
    slow.may_answer.set()
    assert (await anext(parts)).page.content.text == text_of("p1", 50)
    assert [part async for part in parts] == []


async def test_another_replicas_new_version_is_seen_at_its_revision(replica: FaultingReplica) -> None:
    other = FaultingReplica(replica.stores, "b")
    async with serving(other):
        await replica.append(said("p1", 50))
        await other.fault("p1")
        again = said("p1", 30)
        again.new_version = True
        appended = await replica.append(again)
        answer = await other.fault("p1", min_revision=appended.revision)
        assert answer.content.text == text_of("p1", 30)
