"""The log and its queue: made once by `init_log`, opened by each process.

A process that cannot have them as they must be does not start: see `check_server` and `check_streams`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.log.connection import Connection, Unreachable, connect, now
from pagekeeper.runtime.log.jetstream import Refused, ask
from pagekeeper.runtime.log.nats_log import NatsLog
from pagekeeper.runtime.log.port import NoAnswer, SessionLog
from pagekeeper.runtime.log.server_checks import ServerUnfit, check_server
from pagekeeper.runtime.log.streams import Capacity, StreamUnfit, check_streams, make_streams
from pagekeeper.runtime.queue.nats_queue import NatsQueue
from pagekeeper.runtime.queue.port import Retries, WorkQueue
from pagekeeper.runtime.rpc.health import Need
from pagekeeper.runtime.settings import InitSettings, LogSettings

CHECK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Bus:
    """The log and the queue, on one connection."""

    log: SessionLog
    queue: WorkQueue
    need: Need
    """Whether the servers answer."""


async def init_log(settings: InitSettings) -> list[str]:
    """Make the streams, or enlarge those that are there. Safe to repeat. See `make_streams` for what is returned.

    Raises CannotStart when the servers cannot be reached, would lose what they acknowledge or have no room.
    """
    capacity = Capacity(
        replicas=settings.log_replicas,
        log_bytes_max=settings.log_bytes_max,
        work_bytes_max=settings.work_bytes_max,
    )
    async with _connected(settings, "init") as connection:
        return await make_streams(connection, partitions=settings.log_partitions, capacity=capacity)


@asynccontextmanager
async def open_bus(settings: LogSettings, name: str) -> AsyncIterator[Bus]:
    """Raises CannotStart when the servers cannot be reached, would lose what they acknowledge or lack the streams."""
    async with _connected(settings, name) as connection:
        await check_streams(connection, partitions=settings.log_partitions)
        yield Bus(
            NatsLog(connection, partitions=settings.log_partitions),
            NatsQueue(connection, Retries(), partitions=settings.log_partitions),
            Need("log", lambda: _check(connection)),
        )


@asynccontextmanager
async def _connected(settings: LogSettings, name: str) -> AsyncIterator[Connection]:
    servers = [server.strip() for server in settings.nats_url.get_secret_value().split(",")]
    try:
        async with connect(servers, name=f"pagekeeper-{name}", ca=settings.nats_ca) as connection:
            await check_server(connection)
            yield connection
    except (ServerUnfit, StreamUnfit, Refused, Unreachable) as problem:
        raise CannotStart(f"the log: {problem}") from problem


async def _check(connection: Connection) -> None:
    """Ask JetStream anything. Raises NoAnswer: there is no server, it hangs, or it has no JetStream."""
    try:
        await ask(connection, "INFO", {}, deadline=now() + CHECK_SECONDS)
    except (Unreachable, Refused) as problem:
        raise NoAnswer(str(problem), maybe_applied=False) from problem
