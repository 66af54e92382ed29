"""What a server does for the objects behind it, over real sockets."""

import asyncio
import logging
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha import reflection_pb2

from pagekeeper.core.errors import DeadlineExceeded, InternalError, PageNotFound, ServiceUnavailable, TooManyRequests
from pagekeeper.runtime.blobs.port import BlobUnavailable
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.fair_share import ShareLimits
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.server import Limits
from pagekeeper.v1.artifact_storage_service_pb2 import BlobItem, BlobRef, GetBlobsRequest, GetBlobsResponse
from pagekeeper.v1.page_pb2 import Extent
from tests.integration.rpc_services import FAULTS, STORAGE, Faults, Storage, Surroundings

GET_BLOBS = f"/{STORAGE.full_name}/GetBlobs"
REQUEST = GetBlobsRequest(refs=[BlobRef(extent=Extent(object_key="acme/segment", length=12))])


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


class Gate:
    """Behaviour that waits until the test opens it, and counts who came."""

    def __init__(self) -> None:
        self.arrived = asyncio.Semaphore(0)
        self.open = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def __call__(self, _: Caller) -> None:
        self.arrived.release()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


def health(channel: grpc.aio.Channel, method: str, service: str = "") -> Any:  # noqa: ANN401 - one answer, or many
    """Ask the health service, as a stranger does."""
    make = channel.unary_stream if method == "Watch" else channel.unary_unary
    ask = make(f"/grpc.health.v1.Health/{method}", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
    return ask(HealthCheckRequest(service=service))


async def test_a_service_learns_who_calls_until_when_and_why(surroundings: Surroundings) -> None:
    storage = Storage()
    caller = surroundings.caller(seconds=5)
    async with surroundings.serving(STORAGE, storage) as proxy:
        response = await proxy.get_blobs(caller, REQUEST)
    assert response == GetBlobsResponse(items=[BlobItem(data=bytes(12))])
    (seen,) = storage.callers
    assert seen == caller.with_deadline(seen.deadline)
    assert seen.deadline == pytest.approx(caller.deadline, abs=0.2)


async def test_each_call_has_one_line(surroundings: Surroundings) -> None:
    async def refuse(_: Caller) -> None:
        raise PageNotFound("p1")

    storage = Storage()
    async with surroundings.serving(STORAGE, storage) as proxy:
        await proxy.get_blobs(surroundings.caller(), REQUEST)
        storage.behave = refuse
        with pytest.raises(PageNotFound):
            await proxy.get_blobs(surroundings.caller(), REQUEST)
    lines = surroundings.lines()
    assert [line["outcome"] for line in lines] == ["OK", "PAGE_NOT_FOUND"]
    assert {(line["method"], line["tenant"], line["trace"]) for line in lines} == {(GET_BLOBS[1:], "acme", "trace-1")}
    assert all(0 <= line["ms"] < 1_000 for line in lines)


@pytest.mark.parametrize("authorization", [None, "Basic YWxpY2U=", "Bearer e30.e30."])
async def test_nobody_gets_in_without_a_token(authorization: str | None, surroundings: Surroundings) -> None:
    storage = Storage()
    async with surroundings.server({STORAGE: storage}) as server, surroundings.bare(server.port) as channel:
        get = channel.unary_unary(GET_BLOBS, GetBlobsRequest.SerializeToString, GetBlobsResponse.FromString)
        metadata = () if authorization is None else (("authorization", authorization),)
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await get(REQUEST, metadata=metadata)
    assert refusal.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert not storage.callers
    assert surroundings.lines()[0]["tenant"] == ""


@pytest.mark.parametrize(("sent", "kept"), [("a-trace_1", True), ("x" * 65, False), ('","tenant":"evil', False)])
async def test_a_trace_is_kept_when_it_is_one(sent: str, kept: bool, surroundings: Surroundings) -> None:  # noqa: FBT001
    storage = Storage()
    async with surroundings.server({STORAGE: storage}) as server, surroundings.bare(server.port) as channel:
        get = channel.unary_unary(GET_BLOBS, GetBlobsRequest.SerializeToString, GetBlobsResponse.FromString)
        authorization = surroundings.tokens.authorization(surroundings.caller())
        await get(REQUEST, metadata=(("authorization", authorization), ("x-request-id", sent)))
    (seen,) = storage.callers
    assert (seen.trace == sent) == kept
    assert seen.trace
    assert surroundings.lines()[0]["trace"] == seen.trace


async def test_a_defect_is_told_by_its_trace_alone(
    surroundings: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    async def stumble(_: Caller) -> None:
        raise KeyError("what somebody wrote")

    async with surroundings.serving(STORAGE, Storage(stumble)) as proxy:
        with pytest.raises(InternalError, match="trace-1") as told:
            await proxy.get_blobs(surroundings.caller(), REQUEST)
    assert "what somebody wrote" not in str(told.value)
    assert "what somebody wrote" in caplog.text


async def test_a_store_that_fails_is_named_in_the_logs_only(
    surroundings: Surroundings, caplog: pytest.LogCaptureFixture
) -> None:
    async def stumble(_: Caller) -> None:
        raise BlobUnavailable("10.0.0.7 is gone")

    async with surroundings.serving(STORAGE, Storage(stumble)) as proxy:
        with caplog.at_level(logging.WARNING), pytest.raises(Exception, match="object store") as told:
            await proxy.get_blobs(surroundings.caller(seconds=0.5), REQUEST)
    assert "10.0.0.7" not in str(told.value)
    assert "10.0.0.7" in caplog.text


async def test_a_cancellation_that_escapes_from_a_service_is_a_defect(surroundings: Surroundings) -> None:
    async def let_escape(_: Caller) -> None:
        raise asyncio.CancelledError

    async with surroundings.serving(STORAGE, Storage(let_escape)) as proxy:
        with pytest.raises(InternalError):
            await proxy.get_blobs(surroundings.caller(seconds=5), REQUEST)


async def test_work_ends_with_the_deadline_of_its_caller(surroundings: Surroundings) -> None:
    gate = Gate()
    async with surroundings.serving(STORAGE, Storage(gate)) as proxy:
        with pytest.raises(DeadlineExceeded):
            await proxy.get_blobs(surroundings.caller(seconds=0.2), REQUEST)
        async with asyncio.timeout(5):
            await gate.cancelled.wait()
    assert [line["outcome"] for line in surroundings.lines()] == ["DEADLINE_EXCEEDED"]


async def test_work_ends_when_its_caller_goes(surroundings: Surroundings) -> None:
    gate = Gate()
    async with surroundings.serving(STORAGE, Storage(gate)) as proxy:
        call = asyncio.ensure_future(proxy.get_blobs(surroundings.caller(), REQUEST))
        await gate.arrived.acquire()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await gate.cancelled.wait()


async def test_a_full_server_refuses_and_stays_healthy(surroundings: Surroundings) -> None:
    gate = Gate()
    limits = Limits(ShareLimits("calls", total=2, per_tenant=2, waiting_per_tenant=0, wait_seconds=5))
    async with (
        surroundings.server({STORAGE: Storage(gate)}, limits=limits) as server,
        surroundings.calling(STORAGE, server.port) as proxy,
        surroundings.bare(server.port) as channel,
    ):
        calls = [asyncio.ensure_future(proxy.get_blobs(surroundings.caller(), REQUEST)) for _ in range(2)]
        for _ in calls:
            await gate.arrived.acquire()
        with pytest.raises(TooManyRequests):
            await proxy.get_blobs(surroundings.caller(), REQUEST)
        assert (await health(channel, "Check")).status == HealthCheckResponse.SERVING
        # With one of them gone there is room again.
        gate.open.set()
        await asyncio.gather(*calls)
        await proxy.get_blobs(surroundings.caller(), REQUEST)


async def test_draining_finishes_what_is_in_flight_and_takes_nothing_new(surroundings: Surroundings) -> None:
    gate = Gate()
    server = surroundings.server({STORAGE: Storage(gate)})
    async with surroundings.bare(server.port) as channel, surroundings.calling(STORAGE, server.port) as proxy:
        await server.__aenter__()
        watching = aiter(health(channel, "Watch", STORAGE.full_name))
        assert (await anext(watching)).status == HealthCheckResponse.SERVING
        in_flight = asyncio.ensure_future(proxy.get_blobs(surroundings.caller(), REQUEST))
        await gate.arrived.acquire()
        # SIGTERM.
        draining = asyncio.ensure_future(server.__aexit__(None, None, None))
        await asyncio.sleep(0.1)
        assert not draining.done()
        with pytest.raises(ServiceUnavailable):
            await proxy.get_blobs(surroundings.caller(seconds=0.3), REQUEST)
        # The watcher is told and let go; the call in flight ends well; the server is gone at once.
        assert [answer.status async for answer in watching] == [HealthCheckResponse.NOT_SERVING]
        gate.open.set()
        assert await in_flight == GetBlobsResponse(items=[BlobItem(data=bytes(12))])
        async with asyncio.timeout(5):
            await draining


async def test_draining_does_not_wait_for_ever(surroundings: Surroundings) -> None:
    gate = Gate()
    server = surroundings.server({STORAGE: Storage(gate)}, limits=Limits(drain_seconds=0.2))
    async with surroundings.calling(STORAGE, server.port) as proxy:
        async with server:
            stuck = asyncio.ensure_future(proxy.get_blobs(surroundings.caller(seconds=1), REQUEST))
            await gate.arrived.acquire()
        assert gate.cancelled.is_set()
        with pytest.raises(ServiceUnavailable):
            await stuck


async def test_two_servers_do_not_share_a_port(surroundings: Surroundings) -> None:
    async with surroundings.server({STORAGE: Storage()}) as server:
        with pytest.raises(CannotStart, match=f"127.0.0.1:{server.port}"):
            surroundings.server({STORAGE: Storage()}, address=f"127.0.0.1:{server.port}")


async def test_a_service_is_whole_or_does_not_start(surroundings: Surroundings) -> None:
    class Half:
        async def get_blobs(self, caller: Caller, request: GetBlobsRequest) -> GetBlobsResponse:
            raise AssertionError((caller, request))

    with pytest.raises(TypeError, match=r"Half is no .*: it lacks put_blobs$"):
        surroundings.server({STORAGE: Half()})


async def test_streams_of_requests_are_refused_at_the_start(surroundings: Surroundings) -> None:
    reflection = cast(ServiceDescriptor, reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"])
    with pytest.raises(TypeError, match="takes a stream of requests"):
        surroundings.server({reflection: object()})


async def test_services_can_be_listed_and_their_health_asked(surroundings: Surroundings) -> None:
    services: dict[ServiceDescriptor, object] = {STORAGE: Storage(), FAULTS: Faults()}
    async with surroundings.server(services) as server, surroundings.bare(server.port) as channel:
        question = reflection_pb2.ServerReflectionRequest(list_services="")
        ask = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )
        names = {service.name for service in (await anext(aiter(ask(iter([question]))))).list_services_response.service}
        assert {STORAGE.full_name, FAULTS.full_name, "grpc.health.v1.Health"} <= names
        for name in ("", STORAGE.full_name, FAULTS.full_name):
            assert (await health(channel, "Check", name)).status == HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await health(channel, "Check", "pagekeeper.v1.Nothing")
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
