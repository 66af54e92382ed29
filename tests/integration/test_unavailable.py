"""A store that is away is said to be, in time; what was asked meanwhile is done once, when it is back."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import grpc
import pytest
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo  # type: ignore[import-untyped]
from grpc_status import rpc_status

from pagekeeper.client import Pagekeeper, Session, tool_result, user
from pagekeeper.core.errors import (
    DeadlineExceeded,
    LogFull,
    LogUnavailable,
    PagekeeperError,
    ServiceUnavailable,
    StoreUnavailable,
)
from pagekeeper.local.child import Child
from pagekeeper.local.stack import LocalStack, Topology
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import memory_service_pb2_grpc
from tests.servers import eventually
from tests.stacks import client, new_tenant, running_stack

DEADLINE_SECONDS = 8.0
LARGE = "".join(f"{number}: the tide comes in at dawn and goes at dusk.\n" for number in range(2_000))
"""Too large for the log: its bytes go to the object store before it is mapped."""


@pytest.fixture(scope="module")
def stacks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Topology, LocalStack]]:
    """Of this module's own: their servers are killed."""
    with (
        running_stack(tmp_path_factory.mktemp("one"), Topology.ONE) as one,
        running_stack(tmp_path_factory.mktemp("five"), Topology.FIVE) as five,
    ):
        yield {Topology.ONE: one, Topology.FIVE: five}


@pytest.fixture(params=list(Topology))
def stack(request: pytest.FixtureRequest, stacks: dict[Topology, LocalStack]) -> LocalStack:
    return stacks[request.param]


@pytest.fixture
def tenant() -> str:
    return new_tenant("away")


@pytest.fixture
async def hasty(stack: LocalStack, tenant: str) -> AsyncIterator[Pagekeeper]:
    """Gives up after a few seconds."""
    async with client(stack, tenant, call_seconds=DEADLINE_SECONDS) as pagekeeper:
        yield pagekeeper


@asynccontextmanager
async def away(server: Child) -> AsyncIterator[None]:
    """Killed for the block, and back afterwards."""
    server.kill()
    try:
        yield
    finally:
        await server.start()


async def refusal(asked: Awaitable[Any]) -> PagekeeperError:
    """What is refused, within the deadline."""
    clock = SystemClock()
    began = clock.monotonic()
    with pytest.raises(PagekeeperError) as caught:
        await asked
    assert clock.monotonic() - began < DEADLINE_SECONDS + 1
    return caught.value


async def test_without_the_log_calls_are_refused_and_done_once_when_it_is_back(
    stack: LocalStack, hasty: Pagekeeper
) -> None:
    # Each in a session of its own: those of one session wait for each other.
    small, large, pinned = [await hasty.open_session() for _ in range(3)]
    for session in (small, large, pinned):
        await session.append(user("before", page_id="before"))
    asked: list[Callable[[], Awaitable[object]]] = [
        lambda: small.append(user("small", page_id="small"), request_id="small"),
        lambda: large.append(tool_result(LARGE, page_id="large"), request_id="large"),
        lambda: pinned.pin("before"),
        lambda: hasty.open_session("opened-without-a-log"),
    ]
    async with away(stack.nats):
        reads = asyncio.gather(small.get(), large.assemble(), return_exceptions=True)
        refusals = await asyncio.gather(*[refusal(ask()) for ask in asked])
        # A call that has waited elsewhere before it waits for the log may reach its own deadline first.
        assert {type(error) for error in refusals} <= {LogUnavailable, ServiceUnavailable, DeadlineExceeded}
        assert LogUnavailable in {type(error) for error in refusals}
        # A replica may answer what it knows, or say that it cannot ask.
        for answer in await reads:
            assert not isinstance(answer, BaseException) or isinstance(
                answer, LogUnavailable | ServiceUnavailable | DeadlineExceeded
            )
    for ask in asked:
        await ask()
    assert [page.page_id async for page in small.pages()] == ["before", "small"]
    assert [entry.WhichOneof("event") async for entry in small.page_history("small")].count("mapped") == 1
    assert await large.read("large") == LARGE.encode()
    assert (await pinned.page("before")).pinned
    for session in (small, large, pinned):
        assert (await session.replay()).matches_served_state


async def test_a_call_that_waits_for_the_log_goes_on_by_itself(stack: LocalStack) -> None:
    async with client(stack, new_tenant("patient"), call_seconds=60) as patient:
        session = await patient.open_session()
        stack.nats.kill()
        async with asyncio.TaskGroup() as group:
            appends = [
                group.create_task(session.append(user(f"{number}", page_id=f"p{number}"))) for number in range(20)
            ]
            await stack.nats.start()
        assert {append.result().pages[0].page_id for append in appends} == {f"p{number}" for number in range(20)}
        assert len([page async for page in session.pages()]) == 20


async def test_without_the_store_small_appends_go_on(stack: LocalStack, hasty: Pagekeeper, tenant: str) -> None:
    session = await hasty.open_session(max_l0_tokens=4_000, max_fault_tokens_per_turn=100_000)
    await session.append(user("Where are we?"), tool_result(LARGE, page_id="placed"))
    await session.append(*[tool_result(f"{n}: " + LARGE[:4_000], page_id=f"tide{n}") for n in range(12)])
    await session.flush()
    async with away(stack.s3):
        await session.append(user("small", page_id="small"))
        assert await session.read("small") == b"small"
        large = session.append(tool_result(LARGE, page_id="large"), request_id="large")
        refusals = await asyncio.gather(refusal(large), refusal(_reads_all(session)), refusal(_faults_all(session)))
        assert {type(error) for error in refusals} <= {StoreUnavailable, ServiceUnavailable}
        assert "large" not in [page.page_id async for page in session.pages()]
        await session.append(user("still small"))
    # It answers before it finds its objects again; who has time waits for that.
    async with client(stack, tenant) as patient:
        session = patient.session(session.session_id, revision=session.revision)
        await session.append(tool_result(LARGE, page_id="large"), request_id="large")
        assert await session.read("large") == await session.read("placed") == LARGE.encode()
        for number in range(12):
            assert await session.read(f"tide{number}") == f"{number}: {LARGE[:4_000]}".encode()
        assert (await session.fault("tide0")).content.text == f"0: {LARGE[:4_000]}"
        assert (await session.assemble()).tokens.total > 0
        assert (await session.replay()).matches_served_state


async def _reads_all(session: Session) -> None:
    """A cache may have some of them."""
    await asyncio.gather(session.read("placed"), *[session.read(f"tide{number}") for number in range(12)])


async def _faults_all(session: Session) -> None:
    for number in range(12):
        await session.fault(f"tide{number}")


async def _fill(pagekeeper: Pagekeeper, page_bytes: int) -> list[Session]:
    """Open sessions until the log takes no more; those that it took.

    Each has less than what is written back: a log whose records leave it in the background is full by chance, when
    appends are quicker than that, and the session that filled it has as many pages as that took.
    """
    filled: list[Session] = []
    while True:
        try:
            session = await pagekeeper.open_session()
            await session.append(user("x" * page_bytes), user("y" * page_bytes))
        except LogFull:
            return filled
        filled.append(session)


async def _begin_turns_until_full(session: Session) -> None:
    """The smallest of events."""
    with suppress(LogFull):
        while True:
            await session.begin_turn()


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """A log with room for a mebibyte."""
    settings = {"PK_LOG_BYTES_MAX": str(2**20), "PK_LOG_PARTITIONS": "1"}
    with running_stack(tmp_path_factory.mktemp("narrow"), Topology.ONE, settings) as stack:
        yield stack


async def test_a_full_log_refuses_whole_requests_and_answers_reads(narrow: LocalStack, tenant: str) -> None:
    """Without the object store a log cannot make room by itself; with it, it does."""
    async with client(narrow, tenant, call_seconds=DEADLINE_SECONDS) as greedy:
        async with away(narrow.s3):
            session = await greedy.open_session()
            kept = [f"p{number}" for number in range(6)]
            await session.append(*[user("x" * 1_000, page_id=page_id) for page_id in kept])
            filled = [await _fill(greedy, page_bytes) for page_bytes in (28_000, 10_000, 1_000, 10)]
            await _begin_turns_until_full(session)
            revision = (await session.get()).revision
            assert 10 < len(filled[0]) < 20
            with pytest.raises(LogFull):
                await session.append(user("first", page_id="first"), user("second", page_id="second"))
            for refused in (session.pin("p0"), session.begin_turn(), greedy.open_session(), session.checkpoint("full")):
                assert type(await refusal(refused)) is LogFull
            assert (await session.get()).revision == revision
            assert [page.page_id async for page in session.pages()] == kept
            for page_id in kept[:3] + kept[-3:]:
                assert len(await session.read(page_id)) == 1_000
            assert (await session.search("xx", limit=1)) is not None
            assert (await session.assemble()).tokens.total > 0
            assert (await session.replay()).matches_served_state
            await _is_told_so_without_our_client(narrow, tenant, session)
            for deleted in filled[0][:2]:
                await deleted.delete()
            await eventually(lambda: _takes(session), timeout_seconds=5)
            listed = {one.session_id async for one in greedy.list_sessions()}
            assert listed & {one.session_id for one in filled[0]} == {one.session_id for one in filled[0][2:]}
        assert (await session.flush()).placed >= len(kept)
        for page_id in kept:
            assert await session.read(page_id) == b"x" * 1_000
        assert (await session.replay()).matches_served_state
        await eventually(lambda: _takes_many(greedy), timeout_seconds=120)
        for one in filled[0][2:]:
            assert [len(await one.read(page.page_id)) async for page in one.pages()] == [28_000, 28_000]


async def _is_told_so_without_our_client(narrow: LocalStack, tenant: str, session: Session) -> None:
    async with grpc.aio.insecure_channel(narrow.endpoint) as channel:
        stub: Any = memory_service_pb2_grpc.MemoryServiceStub(channel)
        request = pb.AppendPagesRequest(session_id=session.session_id, pages=[user("z" * 1_000)])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.AppendPages(request, metadata=(("authorization", f"Bearer {narrow.token(tenant)}"),))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(cast(grpc.Call, caught.value))
        assert status is not None
        info, retry = ErrorInfo.FromString(status.details[0].value), RetryInfo.FromString(status.details[1].value)
        assert (info.reason, info.domain) == ("LOG_FULL", "pagekeeper")
        assert retry.retry_delay.seconds >= 1


async def _takes(session: Session) -> bool:
    """Whether the log takes an append."""
    try:
        await session.append(user("there is room again"))
    except LogFull:
        return False
    return True


async def _takes_many(pagekeeper: Pagekeeper) -> bool:
    """Whether the log takes six sessions of 28 KB twice: more than three deletions make room for."""
    try:
        for _ in range(6):
            session = await pagekeeper.open_session()
            await session.append(user("x" * 28_000), user("y" * 28_000))
    except LogFull:
        return False
    return True
