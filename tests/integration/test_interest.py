"""A replica's copies of sessions stay current on a network that breaks, and that loses notices without a word."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from random import Random

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.pages import Extent
from pagekeeper.core.session import Session
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.runtime.log.connection import connect
from pagekeeper.runtime.log.nats_log import NatsLog
from pagekeeper.runtime.log.port import READ_TIMEOUT_SECONDS, UNHEARD_SECONDS_MAX, Notice, Record
from pagekeeper.runtime.log.streams import Capacity, make_streams
from pagekeeper.runtime.sessions import Request, Sessions
from tests.fakes.manual_clock import ManualClock
from tests.servers import NatsServer, Proxy, eventually

PARTITIONS = 2
CAPACITY = Capacity(log_bytes_max=64 * 1024**2)


class NoBlobs:
    """A store that nobody asks: nothing here is written back."""

    async def read_blob(self, key: SessionKey, extent: Extent, digest: bytes) -> bytes:
        raise AssertionError((key, extent, digest))


class CountingLog(NatsLog):
    """A log that counts the reads that it is asked for."""

    reads = 0

    async def read(
        self,
        key: SessionKey,
        *,
        after_revision: int = 0,
        strict: bool = False,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> list[Record]:
        self.reads += 1
        return await super().read(key, after_revision=after_revision, strict=strict, timeout_seconds=timeout_seconds)


class Replica:
    """One process's sessions, and its log."""

    def __init__(self, log: CountingLog, cached_max: int) -> None:
        self.log = log
        self.clock = ManualClock()
        self.sessions = Sessions(log, NoBlobs(), self.clock, cached_max)
        self._requests = count()

    async def write(self, key: SessionKey) -> int:
        """Open the session, or begin a turn in it. Return the revision."""

        def decide(session: Session) -> ev.Event:
            if session.exists:
                return ev.TurnBegun()
            return decisions.open_session(session, key.session, ev.SessionConfig(), ())

        request_id = f"r{next(self._requests)}-{id(self)}"
        return (await self.sessions.commit(key, Request(request_id, b""), decide)).revision

    async def revision(self, key: SessionKey) -> int:
        return (await self.sessions.read(key)).revision


@asynccontextmanager
async def replica_at(url: str, cached_max: int = 100) -> AsyncIterator[Replica]:
    async with connect([url], name="replica") as connection, Background(SystemClock(), Random(1)) as background:
        await make_streams(connection, partitions=PARTITIONS, capacity=CAPACITY)
        replica = Replica(CountingLog(connection, partitions=PARTITIONS), cached_max)
        background.start("feed", replica.sessions.follow_log)

        async def hears() -> bool:
            return await keeps(replica, session_key("acme", "probe"))

        await eventually(hears)
        yield replica


async def keeps(replica: Replica, key: SessionKey) -> bool:
    """Whether a second read is answered from the copy."""
    await replica.sessions.read(key)
    before = replica.log.reads
    await replica.sessions.read(key)
    return replica.log.reads == before


KEY = session_key("acme", "s1")


async def test_a_copy_follows_what_others_append_and_costs_no_read_until_then(nats_server: NatsServer) -> None:
    async with replica_at(nats_server.url) as writer, replica_at(nats_server.url) as reader:
        await writer.write(KEY)
        assert await keeps(reader, KEY)
        before = reader.log.reads
        newest = await writer.write(KEY)

        async def follows() -> bool:
            return await reader.revision(KEY) == newest

        await eventually(follows)
        assert reader.log.reads == before + 1
        # A record of a session that it does not hold makes it read nothing, and know nothing.
        await writer.write(session_key("acme", "other"))
        assert await reader.revision(KEY) == newest
        assert reader.log.reads == before + 1


async def test_a_copy_does_not_outlive_its_connection(nats_server: NatsServer, proxy: Proxy) -> None:
    async with replica_at(nats_server.url) as writer, replica_at(nats_server.url_at(proxy.port)) as reader:
        await writer.write(KEY)
        await reader.revision(KEY)
        proxy.drop_answers = True
        newest = await writer.write(KEY)
        proxy.drop_answers = False
        proxy.cut()

        async def reads_the_newest() -> bool:
            return await reader.revision(KEY) == newest

        # No time passes on its clock: the lost connection alone makes it ask.
        await eventually(reads_the_newest)

        async def keeps_again() -> bool:
            return await keeps(reader, KEY)

        await eventually(keeps_again)


async def test_a_copy_of_which_nothing_is_heard_is_believed_for_a_while_only(
    nats_server: NatsServer, proxy: Proxy
) -> None:
    async with replica_at(nats_server.url) as writer, replica_at(nats_server.url_at(proxy.port)) as reader:
        old = await writer.write(KEY)
        assert await reader.revision(KEY) == old
        # The notice is lost, and the connection holds.
        proxy.drop_answers = True
        newest = await writer.write(KEY)
        assert (await writer.log.read(KEY, strict=True))[-1].revision == newest
        proxy.drop_answers = False
        reader.clock.advance(UNHEARD_SECONDS_MAX - 0.1)
        assert await reader.revision(KEY) == old
        reader.clock.advance(0.2)
        assert await reader.revision(KEY) == newest


async def test_an_append_of_ones_own_says_that_the_copy_was_current(nats_server: NatsServer) -> None:
    async with replica_at(nats_server.url) as replica:
        newest = 0
        for _ in range(3):
            newest = await replica.write(KEY)
            replica.clock.advance(UNHEARD_SECONDS_MAX - 0.1)
        before = replica.log.reads
        assert await replica.revision(KEY) == newest
        assert replica.log.reads == before


async def test_a_feed_ends_with_its_connection_and_tells_what_came_before(
    nats_server: NatsServer, proxy: Proxy
) -> None:
    async with (
        connect([nats_server.url_at(proxy.port)], name="follower") as connection,
        replica_at(nats_server.url) as writer,
    ):
        follower = NatsLog(connection, partitions=PARTITIONS)
        async with follower.follow() as feed:
            feed.watch(KEY)
            await feed.settle()
            first = await writer.write(KEY)
            assert await anext(feed) == Notice(KEY, 0, first, ())
            nats_server.kill()
            assert [notice async for notice in feed] == []
            # What is asked of it now goes nowhere.
            feed.watch(session_key("acme", "other"))
            feed.unwatch(KEY)
            await asyncio.to_thread(nats_server.start)
        async with follower.follow() as feed:
            feed.watch(KEY)
            known = (await follower.read(KEY, strict=True))[-1].revision
            second = await writer.write(KEY)
            assert known == first
            assert (await anext(feed)).revision == second
