"""What lies between a replica and the stores that all replicas share, and goes wrong there.

The faulty log and the faulty bucket do most of it. Here are the feed that loses its connection, and the queue
whose server does not know whether a worker is slow, standing still or dead.
"""

import asyncio
from contextvars import Context
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Self

from pagekeeper.core.ids import SessionKey
from pagekeeper.runtime.log.port import FOLLOW_TIMEOUT_SECONDS, Feed, NoAnswer, Notice, SessionLog
from pagekeeper.runtime.queue.port import (
    LIST_TIMEOUT_SECONDS,
    PUBLISH_TIMEOUT_SECONDS,
    SILENCE_SECONDS_MAX,
    DeadLetter,
    Handler,
    QueueUnavailable,
    Retries,
    WorkItem,
)
from tests.fakes import faulty_log as log_faults
from tests.fakes.faulty_log import FaultyLog
from tests.fakes.memory_queue import MemoryQueue
from tests.simulation.loop import Process


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities."""

    feed_cut: float = 0.0
    """The feed's connection is lost before a notice: the feed ends."""
    feed_refused: float = 0.0
    notice_lost: float = 0.0
    """A notice never comes."""
    interest_lost: float = 0.0
    """Of a session that is watched nothing is told, as if it had not been asked for."""
    publish_lost: float = 0.0
    publish_unanswered: float = 0.0
    done_unheard: float = 0.0
    """The server does not hear that an item was handled."""
    handed_out_twice: float = 0.0


class ReplicaLog(FaultyLog):
    """The log as a replica sees it."""

    def __init__(self, inner: SessionLog, dice: Random) -> None:
        super().__init__(inner, dice, log_faults.Faults())
        self.dice = dice
        self.network = Faults()

    def follow(  # type: ignore[override]  # another feed than the faulty log's, with the same promises
        self, *, timeout_seconds: float = FOLLOW_TIMEOUT_SECONDS
    ) -> "_CutFeed":
        return _CutFeed(self, super().follow(timeout_seconds=timeout_seconds))


class _CutFeed:
    """A feed on a network that breaks, and that loses notices without a word."""

    def __init__(self, log: ReplicaLog, inner: Feed) -> None:
        self._log = log
        self._inner = inner

    async def __aenter__(self) -> Self:
        if self._log.dice.random() < self._log.network.feed_refused:
            raise NoAnswer("the feed is refused by the dice", maybe_applied=False)
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        while True:
            notice = await self._inner.__anext__()
            if self._log.dice.random() < self._log.network.feed_cut:
                raise StopAsyncIteration
            if self._log.dice.random() >= self._log.network.notice_lost:
                return notice

    def watch(self, key: SessionKey) -> None:
        if self._log.dice.random() >= self._log.network.interest_lost:
            self._inner.watch(key)

    def unwatch(self, key: SessionKey) -> None:
        self._inner.unwatch(key)

    async def settle(self) -> None:
        if self._log.dice.random() < self._log.network.feed_refused:
            raise NoAnswer("the dice answer nothing", maybe_applied=False)
        await self._inner.settle()


class ReplicaQueue:
    """The work queue as a replica sees it. Its server runs outside, and outlives every replica."""

    def __init__(self, server: "QueueServer", process: Process, died: asyncio.Future[None], dice: Random) -> None:
        self._server = server
        self._process = process
        self._died = died
        self._dice = dice
        self._subscriptions: list[asyncio.Task[None]] = []
        self.faults = Faults()

    async def publish(
        self,
        kind: str,
        key: SessionKey,
        work_id: str,
        data: bytes,
        *,
        timeout_seconds: float = PUBLISH_TIMEOUT_SECONDS,
    ) -> None:
        if self._dice.random() < self.faults.publish_lost:
            await asyncio.sleep(timeout_seconds)
            raise QueueUnavailable("lost by the dice")
        await self._server.publish(kind, key, work_id, data)
        if self._dice.random() < self.faults.publish_unanswered:
            await asyncio.sleep(timeout_seconds)
            raise QueueUnavailable("not answered by the dice")

    async def consume(self, kind: str, handler: Handler, *, concurrency: int) -> None:
        async def deliver(item: WorkItem) -> None:
            await self._deliver(handler, item)

        subscription = self._server.subscribe(kind, deliver, concurrency)
        self._subscriptions.append(subscription)
        try:
            await asyncio.wait({subscription})
            await subscription
        finally:
            subscription.cancel()

    async def dead_letters(
        self, kind: str, *, limit: int, timeout_seconds: float = LIST_TIMEOUT_SECONDS
    ) -> list[DeadLetter]:
        return await self._server.dead_letters(kind, limit=limit, timeout_seconds=timeout_seconds)

    def disconnect(self) -> None:
        """The server notices that the replica is dead."""
        for subscription in self._subscriptions:
            subscription.cancel()

    async def _deliver(self, handler: Handler, item: WorkItem) -> None:
        """On the server: hand an item to the replica, until it is done or the replica has been silent for too long."""
        loop = asyncio.get_running_loop()
        copies = 2 if self._dice.random() < self.faults.handed_out_twice else 1
        works = [loop.create_task(_handle(handler, item), context=self._process.context) for _ in range(copies)]
        done: set[asyncio.Future[None]] = set()
        while not done and not self._process.held:
            done, _ = await asyncio.wait(
                {works[0], self._died}, timeout=SILENCE_SECONDS_MAX, return_when=asyncio.FIRST_COMPLETED
            )
        if not works[0].done():
            raise QueueUnavailable(f"{self._process.name} is silent")
        works[0].result()
        if self._dice.random() < self.faults.done_unheard:
            raise QueueUnavailable("that it is done was not heard")
        self._server.done(item)


async def _handle(handler: Handler, item: WorkItem) -> None:
    await handler(item)


class QueueServer(MemoryQueue):
    """The queue itself. Knows what is not done yet, and runs in a context of its own."""

    def __init__(self, retries: Retries, outside: Context) -> None:
        super().__init__(retries)
        self._outside = outside
        self._accepted: set[tuple[str, SessionKey, str]] = set()
        self._done: set[tuple[str, SessionKey, str]] = set()

    @property
    def outstanding(self) -> int:
        return len(self._accepted - self._done)

    async def publish(
        self,
        kind: str,
        key: SessionKey,
        work_id: str,
        data: bytes,
        *,
        timeout_seconds: float = PUBLISH_TIMEOUT_SECONDS,
    ) -> None:
        await super().publish(kind, key, work_id, data, timeout_seconds=timeout_seconds)
        self._accepted.add((kind, key, work_id))

    def done(self, item: WorkItem) -> None:
        self._done.add((item.kind, item.key, item.work_id))

    def subscribe(self, kind: str, deliver: Handler, concurrency: int) -> asyncio.Task[None]:
        consuming = super().consume(kind, deliver, concurrency=concurrency)
        return asyncio.get_running_loop().create_task(consuming, context=self._outside)
