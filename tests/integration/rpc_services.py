"""Two small services behind real ports, and objects that call them: what the tests of RPC share."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import grpc
from google.protobuf.descriptor import ServiceDescriptor

from pagekeeper.core.ids import TenantId
from pagekeeper.runtime.bearer_tokens import InternalTokens
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.health import Need
from pagekeeper.runtime.rpc.peers import open_peers
from pagekeeper.runtime.rpc.remote import remote
from pagekeeper.runtime.rpc.server import LIMITS, Limits, Listening, RpcServer
from pagekeeper.runtime.rpc.tls import ServerTls
from pagekeeper.runtime.telemetry import CallLog
from pagekeeper.runtime.token_keys import KeyFile
from pagekeeper.v1 import artifact_storage_service_pb2 as storage_pb
from pagekeeper.v1 import fault_handler_service_pb2 as fault_pb
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1.page_pb2 import Extent

STORAGE = storage_pb.DESCRIPTOR.services_by_name["ArtifactStorageService"]
FAULTS = fault_pb.DESCRIPTOR.services_by_name["FaultHandlerService"]

Behaviour = Callable[[Caller], Awaitable[None]]


async def nothing(_: Caller) -> None:
    pass


class Storage:
    """An ArtifactStorageService that does as the test says, and remembers who called."""

    def __init__(self, behave: Behaviour = nothing) -> None:
        self.behave = behave
        self.callers: list[Caller] = []

    async def _serve(self, caller: Caller) -> None:
        self.callers.append(caller)
        await self.behave(caller)

    async def put_blobs(self, caller: Caller, request: storage_pb.PutBlobsRequest) -> storage_pb.PutBlobsResponse:
        await self._serve(caller)
        return storage_pb.PutBlobsResponse(extents=[Extent(length=len(blob)) for blob in request.blobs])

    async def get_blobs(self, caller: Caller, request: storage_pb.GetBlobsRequest) -> storage_pb.GetBlobsResponse:
        await self._serve(caller)
        items = [storage_pb.BlobItem(data=bytes(ref.extent.length)) for ref in request.refs]
        return storage_pb.GetBlobsResponse(items=items)


class Faults:
    """A FaultHandlerService whose mutations and stream do as the test says."""

    def __init__(self, behave: Behaviour = nothing) -> None:
        self.behave = behave
        self.callers: list[Caller] = []
        self.sessions: set[str] = set()
        self.stream_ended = asyncio.Event()

    async def fault(self, caller: Caller, request: pb.FaultPageRequest) -> pb.FaultPageResponse:
        self.callers.append(caller)
        self.sessions.add(request.session_id)
        await self.behave(caller)
        return pb.FaultPageResponse(revision=request.min_revision + 1)

    async def fault_many(self, _: Caller, request: pb.FaultPagesRequest) -> pb.FaultPagesResponse:
        return pb.FaultPagesResponse(revision=request.min_revision)

    async def compress(self, _: Caller, request: pb.CompressPagesRequest) -> pb.CompressPagesResponse:
        raise AssertionError(request)

    async def stream_fault(
        self, caller: Caller, request: pb.StreamFaultRequest
    ) -> AsyncIterator[pb.StreamFaultResponse]:
        """As many parts as `min_revision` says, and then what the test says."""
        self.callers.append(caller)
        try:
            for number in range(request.fault.min_revision):
                yield pb.StreamFaultResponse(page=pb.FaultPageResponse(revision=number))
            await self.behave(caller)
        finally:
            self.stream_ended.set()


class Surroundings:
    """What a server and its callers share: a secret, clocks, a log to read."""

    def __init__(self, directory: Path) -> None:
        key = directory / "internal.key"
        key.write_text("a secret of more than thirty-two bytes")
        self.clock = SystemClock()
        self.tokens = InternalTokens(KeyFile(key, self.clock), self.clock)
        self.stream = io.StringIO()
        self.calls = CallLog(self.stream, self.clock, silent=False)

    def server(
        self,
        services: dict[ServiceDescriptor, object],
        address: str = "127.0.0.1:0",
        limits: Limits = LIMITS,
        needs: Sequence[Need] = (),
        *,
        tls: ServerTls | None = None,
        reflection: bool = True,
    ) -> RpcServer:
        listening = Listening(address, tls, reflection)
        verifier = self.tokens.verifier()
        return RpcServer(listening, services, verifier, self.calls, self.clock, Random(1), limits, needs)

    @asynccontextmanager
    async def calling(self, service: ServiceDescriptor, port: int) -> AsyncIterator[Any]:
        async with open_peers(f"127.0.0.1:{port}", self.clock, warm_up_seconds=0.5) as peers:
            yield remote(service, peers, self.tokens, self.clock, Random(2))

    @asynccontextmanager
    async def serving(self, service: ServiceDescriptor, target: object, limits: Limits = LIMITS) -> AsyncIterator[Any]:
        """Serve `target`, and yield its remote proxy."""
        async with self.server({service: target}, limits=limits) as server, self.calling(service, server.port) as proxy:
            yield proxy

    @asynccontextmanager
    async def bare(self, port: int) -> AsyncIterator[grpc.aio.Channel]:
        """A channel as a stranger opens it."""
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel

    def caller(self, seconds: float | None = None, tenant: str = "acme") -> Caller:
        deadline = None if seconds is None else self.clock.monotonic() + seconds
        return Caller(TenantId(tenant), "alice", deadline, "trace-1")

    def lines(self) -> list[dict[str, Any]]:
        self.calls.flush()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]
