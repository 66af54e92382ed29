"""The log and its queue, opened for one process.

A process that cannot have them as they must be does not start: see `check_server` and `ensure_streams`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.log.connection import Connection, Unreachable, connect, now
from pagekeeper.runtime.log.jetstream import Refused, ask
from pagekeeper.runtime.log.nats_log import NatsLog
from pagekeeper.runtime.log.port import LogUnavailable, SessionLog
from pagekeeper.runtime.log.server_checks import ServerUnfit, check_server
from pagekeeper.runtime.log.streams import Capacity, StreamUnfit, ensure_streams
from pagekeeper.runtime.queue.nats_queue import NatsQueue
from pagekeeper.runtime.queue.port import Retries, WorkQueue
from pagekeeper.runtime.rpc.health import Need
from pagekeeper.runtime.settings import LogSettings

CHECK_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class Bus:
    """The log and the queue, on one connection."""

    log: SessionLog
    queue: WorkQueue
    need: Need
    """Whether the servers answer."""


@asynccontextmanager
async def open_bus(settings: LogSettings, name: str) -> AsyncIterator[Bus]:
    """Raises CannotStart when the servers cannot be reached or would lose what they acknowledge."""
    servers = [server.strip() for server in settings.nats_url.get_secret_value().split(",")]
    capacity = Capacity(replicas=settings.log_replicas, log_bytes_max=settings.log_bytes_max)
    try:
        async with connect(servers, name=f"pagekeeper-{name}") as connection:
            await check_server(connection)
            await ensure_streams(connection, partitions=settings.log_partitions, capacity=capacity)
            yield Bus(
                NatsLog(connection, partitions=settings.log_partitions),
                NatsQueue(connection, Retries(), partitions=settings.log_partitions),
                Need("log", lambda: _check(connection)),
            )
    except (ServerUnfit, StreamUnfit, Refused, Unreachable) as problem:
        raise CannotStart(f"the log: {problem}") from problem


async def _check(connection: Connection) -> None:
    """Ask JetStream anything. Raises LogUnavailable: there is no server, it hangs, or it has no JetStream."""
    try:
        await ask(connection, "INFO", {}, deadline=now() + CHECK_SECONDS)
    except (Unreachable, Refused) as problem:
        raise LogUnavailable(str(problem), maybe_applied=False) from problem
