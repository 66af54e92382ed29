"""The notices of all sessions, from JetStream's republished headers.

Each stream republishes the headers of stored messages, from `pk.log.>` to `pk.feed.>`. The log's own subjects also
carry appends that are then rejected, so no follower subscribes to them.

Republished messages are plain messages, which get lost: when a connection breaks, when a server dies between storing
and republishing, when a follower is slow. The stored messages of a stream are numbered without gaps, so a missing
message is noticed: at the next number, after a reconnection, or at the latest at the audit of a silent feed. Missing
messages are then read from the stream. A feed that was away for longer than `AWAY_SECONDS_MAX` does not read on: a
tombstone may have come and gone meanwhile, and nothing in the stream tells of it.

No task runs behind the iterator: all work is done in the task that iterates.
"""

import asyncio
from collections import deque
from types import TracebackType
from typing import Final, Self

from nats.aio.msg import Msg

from pagekeeper.runtime.log.connection import Connection, Subscription, Unreachable, now
from pagekeeper.runtime.log.headers import live_notice, stored_notice
from pagekeeper.runtime.log.jetstream import SEQUENCE, Refused, Stored, ask, fetch, read_batch
from pagekeeper.runtime.log.port import AWAY_SECONDS_MAX, FeedRewound, FeedToken, NoAnswer, Notice
from pagekeeper.runtime.log.subjects import FEED_PREFIX, LOG_PREFIX, log_stream, split_subject

AUDIT_INTERVAL_SECONDS: Final = 5.0
"""How long a feed may be silent before it looks for itself, and so how late the very last of lost notices can be."""
BACKLOG_MAX: Final = 16_384
"""Notices kept for a slow follower. Further ones are dropped and read from the stream later."""
STEP_TIMEOUT_SECONDS: Final = 5.0
PAUSE_SECONDS: Final = 0.5


class NatsFeed:
    """See `port.Feed`."""

    def __init__(
        self,
        connection: Connection,
        partitions: int,
        after: FeedToken | None,
        timeout_seconds: float,
        away_seconds_max: float = AWAY_SECONDS_MAX,
    ) -> None:
        if after is not None and len(after.positions) != partitions:
            raise ValueError(f"a token of {len(after.positions)} partitions for a log of {partitions}")
        self._connection = connection
        self._partitions = range(partitions)
        self._timeout_seconds = timeout_seconds
        self._after = after
        self._subscription = Subscription(f"{FEED_PREFIX}.>", self._on_message, self._on_resume)
        self._seen = [0] * partitions
        self._returned = [0] * partitions
        self._arrived: deque[tuple[int, Notice]] = deque()
        self._ready: deque[tuple[int, Notice]] = deque()
        self._behind: set[int] = set()
        self._away_seconds_max = away_seconds_max
        self._whole_at = 0.0
        """When it was last known that nothing was missed."""
        self._wake = asyncio.Event()

    @property
    def token(self) -> FeedToken:
        return FeedToken(tuple(self._returned))

    async def __aenter__(self) -> Self:
        deadline = now() + self._timeout_seconds
        try:
            # First listen, then learn where the log ends: what is stored in between arrives twice, not never.
            await self._connection.subscribe(self._subscription, deadline=deadline)
            ends = [await self._end_of(partition, deadline) for partition in self._partitions]
        except (Unreachable, Refused) as error:
            await self._connection.unsubscribe(self._subscription)
            raise NoAnswer(str(error), maybe_applied=False) from error
        except asyncio.CancelledError:
            await self._connection.unsubscribe(self._subscription)
            raise
        self._seen = ends if self._after is None else list(self._after.positions)
        self._returned = list(self._seen)
        self._behind.update(p for p in self._partitions if self._seen[p] < ends[p])
        self._whole_at = now()
        if any(self._seen[p] > ends[p] for p in self._partitions):
            await self._connection.unsubscribe(self._subscription)
            raise FeedRewound(f"the token is at {self._seen}, the log ends at {ends}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.unsubscribe(self._subscription)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        while True:
            if self._ready:
                partition, notice = self._ready.popleft()
                self._returned[partition] = notice.revision
                return notice
            if self._behind:
                await self._catch_up(min(self._behind))
                if not self._behind:
                    self._whole_at = now()
            elif self._arrived:
                self._whole_at = now()
                self._accept(*self._arrived.popleft())
            else:
                await self._wait()

    def _on_message(self, message: Msg) -> None:
        partition, key = split_subject(message.subject)
        headers = message.headers or {}
        if len(self._arrived) < BACKLOG_MAX:
            self._arrived.append((partition, live_notice(key, int(headers[SEQUENCE]), headers)))
        else:
            self._behind.add(partition)
        self._wake.set()

    def _on_resume(self) -> None:
        self._behind.update(self._partitions)
        self._wake.set()

    def _accept(self, partition: int, notice: Notice) -> None:
        """Take a notice that arrived, if it is the next of its partition."""
        seen = self._seen[partition]
        if notice.revision == seen + 1:
            self._seen[partition] = notice.revision
            self._ready.append((partition, notice))
        elif notice.revision > seen:
            self._behind.add(partition)

    async def _wait(self) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(AUDIT_INTERVAL_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            await self._audit()

    async def _audit(self) -> None:
        """Look, cheaply, whether any partition holds something that no message told of."""
        deadline = now() + STEP_TIMEOUT_SECONDS
        for partition in self._partitions:
            if self._arrived or self._behind:
                return
            start = {"seq": self._seen[partition] + 1}
            try:
                batch = await read_batch(
                    self._connection, log_stream(partition), start, deadline=deadline, messages_max=1
                )
            except (Unreachable, Refused):
                return  # the reconnection will be noticed by itself
            if batch.messages:
                self._behind.add(partition)
        self._whole_at = now()

    async def _catch_up(self, partition: int) -> None:
        """Read what is stored after the last notice seen, as far as the leader knows, or until the backlog is full."""
        away_seconds = now() - self._whole_at
        if away_seconds > self._away_seconds_max:
            raise FeedRewound(f"this feed was away for {away_seconds:.0f} s, in which a tombstone may come and go")
        # Not afterwards: a notice dropped while we read must leave its mark.
        self._behind.discard(partition)
        try:
            end = await self._end_of(partition, now() + STEP_TIMEOUT_SECONDS)
            if end < self._seen[partition]:
                raise FeedRewound(f"partition {partition} ends at {end}, this feed was at {self._seen[partition]}")
            while self._seen[partition] < end and len(self._ready) < BACKLOG_MAX:
                await self._read_some(partition, end)
        except (Unreachable, Refused):
            self._behind.add(partition)
            await asyncio.sleep(PAUSE_SECONDS)
            return
        except asyncio.CancelledError:
            self._behind.add(partition)
            raise
        if self._seen[partition] < end:
            self._behind.add(partition)

    async def _read_some(self, partition: int, end: int) -> None:
        stream, start = log_stream(partition), self._seen[partition] + 1
        deadline = now() + STEP_TIMEOUT_SECONDS
        batch = await read_batch(self._connection, stream, {"seq": start}, deadline=deadline)
        for stored in batch.messages:
            self._take(partition, stored)
        if batch.more or self._seen[partition] >= end:
            return
        # The replica that answered has no more. Either it lags, or the rest is gone: the leader knows.
        following = {"seq": self._seen[partition] + 1, "next_by_subj": f"{LOG_PREFIX}.{partition}.>"}
        stored_next = await fetch(self._connection, stream, following, deadline=deadline)
        if stored_next is None:
            self._seen[partition] = end
        else:
            self._take(partition, stored_next)

    def _take(self, partition: int, stored: Stored) -> None:
        self._seen[partition] = stored.sequence
        self._ready.append((partition, stored_notice(stored)))

    async def _end_of(self, partition: int, deadline: float) -> int:
        answer = await ask(self._connection, f"STREAM.INFO.{log_stream(partition)}", {}, deadline=deadline)
        return int(answer["state"]["last_seq"])
