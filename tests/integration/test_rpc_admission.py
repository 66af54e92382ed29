"""Who gets a place at a server, when, and until when: over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from pagekeeper.core.errors import TooManyRequests
from pagekeeper.runtime.errors import STATUS_DETAILS
from pagekeeper.runtime.fair_share import ShareLimits
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.server import CALLS, STREAMS_MAX, Limits
from pagekeeper.v1.artifact_storage_service_pb2 import BlobRef, GetBlobsRequest, GetBlobsResponse
from pagekeeper.v1.page_pb2 import Extent
from tests.integration.rpc_services import FAULTS, STORAGE, Faults, Storage, Surroundings

GET_BLOBS: Final = f"/{STORAGE.full_name}/GetBlobs"
SMALL: Final = GetBlobsRequest(refs=[BlobRef(extent=Extent(object_key="acme/segment", length=12))])
LARGE_BYTES: Final = 1 << 20
LARGE: Final = GetBlobsRequest(refs=[BlobRef(extent=Extent(object_key="acme/segment", length=LARGE_BYTES))])
TWO: Final = ShareLimits("calls", total=4, per_tenant=2, waiting_per_tenant=2, wait_seconds=30)
SMALL_WINDOW: Final = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_535))


class Gates:
    """Behaviour that waits until the test lets a tenant's calls go on, one by one."""

    def __init__(self) -> None:
        self.arrived: list[str] = []
        self.open = {tenant: asyncio.Semaphore(0) for tenant in ("acme", "other")}
        self.came = asyncio.Condition()

    async def __call__(self, caller: Caller) -> None:
        async with self.came:
            self.arrived.append(caller.tenant)
            self.came.notify_all()
        await self.open[caller.tenant].acquire()

    async def until(self, *arrived: str) -> None:
        async with asyncio.timeout(20), self.came:
            await self.came.wait_for(lambda: len(self.arrived) >= len(arrived))
        assert self.arrived == list(arrived)


@dataclass
class Caught:
    """A refusal as it is on the wire."""

    code: grpc.StatusCode
    info: ErrorInfo
    retry: RetryInfo


class Strangers:
    """Calls with a token, message by message."""

    def __init__(self, channel: grpc.aio.Channel, surroundings: Surroundings) -> None:
        self._channel = channel
        self._surroundings = surroundings

    def call(self, path: str, message: bytes | None, tenant: str = "acme") -> Any:  # noqa: ANN401 - grpc's stub has no name for it
        """A call whose answer is read when the test reads it; without a message, none is sent."""
        metadata = (
            ("authorization", self._surroundings.tokens.authorization(self._surroundings.caller(tenant=tenant))),
        )
        if message is None:
            return self._channel.stream_stream(path)(metadata=metadata)
        ask: Any = self._channel.unary_stream(path)
        return ask(message, metadata=metadata)

    async def refusal(self, call: Any) -> Caught:  # noqa: ANN401 - as above
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async with asyncio.timeout(20):
                await call.read()
        status, info, retry = Status(), ErrorInfo(), RetryInfo()
        status.ParseFromString(dict(caught.value.trailing_metadata())[STATUS_DETAILS])
        for detail in status.details:
            detail.Unpack(info)
            detail.Unpack(retry)
        return Caught(caught.value.code(), info, retry)


@asynccontextmanager
async def strangers(
    surroundings: Surroundings, limits: ShareLimits, storage: Storage, faults: Faults | None = None
) -> AsyncIterator[Strangers]:
    services = {STORAGE: storage, FAULTS: faults or Faults()}
    async with surroundings.server(services, limits=Limits(limits)) as server:
        address = f"127.0.0.1:{server.port}"
        async with grpc.aio.insecure_channel(address, options=SMALL_WINDOW) as channel:
            yield Strangers(channel, surroundings)


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


async def test_a_tenant_with_its_places_taken_leaves_others_to_be_served(surroundings: Surroundings) -> None:
    gates = Gates()
    async with surroundings.serving(STORAGE, Storage(gates), Limits(TWO)) as proxy:
        acme = [asyncio.ensure_future(proxy.get_blobs(surroundings.caller(), SMALL)) for _ in range(4)]
        await gates.until("acme", "acme")
        others = asyncio.ensure_future(proxy.get_blobs(surroundings.caller(tenant="other"), SMALL))
        await gates.until("acme", "acme", "other")
        with pytest.raises(TooManyRequests, match="2 calls of one tenant"):
            await proxy.get_blobs(surroundings.caller(), SMALL)
        gates.open["acme"].release()
        await gates.until("acme", "acme", "other", "acme")
        for gate in gates.open.values():
            for _ in range(4):
                gate.release()
        await asyncio.gather(others, *acme)


async def test_a_refusal_comes_before_the_message_and_says_when_to_come_back(surroundings: Surroundings) -> None:
    gates = Gates()
    none_waits = replace(TWO, waiting_per_tenant=0)
    async with strangers(surroundings, none_waits, Storage(gates)) as asking:
        served = [asking.call(GET_BLOBS, SMALL.SerializeToString()) for _ in range(2)]
        await gates.until("acme", "acme")
        caught = await asking.refusal(asking.call(GET_BLOBS, None))
        assert caught.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.info.reason == "TOO_MANY_REQUESTS"
        assert caught.retry.retry_delay.ToMilliseconds() > 0
        for call in served:
            call.cancel()


async def test_who_waits_has_sent_no_message(surroundings: Surroundings) -> None:
    """A message that waits would be held for as long as its call waits."""
    gates = Gates()
    async with strangers(surroundings, replace(TWO, per_tenant=1), Storage(gates)) as asking:
        first = asking.call(GET_BLOBS, SMALL.SerializeToString())
        await gates.until("acme")
        waiting = asking.call(GET_BLOBS, None)
        too_large_for_the_window = asyncio.ensure_future(waiting.write(bytes(LARGE_BYTES)))
        await asyncio.sleep(0.1)
        assert not too_large_for_the_window.done()
        gates.open["acme"].release()
        await first.read()
        await too_large_for_the_window
        waiting.cancel()


async def test_a_place_is_taken_until_the_answer_is_read(surroundings: Surroundings) -> None:
    storage = Storage()
    async with strangers(surroundings, replace(TWO, per_tenant=1), storage) as asking:
        unread = asking.call(GET_BLOBS, LARGE.SerializeToString())
        await unread.initial_metadata()
        waiting = asking.call(GET_BLOBS, SMALL.SerializeToString())
        await asking.call(GET_BLOBS, SMALL.SerializeToString(), tenant="other").read()
        assert [caller.tenant for caller in storage.callers] == ["acme", "other"]
        assert len(GetBlobsResponse.FromString(await unread.read()).items[0].data) == LARGE_BYTES
        await waiting.read()
        assert [caller.tenant for caller in storage.callers] == ["acme", "other", "acme"]


async def test_an_answer_that_its_caller_leaves_gives_its_place_back(surroundings: Surroundings) -> None:
    async with strangers(surroundings, replace(TWO, per_tenant=1), Storage()) as asking:
        unread = asking.call(GET_BLOBS, LARGE.SerializeToString())
        await unread.initial_metadata()
        unread.cancel()
        await asking.call(GET_BLOBS, SMALL.SerializeToString()).read()


async def test_a_refused_call_gives_its_place_back(surroundings: Surroundings) -> None:
    async with strangers(surroundings, replace(TWO, per_tenant=1, waiting_per_tenant=0), Storage()) as asking:
        for message in (b"\xff", b"\xff", b"\x0a\x7f"):
            caught = await asking.refusal(asking.call(GET_BLOBS, message))
            assert caught.info.reason == "INVALID_FIELD"
        await asking.call(GET_BLOBS, SMALL.SerializeToString()).read()


async def test_a_tenant_that_reads_nothing_is_let_in_no_more(surroundings: Surroundings) -> None:
    limits = ShareLimits("calls", 100, 100, waiting_per_tenant=0, wait_seconds=1, held_bytes=LARGE_BYTES)
    storage = Storage()
    async with strangers(surroundings, limits, storage) as asking:
        unread = asking.call(GET_BLOBS, LARGE.SerializeToString())
        await unread.initial_metadata()
        caught = await asking.refusal(asking.call(GET_BLOBS, SMALL.SerializeToString()))
        assert caught.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert caught.info.metadata["limit_bytes"] == str(LARGE_BYTES)
        await asking.call(GET_BLOBS, SMALL.SerializeToString(), tenant="other").read()
        await unread.read()
        assert await unread.read() is grpc.aio.EOF
        await asking.call(GET_BLOBS, SMALL.SerializeToString()).read()


async def test_answers_that_were_asked_for_at_once_are_held_up_to_twice_the_limit(surroundings: Surroundings) -> None:
    gates = Gates()
    limits = ShareLimits("calls", 100, 100, waiting_per_tenant=0, wait_seconds=1, held_bytes=LARGE_BYTES + 65_536)
    async with strangers(surroundings, limits, Storage(gates)) as asking:
        calls = [asking.call(GET_BLOBS, LARGE.SerializeToString()) for _ in range(5)]
        await gates.until(*["acme"] * 5)
        for _ in calls:
            gates.open["acme"].release()
        codes = {call: asyncio.ensure_future(call.code()) for call in calls}
        refused: set[asyncio.Future[grpc.StatusCode]] = set()
        while len(refused) < 3:
            done, _ = await asyncio.wait({*codes.values()} - refused, return_when=asyncio.FIRST_COMPLETED, timeout=20)
            refused |= done
        assert {code.result() for code in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
        for call, code in codes.items():
            if code not in refused:
                assert len(GetBlobsResponse.FromString(await call.read()).items[0].data) == LARGE_BYTES
                assert await code is grpc.StatusCode.OK


def test_the_limits_leave_others_their_places() -> None:
    """A tenant takes a small part of the places, and a connection carries the calls of several tenants."""
    assert CALLS.per_tenant * 4 <= CALLS.total < STREAMS_MAX
    assert CALLS.waiting_per_tenant < CALLS.waiting_total
