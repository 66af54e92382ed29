"""Whoever calls a service cannot tell whether it lives in this process or in another one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.descriptor import ServiceDescriptor

from pagekeeper.core.errors import (
    ContentCorrupt,
    DeadlineExceeded,
    InternalError,
    LogUnavailable,
    PagekeeperError,
    PageNotFound,
)
from pagekeeper.runtime.blobs.port import BlobCorrupt
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.log import port as logs
from pagekeeper.runtime.rpc.local import local
from pagekeeper.v1.memory_service_pb2 import FaultPageRequest, FaultPageResponse, StreamFaultRequest
from tests.integration.rpc_services import FAULTS, STORAGE, Faults, Surroundings

Serving = Callable[[ServiceDescriptor, object], AbstractAsyncContextManager[Any]]


@pytest.fixture
def surroundings(tmp_path: Path) -> Surroundings:
    return Surroundings(tmp_path)


@pytest.fixture(params=["here", "elsewhere"])
def serving(request: pytest.FixtureRequest, surroundings: Surroundings) -> Serving:
    @asynccontextmanager
    async def here(service: ServiceDescriptor, target: object) -> AsyncIterator[Any]:
        yield local(service, target)

    return here if request.param == "here" else surroundings.serving


async def test_a_call_is_answered(serving: Serving, surroundings: Surroundings) -> None:
    faults = Faults()
    async with serving(FAULTS, faults) as proxy:
        answer = await proxy.fault(surroundings.caller(), FaultPageRequest(min_revision=6))
    assert answer == FaultPageResponse(revision=7)
    (seen,) = faults.callers
    assert seen.with_deadline(None) == surroundings.caller()


@pytest.mark.parametrize(
    ("raised", "caught"),
    [
        (PageNotFound("p1"), PageNotFound("p1")),
        (BlobCorrupt("acme/segment"), ContentCorrupt("stored bytes are missing or are not what they were")),
        (
            logs.NoAnswer("10.0.0.7 is gone", maybe_applied=True),
            LogUnavailable("the log does not answer; retry with the same request_id"),
        ),
        (TimeoutError(), DeadlineExceeded("the deadline passed; what was asked for may have happened")),
        (KeyError("p1"), InternalError("internal error; look for trace trace-1 in the logs")),
        (asyncio.CancelledError(), InternalError("internal error; look for trace trace-1 in the logs")),
        (ExceptionGroup("two", [PageNotFound("p1"), PageNotFound("p2")]), PageNotFound("p1")),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_an_error_is_the_same(
    raised: BaseException, caught: PagekeeperError, serving: Serving, surroundings: Surroundings
) -> None:
    async def stumble(_: Caller) -> None:
        raise raised

    async with serving(FAULTS, Faults(stumble)) as proxy:
        with pytest.raises(type(caught)) as unary:
            await proxy.fault(surroundings.caller(), FaultPageRequest())
        with pytest.raises(type(caught)) as stream:
            await anext(proxy.stream_fault(surroundings.caller(), StreamFaultRequest()))
    assert vars(unary.value) == vars(stream.value) == vars(caught)


async def test_a_stream_arrives_in_order_and_ends(serving: Serving, surroundings: Surroundings) -> None:
    request = StreamFaultRequest(fault=FaultPageRequest(min_revision=100))
    async with serving(FAULTS, Faults()) as proxy:
        parts = [part.page.revision async for part in proxy.stream_fault(surroundings.caller(), request)]
    assert parts == list(range(100))


async def test_what_came_before_a_failure_is_kept(serving: Serving, surroundings: Surroundings) -> None:
    async def stumble(_: Caller) -> None:
        raise PageNotFound("p1")

    request = StreamFaultRequest(fault=FaultPageRequest(min_revision=2))
    async with serving(FAULTS, Faults(stumble)) as proxy:
        parts = proxy.stream_fault(surroundings.caller(), request)
        assert [(await anext(parts)).page.revision for _ in range(2)] == [0, 1]
        with pytest.raises(PageNotFound):
            await anext(parts)


@pytest.mark.parametrize("parts_sent", [1, 100_000])
async def test_who_stops_listening_stops_the_work(
    parts_sent: int, serving: Serving, surroundings: Surroundings
) -> None:
    """Whether the service waits for something or, with so many parts, for the listener."""

    async def for_ever(_: Caller) -> None:
        await asyncio.Event().wait()

    faults = Faults(for_ever)
    request = StreamFaultRequest(fault=FaultPageRequest(min_revision=parts_sent))
    async with serving(FAULTS, faults) as proxy:
        parts = proxy.stream_fault(surroundings.caller(), request)
        await anext(parts)
        assert not faults.stream_ended.is_set()
        await parts.aclose()
        async with asyncio.timeout(5):
            await faults.stream_ended.wait()


async def test_a_cancelled_call_stays_cancelled(serving: Serving, surroundings: Surroundings) -> None:
    arrived, cancelled = asyncio.Event(), asyncio.Event()

    async def wait(_: Caller) -> None:
        arrived.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(FAULTS, Faults(wait)) as proxy:
        call = asyncio.ensure_future(proxy.fault(surroundings.caller(), FaultPageRequest()))
        await arrived.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        async with asyncio.timeout(5):
            await cancelled.wait()


async def test_a_service_is_whole_or_does_not_start() -> None:
    with pytest.raises(TypeError, match=r"Faults is no .*: it lacks put_blobs"):
        local(STORAGE, Faults())
