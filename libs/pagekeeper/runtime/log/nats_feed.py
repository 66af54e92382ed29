"""The notices of sessions that are watched, from JetStream's republished headers.

Each stream republishes the headers of stored messages, from `pk.log.>` to `pk.feed.>`. The log's own subjects also
carry appends that are then rejected, so no follower subscribes to them. A follower subscribes to the feed's subject of
each session that it watches, and so hears nothing of others: what a record costs does not grow with the replicas.

A subscription goes out before the requests that follow it on the connection, so the server, and in a cluster each
server on the way, knows of it before the leader answers a strict read. Republished messages are plain messages, which
get lost. A gap shows at the session's next notice only, so a follower believes that it has heard of everything for
`UNHEARD_SECONDS_MAX` and no longer.

No task of its own runs behind the iterator.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Self

from nats.aio.msg import Msg

from pagekeeper.core.ids import SessionKey
from pagekeeper.runtime.log.connection import Connection, Interest, Unreachable, now
from pagekeeper.runtime.log.headers import live_notice
from pagekeeper.runtime.log.jetstream import SEQUENCE
from pagekeeper.runtime.log.port import NoAnswer, Notice
from pagekeeper.runtime.log.subjects import feed_subject, partition_of, split_subject

BACKLOG_MAX: Final = 16_384
"""Notices kept for a slow follower. With more the feed ends, as if its connection were lost."""
SETTLE_SECONDS_MAX: Final = 2.0


class NatsFeed:
    """See `port.Feed`."""

    def __init__(self, connection: Connection, partitions: int, timeout_seconds: float) -> None:
        self._connection = connection
        self._partitions = partitions
        self._timeout_seconds = timeout_seconds
        self._interest: Interest
        self._arrived: deque[Notice] = deque()
        self._lost = False
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            self._interest = await self._connection.listen(
                self._on_message, self._on_lost, deadline=now() + self._timeout_seconds
            )
        except Unreachable as error:
            raise NoAnswer(str(error), maybe_applied=False) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lost = True
        await self._connection.forget(self._interest)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        while not self._arrived:
            if self._lost:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._arrived.popleft()

    def watch(self, key: SessionKey) -> None:
        if not self._lost:
            self._interest.add(self._subject(key))

    def unwatch(self, key: SessionKey) -> None:
        self._interest.remove(self._subject(key))

    async def settle(self) -> None:
        try:
            await self._connection.settle(deadline=now() + SETTLE_SECONDS_MAX)
        except Unreachable as error:
            raise NoAnswer(str(error), maybe_applied=False) from error

    def _subject(self, key: SessionKey) -> str:
        return feed_subject(key, partition_of(key, self._partitions))

    def _on_message(self, message: Msg) -> None:
        _, key = split_subject(message.subject)
        headers = message.headers or {}
        self._arrived.append(live_notice(key, int(headers[SEQUENCE]), headers))
        if len(self._arrived) > BACKLOG_MAX:
            self._arrived.clear()
            self._lost = True
        self._wake.set()

    def _on_lost(self) -> None:
        self._lost = True
        self._wake.set()
