"""The implementations that a contract is checked on: each test runs once on every one of them."""

from collections.abc import AsyncIterator, Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.runtime.log.connection import Connection, connect
from pagekeeper.runtime.log.nats_log import NatsLog
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.log.streams import Capacity, make_streams
from pagekeeper.runtime.queue.nats_queue import NatsQueue
from pagekeeper.runtime.queue.port import Retries, WorkQueue
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_queue import MemoryQueue
from tests.servers import NatsServer, running

PARTITIONS = 4
SMALL_LOG_BYTES = 20_000
QUICK = Retries(seconds_min=0.02, seconds_max=0.1, silence_seconds_max=0.6)

MoreLogs = Callable[[], SessionLog]

_names = count()


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    with running(NatsServer(tmp_path_factory.mktemp("nats"))) as server:
        yield server


@pytest.fixture
async def nats(nats_server: NatsServer) -> AsyncIterator[Connection]:
    async with connect([nats_server.url], name="contract") as connection:
        await make_streams(connection, partitions=PARTITIONS, capacity=Capacity(log_bytes_max=256 * 1024**2))
        yield connection


@pytest.fixture(params=["memory", "nats"])
def log(request: pytest.FixtureRequest) -> SessionLog:
    if request.param == "memory":
        return MemoryLog(partitions=PARTITIONS)
    return NatsLog(request.getfixturevalue("nats"), partitions=PARTITIONS)


@pytest.fixture(params=["memory", "nats"])
async def more_small_logs(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MoreLogs]:
    """As many ways as asked for, each a process's own, to one log of one partition that holds `SMALL_LOG_BYTES`."""
    if request.param == "memory":
        shared = MemoryLog(partitions=1, partition_bytes_max=SMALL_LOG_BYTES)
        yield lambda: shared
        return
    with running(NatsServer(tmp_path)) as server:
        async with connect([server.url], name="small") as connection:
            await make_streams(connection, partitions=1, capacity=Capacity(log_bytes_max=SMALL_LOG_BYTES))
            yield lambda: NatsLog(connection, partitions=1)


@pytest.fixture
def small_log(more_small_logs: MoreLogs) -> SessionLog:
    """A log of one partition that holds `SMALL_LOG_BYTES`."""
    return more_small_logs()


@pytest.fixture(params=["memory", "nats"])
def queue(request: pytest.FixtureRequest) -> WorkQueue:
    if request.param == "memory":
        return MemoryQueue(QUICK)
    return NatsQueue(request.getfixturevalue("nats"), QUICK, partitions=PARTITIONS)


@pytest.fixture
def tenant() -> str:
    """A tenant that no other test has."""
    return f"tenant-{next(_names)}"


@pytest.fixture
def kind() -> str:
    """A kind of work that no other test has."""
    return "kind_" + "".join(chr(ord("a") + int(digit)) for digit in str(next(_names)))


@pytest.fixture
def key(tenant: str) -> SessionKey:
    return session_key(tenant, "session")
