"""What an object that calls a service from afar does for its caller, over real sockets."""

import asyncio
from pathlib import Path

import pytest

from pagekeeper.core.errors import (
    ContentTooLarge,
    DeadlineExceeded,
    InvalidField,
    LogUnavailable,
    PagekeeperError,
    PageNotFound,
    RevisionConflict,
    ServiceUnavailable,
    StoreUnavailable,
)
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.methods import MESSAGE_BYTES_MAX
from pagekeeper.runtime.rpc.remote import ATTEMPTS_MAX, CALL_SECONDS
from pagekeeper.v1.artifact_storage_service_pb2 import (
    BlobItem,
    BlobRef,
    GetBlobsRequest,
    GetBlobsResponse,
    PutBlobsRequest,
)
from pagekeeper.v1.memory_service_pb2 import FaultPageRequest, FaultPageResponse, StreamFaultRequest
from pagekeeper.v1.page_pb2 import Extent
from tests.integration.rpc_services import FAULTS, STORAGE, Behaviour, Faults, Storage, Surroundings
from tests.servers import free_port

READ = GetBlobsRequest(refs=[BlobRef(extent=Extent(object_key="acme/segment", length=12))])
CONTENT_BYTES_MAX = 8 << 20


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


def failing(error: PagekeeperError, times: int) -> Behaviour:
    """Raise `error` so many times, then do nothing."""
    left = times

    async def behave(_: Caller) -> None:
        nonlocal left
        if left:
            left -= 1
            raise error

    return behave


@pytest.mark.parametrize(
    "error",
    [
        PageNotFound("p1"),
        InvalidField("page_id", "must be 1 to 64 characters, not '…'"),
        RevisionConflict(3, 5),
        LogUnavailable("no answer", partition="2"),
    ],
)
async def test_what_is_raised_there_is_raised_here(error: PagekeeperError, surroundings: Surroundings) -> None:
    async with surroundings.serving(FAULTS, Faults(failing(error, times=1))) as proxy:
        with pytest.raises(type(error)) as raised:
            await proxy.fault(surroundings.caller(), FaultPageRequest())
    assert vars(raised.value) == vars(error)


async def test_deadlines_shrink_over_hops(surroundings: Surroundings) -> None:
    """A caller with two seconds; a service that spends a part of them, then calls another."""
    far = Storage()
    async with surroundings.serving(STORAGE, far) as far_proxy:

        async def call_on(caller: Caller) -> None:
            await asyncio.sleep(0.5)
            assert caller.deadline is not None
            near_left.append(caller.deadline - surroundings.clock.monotonic())
            await far_proxy.get_blobs(caller, READ)
            (seen,) = far.callers
            assert seen.deadline is not None
            far_left.append(seen.deadline - surroundings.clock.monotonic())

        near_left: list[float] = []
        far_left: list[float] = []
        near = Storage(call_on)
        async with surroundings.serving(STORAGE, near) as near_proxy:
            await near_proxy.get_blobs(surroundings.caller(seconds=2), READ)
    assert 1.0 < near_left[0] <= 1.6
    assert 1.0 < far_left[0] <= near_left[0] + 0.1  # gRPC sends what is left in rounded units
    # Identity and trace came along.
    assert far.callers[0].with_deadline(None) == near.callers[0].with_deadline(None) == surroundings.caller()


async def test_a_caller_without_a_deadline_is_given_one(surroundings: Surroundings) -> None:
    storage = Storage()
    async with surroundings.serving(STORAGE, storage) as proxy:
        await proxy.get_blobs(surroundings.caller(), READ)
    deadline = storage.callers[0].deadline
    assert deadline is not None
    assert deadline - surroundings.clock.monotonic() == pytest.approx(CALL_SECONDS, abs=1)


async def test_nothing_is_sent_when_no_time_is_left(surroundings: Surroundings) -> None:
    storage, faults = Storage(), Faults()
    async with surroundings.serving(STORAGE, storage) as proxy:
        with pytest.raises(DeadlineExceeded):
            await proxy.get_blobs(surroundings.caller(seconds=0), READ)
    async with surroundings.serving(FAULTS, faults) as proxy:
        with pytest.raises(DeadlineExceeded):
            await anext(proxy.stream_fault(surroundings.caller(seconds=-1), StreamFaultRequest()))
    assert not storage.callers
    assert not faults.callers


DEFINITE = StoreUnavailable("not there")
INDEFINITE = LogUnavailable("perhaps")


@pytest.mark.parametrize(
    ("error", "request_id", "repeated"),
    [
        (INDEFINITE, "r1", True),
        (INDEFINITE, "", False),
        (DEFINITE, "r1", True),
        (DEFINITE, "", True),
        (PageNotFound("p1"), "r1", False),
        (DeadlineExceeded("late"), "r1", False),
    ],
)
async def test_a_mutation_is_repeated_only_when_it_cannot_happen_twice(
    error: PagekeeperError, request_id: str, *, repeated: bool, surroundings: Surroundings
) -> None:
    faults = Faults(failing(error, times=2))
    request = FaultPageRequest(request_id=request_id, min_revision=6)
    async with surroundings.serving(FAULTS, faults) as proxy:
        if repeated:
            assert await proxy.fault(surroundings.caller(), request) == FaultPageResponse(revision=7)
        else:
            with pytest.raises(type(error)):
                await proxy.fault(surroundings.caller(), request)
    assert len(faults.callers) == (3 if repeated else 1)


@pytest.mark.parametrize("error", [DEFINITE, INDEFINITE])
async def test_a_read_is_repeated(error: PagekeeperError, surroundings: Surroundings) -> None:
    storage = Storage(failing(error, times=2))
    async with surroundings.serving(STORAGE, storage) as proxy:
        assert await proxy.get_blobs(surroundings.caller(), READ) == GetBlobsResponse(items=[BlobItem(data=bytes(12))])
    assert len(storage.callers) == 3


async def test_repetition_has_an_end(surroundings: Surroundings) -> None:
    storage = Storage(failing(DEFINITE, times=1_000))
    async with surroundings.serving(STORAGE, storage) as proxy:
        with pytest.raises(StoreUnavailable):
            await proxy.get_blobs(surroundings.caller(), READ)
        assert len(storage.callers) == ATTEMPTS_MAX
        # And none is begun that the deadline would cut off.
        storage.callers.clear()
        with pytest.raises(StoreUnavailable):
            await proxy.get_blobs(surroundings.caller(seconds=0.05), READ)
        assert len(storage.callers) < ATTEMPTS_MAX


async def test_a_service_that_comes_late_is_found_by_the_next_call(surroundings: Surroundings) -> None:
    port = free_port()
    async with surroundings.calling(STORAGE, port) as proxy:
        for _ in range(3):  # long enough for the channel to try less and less often
            with pytest.raises(ServiceUnavailable):
                await proxy.get_blobs(surroundings.caller(), READ)
        async with surroundings.server({STORAGE: Storage()}, address=f"127.0.0.1:{port}"):
            assert (await proxy.get_blobs(surroundings.caller(), READ)).items


async def test_who_stops_listening_stops_the_work(surroundings: Surroundings) -> None:
    async def for_ever(_: Caller) -> None:
        await asyncio.Event().wait()

    faults = Faults(for_ever)
    request = StreamFaultRequest(fault=FaultPageRequest(min_revision=1))
    async with surroundings.serving(FAULTS, faults) as proxy:
        parts = proxy.stream_fault(surroundings.caller(), request)
        await anext(parts)
        assert not faults.stream_ended.is_set()
        await parts.aclose()
        async with asyncio.timeout(5):
            await faults.stream_ended.wait()
    assert [line["outcome"] for line in surroundings.lines()] == ["CANCELLED"]


async def test_content_fits_and_more_does_not(surroundings: Surroundings) -> None:
    storage = Storage()
    async with surroundings.serving(STORAGE, storage) as proxy:
        response = await proxy.put_blobs(surroundings.caller(), PutBlobsRequest(blobs=[bytes(CONTENT_BYTES_MAX)]))
        assert response.extents[0].length == CONTENT_BYTES_MAX
        request = GetBlobsRequest(refs=[{"extent": {"length": CONTENT_BYTES_MAX}}])  # type: ignore[list-item]
        (item,) = (await proxy.get_blobs(surroundings.caller(), request)).items
        assert len(item.data) == CONTENT_BYTES_MAX
        with pytest.raises(ContentTooLarge):
            await proxy.put_blobs(surroundings.caller(), PutBlobsRequest(blobs=[bytes(MESSAGE_BYTES_MAX)]))
    assert len(storage.callers) == 2
