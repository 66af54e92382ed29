"""Readiness tells whether calls can be served, liveness whether the process answers at all."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from pagekeeper.core.errors import ServiceUnavailable
from pagekeeper.local.child import Child
from pagekeeper.local.processes import Process
from pagekeeper.local.stack import LocalStack, Topology
from pagekeeper.runtime.rpc.health import LIVENESS, NEED_SECONDS_MAX, Need
from pagekeeper.runtime.rpc.probe import SERVING, health_of
from pagekeeper.runtime.rpc.readiness import PAUSE_SECONDS
from tests.integration.rpc_services import STORAGE, Storage, Surroundings
from tests.servers import eventually
from tests.stacks import running_stack

Gone = Callable[[Child], AbstractAsyncContextManager[None]]

NOT_SERVING = "NOT_SERVING"
NOTICED_SECONDS_MAX = 30.0
"""Far more than the promise, which a busy machine may break."""


def test_what_is_away_is_told_of_within_five_seconds() -> None:
    assert PAUSE_SECONDS + NEED_SECONDS_MAX < 5


class Dependency:
    """Something that a test takes away, or makes hang."""

    def __init__(self) -> None:
        self.away = False
        self.hangs = False

    async def check(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.away:
            raise ServiceUnavailable("away")


async def becomes(address: str, service: str, wanted: str) -> None:
    async def so() -> bool:
        return await health_of(address, service) == wanted

    await eventually(so, timeout_seconds=NOTICED_SECONDS_MAX)


@pytest.mark.parametrize("how", ["away", "hangs"])
async def test_a_server_follows_what_it_needs(how: str, tmp_path: Path) -> None:
    vital, useful = Dependency(), Dependency()
    needs = (Need("vital", vital.check), Need("useful", useful.check, required=False))
    async with Surroundings(tmp_path).server({STORAGE: Storage()}, needs=needs) as server:
        address = f"127.0.0.1:{server.port}"
        watch = asyncio.ensure_future(server.watch_needs())
        assert await health_of(address) == SERVING
        setattr(useful, how, True)
        await becomes(address, "useful", NOT_SERVING)
        assert await health_of(address) == SERVING
        setattr(vital, how, True)
        for service in ("", STORAGE.full_name, "vital"):
            await becomes(address, service, NOT_SERVING)
        assert await health_of(address, LIVENESS) == SERVING
        setattr(vital, how, False)
        for service in ("", STORAGE.full_name, "vital"):
            await becomes(address, service, SERVING)
        assert await health_of(address, "useful") == NOT_SERVING
        watch.cancel()


async def test_a_watcher_is_told(tmp_path: Path) -> None:
    vital = Dependency()
    surroundings = Surroundings(tmp_path)
    async with (
        surroundings.server({STORAGE: Storage()}, needs=(Need("vital", vital.check),)) as server,
        surroundings.bare(server.port) as channel,
    ):
        watch = asyncio.ensure_future(server.watch_needs())
        ask = channel.unary_stream(
            "/grpc.health.v1.Health/Watch", HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString
        )
        statuses = aiter(ask(HealthCheckRequest(service=STORAGE.full_name)))
        async with asyncio.timeout(NOTICED_SECONDS_MAX):
            assert (await anext(statuses)).status == HealthCheckResponse.SERVING
            vital.away = True
            assert (await anext(statuses)).status == HealthCheckResponse.NOT_SERVING
            vital.away = False
            assert (await anext(statuses)).status == HealthCheckResponse.SERVING
        watch.cancel()


async def test_a_defect_in_a_check_is_no_absence(tmp_path: Path) -> None:
    async def stumble() -> None:
        raise KeyError("a defect")

    async with Surroundings(tmp_path).server({STORAGE: Storage()}, needs=(Need("vital", stumble),)) as server:
        with pytest.raises(KeyError):
            await server.watch_needs()


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Topology, LocalStack]]:
    """Of this module's own: their servers are killed."""
    with (
        running_stack(tmp_path_factory.mktemp("one"), Topology.ONE) as one,
        running_stack(tmp_path_factory.mktemp("five"), Topology.FIVE) as five,
    ):
        yield {Topology.ONE: one, Topology.FIVE: five}


@asynccontextmanager
async def killed(server: Child) -> AsyncIterator[None]:
    server.kill()
    try:
        yield
    finally:
        await server.start()


@asynccontextmanager
async def stopped(server: Child) -> AsyncIterator[None]:
    """It keeps its connections, and answers nothing."""
    os.kill(server.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(server.pid, signal.SIGCONT)


async def all_become(processes: list[Process], service: str, wanted: str) -> None:
    await asyncio.gather(*(becomes(process.address, service, wanted) for process in processes))


@pytest.mark.parametrize("gone", [killed, stopped])
@pytest.mark.parametrize("topology", list(Topology))
async def test_without_the_log_what_needs_it_is_not_ready(
    stacks: dict[Topology, LocalStack], topology: Topology, gone: Gone
) -> None:
    stack = stacks[topology]
    names = ("page-table", "working-set", "fault-handler") if topology is Topology.FIVE else ("all",)
    need_it = [stack.processes[name] for name in names]
    async with gone(stack.nats):
        await all_become(need_it, "", NOT_SERVING)
        for process in stack.processes.values():
            assert await health_of(process.address, LIVENESS) == SERVING
        if topology is Topology.FIVE:
            assert await health_of(stack.processes["artifact-storage"].address) == SERVING
    await all_become(list(stack.processes.values()), "", SERVING)


@pytest.mark.parametrize("gone", [killed, stopped])
async def test_without_the_store_only_what_is_nothing_without_it_is_not_ready(
    stacks: dict[Topology, LocalStack], gone: Gone
) -> None:
    storage = stacks[Topology.FIVE].processes["artifact-storage"]
    async with gone(stacks[Topology.FIVE].s3):
        await becomes(storage.address, "", NOT_SERVING)
        assert await health_of(storage.address, LIVENESS) == SERVING
        assert await health_of(stacks[Topology.FIVE].processes["page-table"].address) == SERVING
        assert await health_of(stacks[Topology.FIVE].endpoint) == SERVING
    await becomes(storage.address, "", SERVING)
    everything = stacks[Topology.ONE]
    async with gone(everything.s3):
        # Small appends go on.
        await becomes(everything.endpoint, "object-store", NOT_SERVING)
        assert await health_of(everything.endpoint) == SERVING
    await becomes(everything.endpoint, "object-store", SERVING)


async def test_a_loop_that_hangs_does_not_answer_for_itself(stacks: dict[Topology, LocalStack]) -> None:
    process = stacks[Topology.FIVE].processes["working-set"]
    async with stopped(process):
        assert await health_of(process.address, LIVENESS) == grpc.StatusCode.DEADLINE_EXCEEDED.name
    await becomes(process.address, LIVENESS, SERVING)
