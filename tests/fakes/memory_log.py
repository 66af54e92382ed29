# ruff: noqa: ARG002 - memory answers at once and is never stale, so no method needs its timeout or `strict`
"""The session log in memory: the same promises, for tests and simulations. Nothing survives the process.

It is not a mode of the platform: no service is ever composed with it.
"""

import asyncio
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import SessionId, SessionKey, TenantId, check_id
from pagekeeper.runtime.log.port import (
    APPEND_TIMEOUT_SECONDS,
    FOLLOW_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    SESSIONS_LIMIT_MAX,
    TOMBSTONE_SECONDS,
    AppendConflict,
    NoRoom,
    Notice,
    OldRecord,
    Record,
    SessionGone,
    check_record,
    decode_touches,
    encode_touches,
    reserve_bytes,
)
from pagekeeper.runtime.log.subjects import log_subject, partition_of

_OVERHEAD_BYTES: Final = 200
"""What a record takes besides its data: about what JetStream's file store adds."""


@dataclass(frozen=True, slots=True)
class _Entry:
    key: SessionKey
    record: Record
    previous_revision: int
    touches: str | None


@dataclass(slots=True)
class _Partition:
    """One stream: its messages by sequence, and which of them are whose."""

    last_sequence: int = 0
    size_bytes: int = 0
    entries: dict[int, _Entry] = field(default_factory=dict)
    sessions: dict[SessionKey, list[int]] = field(default_factory=dict)
    tombstones: dict[SessionKey, float] = field(default_factory=dict)
    """Until when each stands, in the loop's time."""


class MemoryLog:
    """All sessions' logs, in `partitions` of at most `partition_bytes_max` bytes."""

    def __init__(self, *, partitions: int = 4, partition_bytes_max: int = 1024**3) -> None:
        self._partitions = [_Partition() for _ in range(partitions)]
        self._partition_bytes_max = partition_bytes_max
        self._feeds: list[MemoryFeed] = []

    @property
    def watched(self) -> set[SessionKey]:
        """The sessions that any follower watches."""
        return {key for feed in self._feeds for key in feed.watched}

    def disconnect(self) -> None:
        """Break every follower's connection."""
        for feed in self._feeds:
            feed.lose()

    @property
    def partitions(self) -> int:
        return len(self._partitions)

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
            key, expected_revision, operation_id, data, touches, rollup=False, longer=not from_reserve
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
        return await self._store(key, expected_revision, operation_id, data, (), rollup=True, longer=False)

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
        revision = await self._store(key, expected_revision, operation_id, data, None, rollup=True, longer=False)
        self._partition(key).tombstones[key] = asyncio.get_running_loop().time() + stands_seconds
        return revision

    async def read(
        self,
        key: SessionKey,
        *,
        after_revision: int = 0,
        strict: bool = False,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> list[Record]:
        partition = self._partition(key)
        await _others_first()
        entries = _entries(partition, key)
        if strict and after_revision > (entries[-1].record.revision if entries else 0):
            raise SessionGone(key)
        return [e.record for e in entries if e.record.revision > after_revision]

    async def sessions(
        self, tenant: TenantId, *, after: str, limit: int, timeout_seconds: float = READ_TIMEOUT_SECONDS
    ) -> list[SessionId]:
        if not 1 <= limit <= SESSIONS_LIMIT_MAX:
            raise InvalidField("limit", f"must be 1 to {SESSIONS_LIMIT_MAX}, not {limit}")
        check_id("tenant", tenant)
        await _others_first()
        self._remove_old_tombstones()
        keys = (key for partition in self._partitions for key in partition.sessions)
        return sorted(key.session for key in keys if key.tenant == tenant and key.session > after)[:limit]

    async def fill(self, partition: int, *, timeout_seconds: float = READ_TIMEOUT_SECONDS) -> float:
        await _others_first()
        self._remove_old_tombstones()
        room_bytes = self._partition_bytes_max - reserve_bytes(self._partition_bytes_max)
        return self._partitions[partition].size_bytes / room_bytes

    async def oldest(
        self, partition: int, *, after_revision: int, limit: int, timeout_seconds: float = READ_TIMEOUT_SECONDS
    ) -> list[OldRecord]:
        await _others_first()
        self._remove_old_tombstones()
        entries = self._partitions[partition].entries
        kept = [entries[revision] for revision in sorted(entries) if revision > after_revision]
        return [OldRecord(e.key, e.record.revision, len(e.record.data), e.record.rollup) for e in kept[:limit]]

    def follow(self, *, timeout_seconds: float = FOLLOW_TIMEOUT_SECONDS) -> "MemoryFeed":
        return MemoryFeed(self._feeds)

    async def _store(
        self,
        key: SessionKey,
        expected: int,
        operation_id: str,
        data: bytes,
        touches: tuple[str, ...] | None,
        *,
        rollup: bool,
        longer: bool,
    ) -> int:
        check_record(operation_id, data)
        partition = self._partition(key)
        await _others_first()
        entries = _entries(partition, key)
        actual = entries[-1].record.revision if entries else 0
        if actual != expected:
            return _already_there(entries, expected, actual, operation_id)
        size_bytes = len(data) + _OVERHEAD_BYTES
        kept_back = reserve_bytes(self._partition_bytes_max) if longer else 0
        if partition.size_bytes + size_bytes > self._partition_bytes_max - kept_back:
            raise NoRoom("maximum bytes exceeded")
        partition.last_sequence += 1
        record = Record(partition.last_sequence, operation_id, bytes(data), rollup)
        entry = _Entry(key, record, expected, encode_touches(touches))
        if rollup:
            _remove(partition, key)
        partition.entries[record.revision] = entry
        partition.sessions.setdefault(key, []).append(record.revision)
        partition.size_bytes += size_bytes
        for feed in self._feeds:
            feed.offer(_notice(entry))
        return record.revision

    def _partition(self, key: SessionKey) -> _Partition:
        index = partition_of(key, len(self._partitions))
        log_subject(key, index)  # refuses ids that are none
        self._remove_old_tombstones()
        return self._partitions[index]

    def _remove_old_tombstones(self) -> None:
        now = asyncio.get_running_loop().time()
        for partition in self._partitions:
            for key in [key for key, until in partition.tombstones.items() if until <= now]:
                del partition.tombstones[key]
                _remove(partition, key)


class MemoryFeed:
    """See `port.Feed`."""

    def __init__(self, feeds: list["MemoryFeed"]) -> None:
        self._feeds = feeds
        self.watched: set[SessionKey] = set()
        self._ready: deque[Notice] = deque()
        self._lost = False
        self._wake = asyncio.Event()

    async def __aenter__(self) -> Self:
        await _others_first()
        self._feeds.append(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lost = True
        self._feeds.remove(self)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Notice:
        while not self._ready:
            if self._lost:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()
        return self._ready.popleft()

    def watch(self, key: SessionKey) -> None:
        log_subject(key, 0)  # refuses ids that are none
        if not self._lost:
            self.watched.add(key)

    def unwatch(self, key: SessionKey) -> None:
        self.watched.discard(key)

    async def settle(self) -> None:
        await _others_first()

    def offer(self, notice: Notice) -> None:
        """The log calls this with everything that it stores."""
        if notice.key in self.watched and not self._lost:
            self._ready.append(notice)
            self._wake.set()

    def lose(self) -> None:
        """The connection breaks."""
        self._lost = True
        self._wake.set()


def _entries(partition: _Partition, key: SessionKey) -> list[_Entry]:
    return [partition.entries[sequence] for sequence in partition.sessions.get(key, ())]


def _remove(partition: _Partition, key: SessionKey) -> None:
    for revision in partition.sessions.pop(key, ()):
        partition.size_bytes -= len(partition.entries.pop(revision).record.data) + _OVERHEAD_BYTES


def _already_there(entries: list[_Entry], expected: int, actual: int, operation_id: str) -> int:
    """The revision of an operation that is applied already. Errors: AppendConflict."""
    folded = False
    for entry in entries:
        if entry.record.revision > expected:
            if entry.record.operation_id == operation_id:
                return entry.record.revision
            folded = folded or (entry.record.rollup and entry.previous_revision != expected)
    raise AppendConflict(expected, actual, maybe_applied=folded)


def _notice(entry: _Entry) -> Notice:
    return Notice(entry.key, entry.previous_revision, entry.record.revision, decode_touches(entry.touches))


async def _others_first() -> None:
    """Give way, as a call to a server does: a test that only passes without it would not pass anywhere else."""
    await asyncio.sleep(0)
