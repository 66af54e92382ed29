"""The session log on three servers of which one dies: what a single server cannot show.

The leader changes, so requests go unanswered, replicas lag, and appends fail because another is still being agreed on.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from itertools import pairwise
from pathlib import Path

from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.runtime.log.connection import Connection, connect, now
from pagekeeper.runtime.log.jetstream import ask
from pagekeeper.runtime.log.nats_log import NatsLog
from pagekeeper.runtime.log.port import AppendConflict, NoAnswer, Notice
from pagekeeper.runtime.log.server_checks import check_server
from pagekeeper.runtime.log.streams import Capacity, make_streams
from tests.servers import NatsServer, nats_cluster, running

CAPACITY = Capacity(
    replicas=3,
    log_bytes_max=64 * 1024**2,
    work_bytes_max=1024**2,
    dead_bytes_max=1024**2,
)
PARTITIONS = 1
WRITERS = [session_key("acme", f"writer{number}") for number in range(4)]
SHARED = session_key("acme", "shared")


@asynccontextmanager
async def connected(servers: list[NatsServer], name: str) -> AsyncIterator[NatsLog]:
    async with connect([server.url for server in servers], name=name) as connection:
        await check_server(connection)
        await make_streams(connection, partitions=PARTITIONS, capacity=CAPACITY)
        yield NatsLog(connection, partitions=PARTITIONS)


async def leader_of(servers: list[NatsServer], connection: Connection) -> NatsServer:
    answer = await ask(connection, "STREAM.INFO.PK_LOG_0", {}, deadline=now() + 20)
    return next(server for server in servers if server.name == answer["cluster"]["leader"])


class History:
    """What writers were told, to be compared with what is stored."""

    def __init__(self, log: NatsLog) -> None:
        self.log = log
        self.stop = asyncio.Event()
        self.acknowledged: dict[SessionKey, list[tuple[int, str]]] = {key: [] for key in (*WRITERS, SHARED)}

    async def write_alone(self, key: SessionKey) -> None:
        revision = number = 0
        while not self.stop.is_set():
            revision = await self._append(key, revision, f"op{number}")
            self.acknowledged[key].append((revision, f"op{number}"))
            number += 1

    async def compete(self, writer: int) -> None:
        revision = number = 0
        while not self.stop.is_set():
            operation_id = f"w{writer}op{number}"
            try:
                revision = await self._append(SHARED, revision, operation_id)
            except AppendConflict as conflict:
                revision = conflict.actual
            else:
                self.acknowledged[SHARED].append((revision, operation_id))
            number += 1

    async def _append(self, key: SessionKey, expected: int, operation_id: str) -> int:
        while True:
            try:
                return await self.log.append(
                    key, expected_revision=expected, operation_id=operation_id, data=b"x" * 100, timeout_seconds=3
                )
            except NoAnswer:
                continue  # again, the very same

    async def check(self) -> list[Notice]:
        """Nothing acknowledged is missing, nothing is there twice. Returns what a feed must have told."""
        notices = []
        for key, acknowledged in self.acknowledged.items():
            records = await self.log.read(key, strict=True)
            stored = [(record.revision, record.operation_id) for record in records]
            assert len({operation_id for _, operation_id in stored}) == len(stored)
            assert set(stored) == set(acknowledged)
            assert len(stored) > 5
            previous = [0, *(revision for revision, _ in stored)]
            notices += [Notice(key, before, after, ()) for before, after in pairwise(previous)]
        return notices


async def test_the_leader_dies_and_nothing_is_lost_or_repeated(tmp_path: Path) -> None:
    servers = nats_cluster(tmp_path, 3)
    with ExitStack() as stack:
        for server in servers:
            stack.enter_context(running(server))
        async with connected(servers, "writers") as log, connected(servers[::-1], "follower") as follower:
            history = History(log)
            async with follower.follow() as feed, asyncio.TaskGroup() as tasks:
                for key in WRITERS:
                    feed.watch(key)
                writers = [tasks.create_task(history.write_alone(key)) for key in WRITERS]
                writers += [tasks.create_task(history.compete(writer)) for writer in range(3)]
                async with connect([server.url for server in servers], name="operator") as operator:
                    await asyncio.sleep(0.5)
                    leader = await leader_of(servers, operator)
                    leader.kill()
                    # The others need 4 to 9 seconds to elect another.
                    assert await leader_of(servers, operator) is not leader
                    await asyncio.to_thread(leader.start)
                await asyncio.sleep(0.5)
                history.stop.set()
                await asyncio.wait(writers)
                expected = await history.check()
            # A follower hears of what comes after its strict read, on whichever server either of them is.
            async with follower.follow() as feed:
                for key in WRITERS:
                    feed.watch(key)
                    known = (await follower.read(key, strict=True))[-1].revision
                    assert known == max(notice.revision for notice in expected if notice.key == key)
                    appended = await log.append(key, expected_revision=known, operation_id="after", data=b"")
                    async with asyncio.timeout(20):
                        assert await anext(feed) == Notice(key, known, appended, ())
