"""How new an answer is: every read takes the choice, and a strict one misses nothing.

Two replicas share a log. Its feed is held up, so that the sessions which the second one has cached are stale, and the
second one does not know it.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count
from types import TracebackType
from typing import Any, Self

import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from pagekeeper.client.connection import Pagekeeper
from pagekeeper.core.errors import RevisionNotFound
from pagekeeper.core.ids import SessionKey
from pagekeeper.gateway.contents import Contents, content_cache
from pagekeeper.gateway.service import GatewayService
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.log.port import FOLLOW_TIMEOUT_SECONDS, Feed, Notice
from pagekeeper.runtime.rpc.methods import methods
from pagekeeper.v1 import (
    artifact_storage_service_pb2,
    fault_handler_service_pb2,
    memory_service_pb2,
    page_pb2,
    page_table_service_pb2,
    working_set_service_pb2,
)
from pagekeeper.v1 import memory_service_pb2 as pb
from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_log import MemoryLog
from tests.unit.faulting import FaultingReplica, serving
from tests.unit.stack import IN_PLACE, Stores, caller, key, ready

FILES = (
    memory_service_pb2,
    page_table_service_pb2,
    working_set_service_pb2,
    fault_handler_service_pb2,
    artifact_storage_service_pb2,
)
NO_READS = {"SnapshotSession", "PutBlobs"}
"""A snapshot replaces log records on the condition that they are the last, so it always reads the log. Bytes that are
stored get a key of their own, whatever the session is."""


def reads() -> Iterator[MethodDescriptor]:
    """Every RPC about one session that carries no `request_id`."""
    for file in FILES:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                fields = method.input_type.fields_by_name
                if "session_id" in fields and "request_id" not in fields and method.name not in NO_READS:
                    yield method


@pytest.mark.parametrize("method", list(reads()), ids=lambda method: method.full_name.removeprefix("pagekeeper.v1."))
def test_every_read_takes_the_choice(method: MethodDescriptor) -> None:
    fields = method.input_type.fields_by_name
    assert {"min_revision", "strict"} <= set(fields), f"{method.input_type.name} does not say how new the answer is"
    assert fields["min_revision"].type == FieldDescriptor.TYPE_UINT64
    assert fields["strict"].type == FieldDescriptor.TYPE_BOOL


class HeldUp:
    """A feed that delivers nothing after it began."""

    def __init__(self, inner: Feed) -> None:
        self._inner = inner

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        await asyncio.Event().wait()
        raise AssertionError("nothing comes")

    def watch(self, key: SessionKey) -> None:
        self._inner.watch(key)

    def unwatch(self, key: SessionKey) -> None:
        self._inner.unwatch(key)

    async def settle(self) -> None:
        await self._inner.settle()


class HeldUpLog(MemoryLog):
    def follow(  # type: ignore[override]  # another feed, with the same promises but no end to its delay
        self, *, timeout_seconds: float = FOLLOW_TIMEOUT_SECONDS
    ) -> HeldUp:
        return HeldUp(super().follow(timeout_seconds=timeout_seconds))


def gateway_of(replica: FaultingReplica) -> GatewayService:
    contents = Contents(content_cache(), replica.page_table, replica.artifacts, IN_PLACE)
    ids = count()
    return GatewayService(
        replica.page_table,
        replica.working_set,
        replica.faults,
        contents,
        lambda: f"minted{next(ids)}",
        IN_PLACE,
    )


@asynccontextmanager
async def stale_gateway() -> AsyncIterator[tuple[GatewayService, int, int]]:
    """A gateway on the stale replica, the revision that it has cached, and the revision that the other one wrote."""
    stores = await ready(Stores(log=HeldUpLog()))
    writer, reader = FaultingReplica(stores, "a"), FaultingReplica(stores, "b")
    async with serving(writer, reader):
        await writer.open()
        seen = await writer.append(page_pb2.PageInput(page_id="old", text="a harbour", role=page_pb2.MESSAGE_ROLE_USER))
        assert (await reader.sessions.read(key("s1"))).revision == seen.revision
        answer = page_pb2.PageInput(page_id="new", text="a lighthouse", role=page_pb2.MESSAGE_ROLE_ASSISTANT)
        written = await writer.append(answer)
        yield gateway_of(reader), seen.revision, written.revision


class Client(Pagekeeper):
    """A client that no gateway has to find the tenant of."""

    def caller(self) -> Caller:
        return caller()


REQUESTS = [
    pb.GetSessionRequest(),
    pb.AssemblePromptRequest(),
    pb.SearchPagesRequest(query="harbour"),
    pb.GetPageRequest(page_id="old"),
    pb.ListPagesRequest(),
    pb.GetStatsRequest(),
    pb.GetContextAtRequest(turn=1),
]
"""Reads whose answers name a revision."""


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request.DESCRIPTOR.name)
async def test_a_strict_read_shows_what_another_replica_wrote(request_: Any) -> None:  # noqa: ANN401 - of any class
    (method,) = [m for m in methods(pb.DESCRIPTOR.services_by_name["MemoryService"]) if m.request is type(request_)]
    async with stale_gateway() as (gateway, seen, written):
        for strict, expected in ((False, seen), (True, written)):
            request = type(request_)()
            request.CopyFrom(request_)
            request.session_id, request.strict = "s1", strict
            answer = await getattr(gateway, method.attribute)(caller(), request)
            assert getattr(answer, "session", answer).revision == expected


async def test_a_minimum_and_strictness_both_hold() -> None:
    async with stale_gateway() as (gateway, _, written):
        newer = pb.GetStatsRequest(session_id="s1", min_revision=written)
        assert (await gateway.get_stats(caller(), newer)).revision == written
        beyond = pb.GetStatsRequest(session_id="s1", min_revision=written + 1, strict=True)
        with pytest.raises(RevisionNotFound):
            await gateway.get_stats(caller(), beyond)


async def test_the_clients_strict_session_reads_strictly() -> None:
    async with stale_gateway() as (gateway, seen, written):
        assert written > seen
        session = Client(gateway, ManualClock(), call_seconds=10).session("s1", revision=seen)
        assert [page.page_id async for page in session.pages()] == ["old"]
        assert [page.page_id async for page in session.strict().pages()] == ["old", "new"]


async def test_a_strict_list_shows_each_session_as_it_is() -> None:
    async with stale_gateway() as (gateway, seen, written):
        for strict, expected in ((False, seen), (True, written)):
            (listed,) = (await gateway.list_sessions(caller(), pb.ListSessionsRequest(strict=strict))).sessions
            assert listed.revision == expected
