"""The session log on JetStream.

An append gets a definite outcome as follows. The server compares (`Nats-Expected-Last-Subject-Sequence`) and stores in
one step, so a message is applied at most once, and sending the message again is always safe. The server's answer to a
repetition proves nothing: a single server says "wrong last sequence" of an append that was applied, and of one that
lost a race. After any failure the log itself is therefore asked, for the subject's last message from the stream's
leader:

- The message carries the operation id of this append: the append succeeded.
- The message is the expected one: the append was not applied yet, and is sent again. A refusal for want of room ends
  here: it is definite, unless an earlier attempt got no answer and may still be under way.
- Otherwise the append is in the tail between the two, or another writer was faster.

What makes the log longer is refused before it is sent when only the reserve is left (`room`). The log is asked then,
too: a repetition of an append that was applied gets its revision from a full log.

A server whose disk was full drops messages without an answer (`store_health`). That is a want of room, too.

The operation id travels in a header of Pagekeeper's own. The server's own `Nats-Msg-Id` does not serve: the server
forgets ids after minutes, each id costs RAM, and a single server checks the compare first and so never recognises a
repetition.
"""

import asyncio
import heapq
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import SessionId, SessionKey, TenantId
from pagekeeper.runtime.log.connection import Connection, Unreachable, now
from pagekeeper.runtime.log.headers import (
    OPERATION,
    previous_revision,
    record_headers,
    record_of,
    tombstone_headers,
)
from pagekeeper.runtime.log.jetstream import (
    PATIENCE_SECONDS,
    Attempts,
    Refused,
    Stored,
    ask,
    check_answer,
    fetch,
    is_full,
    read_batch,
)
from pagekeeper.runtime.log.nats_feed import NatsFeed
from pagekeeper.runtime.log.port import (
    APPEND_TIMEOUT_SECONDS,
    FOLLOW_TIMEOUT_SECONDS,
    READ_TIMEOUT_SECONDS,
    SESSIONS_LIMIT_MAX,
    TOMBSTONE_SECONDS,
    AppendConflict,
    NoAnswer,
    NoRoom,
    OldRecord,
    Record,
    RecordTooLarge,
    SessionGone,
    check_record,
    whole_tail,
)
from pagekeeper.runtime.log.room import Room, record_bytes
from pagekeeper.runtime.log.store_health import StoreHealth
from pagekeeper.runtime.log.subjects import log_stream, log_subject, partition_of, split_subject, tenant_filter

_WRONG_LAST_SEQUENCE: Final = frozenset({10071, 10164})
"""The second: a replicated stream is still busy with another append to the subject, which may yet fail."""
_TOO_LARGE: Final = 10054
_FULL: Final = "the partition's room is used up, but for the reserve"
_DISK_FULL: Final = "no space was left on the server's disk, and the server has not been started again since"


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a session lives."""

    stream: str
    subject: str
    room: Room


@dataclass(frozen=True, slots=True)
class _Message:
    """A record on its way. `longer` says that it makes the log longer, so that it may not take the reserve."""

    operation_id: str
    data: bytes
    headers: dict[str, str]
    longer: bool


class NatsLog:
    """All sessions' logs, in the streams that `make_streams` made for `partitions`."""

    def __init__(self, connection: Connection, *, partitions: int) -> None:
        self._connection = connection
        self._partitions = partitions
        self._health = StoreHealth(connection)
        self._rooms = [Room(connection, log_stream(partition)) for partition in range(partitions)]

    @property
    def partitions(self) -> int:
        return self._partitions

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
        headers = record_headers(expected_revision, operation_id, touches, rollup=False)
        message = _Message(operation_id, data, headers, longer=not from_reserve)
        return await self._store(key, expected_revision, message, timeout_seconds)

    async def rollup(
        self,
        key: SessionKey,
        *,
        expected_revision: int,
        operation_id: str,
        data: bytes,
        timeout_seconds: float = APPEND_TIMEOUT_SECONDS,
    ) -> int:
        headers = record_headers(expected_revision, operation_id, (), rollup=True)
        message = _Message(operation_id, data, headers, longer=False)
        return await self._store(key, expected_revision, message, timeout_seconds)

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
        headers = tombstone_headers(expected_revision, operation_id, stands_seconds)
        message = _Message(operation_id, data, headers, longer=False)
        return await self._store(key, expected_revision, message, timeout_seconds)

    async def read(
        self,
        key: SessionKey,
        *,
        after_revision: int = 0,
        strict: bool = False,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> list[Record]:
        place, deadline = self._place(key), now() + timeout_seconds
        try:
            newest = await self._newest(place, deadline) if strict else None
            if strict and (newest is None or newest.sequence <= after_revision):
                return _nothing_new(key, newest, after_revision)
            reach = newest.sequence if newest is not None else 0
            if newest is not None and previous_revision(newest.headers) == after_revision:
                tail = [newest]
            else:
                tail = await self._tail(place, after_revision, reach, deadline)
        except (Unreachable, Refused) as error:
            raise NoAnswer(str(error), maybe_applied=False) from error
        return whole_tail([(record_of(stored), previous_revision(stored.headers)) for stored in tail], after_revision)

    async def sessions(
        self, tenant: TenantId, *, after: str, limit: int, timeout_seconds: float = READ_TIMEOUT_SECONDS
    ) -> list[SessionId]:
        if not 1 <= limit <= SESSIONS_LIMIT_MAX:
            raise InvalidField("limit", f"must be 1 to {SESSIONS_LIMIT_MAX}, not {limit}")
        deadline = now() + timeout_seconds
        try:
            found = await asyncio.gather(*(self._sessions_in(p, tenant, deadline) for p in range(self._partitions)))
        except (Unreachable, Refused) as error:
            raise NoAnswer(str(error), maybe_applied=False) from error
        return heapq.nsmallest(limit, (session for part in found for session in part if session > after))

    async def fill(self, partition: int, *, timeout_seconds: float = READ_TIMEOUT_SECONDS) -> float:
        try:
            return await self._rooms[partition].fill(deadline=now() + timeout_seconds)
        except (Unreachable, Refused) as error:
            raise NoAnswer(str(error), maybe_applied=False) from error

    async def oldest(
        self, partition: int, *, after_revision: int, limit: int, timeout_seconds: float = READ_TIMEOUT_SECONDS
    ) -> list[OldRecord]:
        stream, start, deadline = log_stream(partition), {"seq": after_revision + 1}, now() + timeout_seconds
        try:
            batch = await read_batch(self._connection, stream, start, deadline=deadline, messages_max=limit)
        except (Unreachable, Refused) as error:
            raise NoAnswer(str(error), maybe_applied=False) from error
        return [
            OldRecord(split_subject(one.subject)[1], one.sequence, len(one.data), record_of(one).rollup)
            for one in batch.messages
        ]

    def follow(self, *, timeout_seconds: float = FOLLOW_TIMEOUT_SECONDS) -> NatsFeed:
        return NatsFeed(self._connection, self._partitions, timeout_seconds)

    async def _store(self, key: SessionKey, expected: int, message: _Message, timeout_seconds: float) -> int:
        check_record(message.operation_id, message.data)
        place = self._place(key)
        attempts = Attempts(now() + timeout_seconds)
        unsettled = False
        while True:
            full = False
            try:
                return await self._send(place, message, attempts.deadline)
            except NoRoom as refusal:
                reason, full = str(refusal), True
            except Refused as refusal:
                reason = str(refusal)
                # Even the first time: our caller may be repeating an append that it gave up on.
                unsettled = unsettled or refusal.error_code in _WRONG_LAST_SEQUENCE
            except Unreachable as error:
                reason = str(error)
                unsettled = unsettled or error.sent
            if unsettled or full:
                try:
                    revision = await self._settle(place, expected, message.operation_id, attempts.deadline)
                except (Unreachable, Refused) as error:
                    raise NoAnswer(f"{reason}; {error}", maybe_applied=True) from error
                if revision is not None:
                    return revision
                if not unsettled:
                    raise NoRoom(reason)
            if not await attempts.pause():
                raise NoAnswer(reason, maybe_applied=unsettled)

    async def _send(self, place: _Place, message: _Message, deadline: float) -> int:
        """The revision of the stored message. Errors: NoRoom, RecordTooLarge, Refused, Unreachable."""
        if await self._health.fails(place.stream, deadline=deadline):
            raise NoRoom(_DISK_FULL)
        size_bytes = record_bytes(place.subject, message.headers, message.data)
        if message.longer and not await place.room.take(size_bytes, deadline=deadline):
            raise NoRoom(_FULL)
        try:
            answer = await self._connection.request(
                place.subject, message.data, message.headers, deadline=deadline, patience_seconds=PATIENCE_SECONDS
            )
            return int(check_answer(place.subject, answer)["seq"])
        except Unreachable as error:
            if error.sent and place.stream in await self._health.ask(deadline=deadline):
                raise NoRoom(_DISK_FULL) from error
            raise
        except Refused as refusal:
            if refusal.error_code == _TOO_LARGE:
                raise RecordTooLarge(len(message.data)) from refusal
            if is_full(refusal):
                raise NoRoom(refusal.description) from refusal
            raise

    async def _settle(self, place: _Place, expected: int, operation_id: str, deadline: float) -> int | None:
        """The revision of our operation, or None if it was not applied yet. Errors: AppendConflict, Unreachable."""
        newest = await self._newest(place, deadline)
        actual = newest.sequence if newest is not None else 0
        if actual == expected:
            return None
        tail = [newest] if newest is not None and newest.headers.get(OPERATION) == operation_id else None
        if tail is None:
            tail = await self._tail(place, expected, actual, deadline)
        folded = False
        for stored in tail:
            if stored.sequence > expected and stored.headers.get(OPERATION) == operation_id:
                return stored.sequence
            # A rollup directly on the expected revision has nothing of ours in it.
            folded = folded or (record_of(stored).rollup and previous_revision(stored.headers) != expected)
        raise AppendConflict(expected, actual, maybe_applied=folded)

    async def _newest(self, place: _Place, deadline: float) -> Stored | None:
        return await fetch(self._connection, place.stream, {"last_by_subj": place.subject}, deadline=deadline)

    async def _tail(self, place: _Place, after: int, reach: int, deadline: float) -> list[Stored]:
        """A session's messages after a sequence, at least as far as `reach`, whichever replicas answer."""
        tail: list[Stored] = []
        while True:
            position = tail[-1].sequence if tail else after
            start = {"seq": position + 1, "next_by_subj": place.subject}
            batch = await read_batch(self._connection, place.stream, start, deadline=deadline)
            tail += batch.messages
            if batch.more:
                continue
            position = tail[-1].sequence if tail else after
            if position >= reach:
                return tail
            # The replica that answered lags behind. The leader gives one message at a time, but it gives it.
            start = {"seq": position + 1, "next_by_subj": place.subject}
            following = await fetch(self._connection, place.stream, start, deadline=deadline)
            if following is None:
                return tail
            tail.append(following)

    async def _sessions_in(self, partition: int, tenant: TenantId, deadline: float) -> list[SessionId]:
        sessions: list[SessionId] = []
        offset = total = 0
        while offset == 0 or offset < total:
            question = {"subjects_filter": tenant_filter(tenant, partition), "offset": offset}
            answer = await ask(self._connection, f"STREAM.INFO.{log_stream(partition)}", question, deadline=deadline)
            subjects = answer["state"].get("subjects") or {}
            if not subjects:
                break
            sessions += [split_subject(subject)[1].session for subject in subjects]
            offset, total = offset + len(subjects), int(answer.get("total", 0))
        return sessions

    def _place(self, key: SessionKey) -> _Place:
        partition = partition_of(key, self._partitions)
        return _Place(log_stream(partition), log_subject(key, partition), self._rooms[partition])


def _nothing_new(key: SessionKey, newest: Stored | None, after_revision: int) -> list[Record]:
    """Return no records: the reader has all. Raises SessionGone when the reader has some that the log has no more."""
    if after_revision != (newest.sequence if newest is not None else 0):
        raise SessionGone(key)
    return []
