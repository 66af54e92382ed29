"""A session log that misbehaves as a network and servers do, so that whoever uses a log can be simulated on one.

It wraps a log and breaks no promise of `port`: it only makes the rare outcomes frequent. What happens is decided by the
`Random` passed in, so a seed repeats a failure.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from random import Random
from types import TracebackType
from typing import Self

from pagekeeper.core.ids import SessionId, SessionKey, TenantId
from pagekeeper.runtime.log.port import (
    APPEND_TIMEOUT_SECONDS,
    FOLLOW_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    TOMBSTONE_SECONDS,
    Feed,
    LogError,
    NoAnswer,
    Notice,
    OldRecord,
    Record,
    SessionLog,
)

_Append = Callable[[], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class Faults:
    """Probabilities of what happens to a call, and the longest delay of anything."""

    request_lost: float = 0.0
    """The append never happens."""
    request_late: float = 0.0
    """The append happens during some later call, when its caller has long been told that the outcome is unknown."""
    request_repeated: float = 0.0
    """The append is sent twice."""
    answer_lost: float = 0.0
    """The append happens and its caller is not told."""
    read_lost: float = 0.0
    """A read gets no answer."""
    read_stale: float = 0.0
    """A read that is not strict misses the newest records."""
    delay_seconds_max: float = 0.0


class FaultyLog:
    """`inner` behind a bad network. `sleep` is how time passes: a simulation brings its own.

    `faults` may be replaced at any time.
    """

    def __init__(
        self,
        inner: SessionLog,
        random: Random,
        faults: Faults,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._inner = inner
        self._random = random
        self.faults = faults
        self._sleep = sleep
        self._late: list[_Append] = []

    @property
    def partitions(self) -> int:
        return self._inner.partitions

    async def append(
        self,
        key: SessionKey,
        *,
        expected_revision: int,
        operation_id: str,
        data: bytes,
        touches: tuple[str, ...] | None = (),
        from_reserve: bool = False,
        timeout_seconds: float = APPEND_TIMEOUT_SECONDS,
    ) -> int:
        return await self._store(
            partial(
                self._inner.append,
                key,
                expected_revision=expected_revision,
                operation_id=operation_id,
                data=data,
                touches=touches,
                from_reserve=from_reserve,
                timeout_seconds=timeout_seconds,
            )
        )

    async def rollup(
        self,
        key: SessionKey,
        *,
        expected_revision: int,
        operation_id: str,
        data: bytes,
        timeout_seconds: float = APPEND_TIMEOUT_SECONDS,
    ) -> int:
        return await self._store(
            partial(
                self._inner.rollup,
                key,
                expected_revision=expected_revision,
                operation_id=operation_id,
                data=data,
                timeout_seconds=timeout_seconds,
            )
        )

    async def bury(
        self,
        key: SessionKey,
        *,
        expected_revision: int,
        operation_id: str,
        data: bytes,
        stands_seconds: int = TOMBSTONE_SECONDS,
        timeout_seconds: float = APPEND_TIMEOUT_SECONDS,
    ) -> int:
        return await self._store(
            partial(
                self._inner.bury,
                key,
                expected_revision=expected_revision,
                operation_id=operation_id,
                data=data,
                stands_seconds=stands_seconds,
                timeout_seconds=timeout_seconds,
            )
        )

    async def read(
        self,
        key: SessionKey,
        *,
        after_revision: int = 0,
        strict: bool = False,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> list[Record]:
        await self._before_read()
        records = await self._inner.read(
            key, after_revision=after_revision, strict=strict, timeout_seconds=timeout_seconds
        )
        if not strict and records and self._happens(self.faults.read_stale):
            # What a rollup replaced is gone from everywhere that we can ask.
            oldest_kept = max((index + 1 for index, record in enumerate(records) if record.rollup), default=0)
            records = records[: self._random.randint(oldest_kept, len(records))]
        await self._delay()
        return records

    async def sessions(
        self, tenant: TenantId, *, after: str, limit: int, timeout_seconds: float = READ_TIMEOUT_SECONDS
    ) -> list[SessionId]:
        await self._before_read()
        return await self._inner.sessions(tenant, after=after, limit=limit, timeout_seconds=timeout_seconds)

    async def fill(self, partition: int, *, timeout_seconds: float = READ_TIMEOUT_SECONDS) -> float:
        await self._before_read()
        return await self._inner.fill(partition, timeout_seconds=timeout_seconds)

    async def oldest(
        self, partition: int, *, after_revision: int, limit: int, timeout_seconds: float = READ_TIMEOUT_SECONDS
    ) -> list[OldRecord]:
        await self._before_read()
        return await self._inner.oldest(
            partition, after_revision=after_revision, limit=limit, timeout_seconds=timeout_seconds
        )

    def follow(self, *, timeout_seconds: float = FOLLOW_TIMEOUT_SECONDS) -> "_SlowFeed":
        return _SlowFeed(self._inner.follow(timeout_seconds=timeout_seconds), self._delay)

    async def _store(self, append: _Append) -> int:
        await self._delay()
        await self._let_late_ones_arrive()
        if self._happens(self.faults.request_lost):
            raise NoAnswer("lost on its way", maybe_applied=True)
        if self._happens(self.faults.request_late):
            self._late.append(append)
            raise NoAnswer("under way", maybe_applied=True)
        revision = await append()
        if self._happens(self.faults.request_repeated):
            self._late.append(append)
            await self._let_late_ones_arrive()
        await self._delay()
        if self._happens(self.faults.answer_lost):
            raise NoAnswer("the answer was lost", maybe_applied=True)
        return revision

    async def _let_late_ones_arrive(self) -> None:
        waiting, self._late = self._late, []
        for append in waiting:
            if self._random.random() < 0.5:
                self._late.append(append)
                continue
            try:
                await append()
            except LogError:
                continue  # the one to tell has gone

    async def _before_read(self) -> None:
        await self._delay()
        await self._let_late_ones_arrive()
        if self._happens(self.faults.read_lost):
            raise NoAnswer("no answer", maybe_applied=False)

    async def _delay(self) -> None:
        if self.faults.delay_seconds_max > 0:
            await self._sleep(self._random.uniform(0, self.faults.delay_seconds_max))

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability


class _SlowFeed:
    """A feed whose notices take their time."""

    def __init__(self, inner: Feed, delay: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._delay = delay

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._inner.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        notice = await self._inner.__anext__()
        await self._delay()
        return notice

    def watch(self, key: SessionKey) -> None:
        self._inner.watch(key)

    def unwatch(self, key: SessionKey) -> None:
        self._inner.unwatch(key)

    async def settle(self) -> None:
        await self._delay()
        await self._inner.settle()
