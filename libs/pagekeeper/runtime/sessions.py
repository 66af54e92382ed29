"""Folded sessions, kept current with the log: the only way in which a service reads or changes a session.

A cached session is a hint; the log is the truth. A change is decided on the cached state and appended on the condition
that the log has not moved on. When the log has moved on, the tail is read and the change is decided again. A stale
replica can therefore answer an old state, and can never write on one.

A replica hears of the sessions that it caches and of no others. A session is watched before the strict read that makes
its copy current, and until the copy is dropped. When the connection that notices come by is lost, no copy counts as
current before its next strict read.

Access rules:
1. A cached `Session` is mutated only while its entry's lock is held, and between two awaits: a reader that does not
   await sees one revision.
2. `read` answers a state at least as new as `min_revision`, as new as every notice that has arrived, and as new as the
   log was UNHEARD_SECONDS_MAX ago: notices get lost.
3. `commit` raises a refusal, or answers that nothing has to happen, only after the decision was made on a state that
   the log's leader confirmed. A stale cache must not answer "not found" for a page that another replica has just made,
   nor "pinned already" for a page that another replica has just unpinned.
4. The folded bytes are the bytes in the log. The log's own repetition of an append recognises only the same bytes. A
   request that another replica carried out meanwhile, at another time of its clock, is therefore a lost race here, and
   the fold finds the request by its id.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol, TypeVar

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.bookkeeping import Operation
from pagekeeper.core.effects import RecordedEffect
from pagekeeper.core.errors import (
    LogUnavailable,
    PagekeeperError,
    ReleaseTooOld,
    RequestIdReused,
    RevisionConflict,
    RevisionNotFound,
)
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.lru import Lru
from pagekeeper.core.pages import Extent
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.runtime.cached_session import NEVER, CachedSession
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.log import port as logs
from pagekeeper.runtime.log.port import Record, SessionLog
from pagekeeper.runtime.session_records import (
    as_events,
    begins,
    decode_snapshot,
    from_log,
    name_of_bytes,
    snapshot_record,
)
from pagekeeper.v1 import event_pb2

ATTEMPTS_MAX: Final = 16
"""Lost races before a commit gives up. With N writers a round has one winner, so N rounds serve all of them."""
SESSIONS_CACHED_MAX: Final = 4096
"""Warm sessions of a replica. At 1 to 2 MB for a long one this bounds memory; the log has all of them."""
STATE_INLINE_BYTES_MAX: Final = 256 * 1024
"""A larger compressed state becomes an object, to keep the log's messages far below their limit of 1 MiB."""
STATE_BYTES_AT_ONCE: Final = 32 * 1024
"""A larger compressed state, of some hundred pages, is decoded in a thread: everybody else is served meanwhile."""
FOLLOW_RETRY_SECONDS: Final = 0.5

Decide = Callable[[Session], Sequence[ev.Event] | ev.Event | None]
Pack = Callable[[Session, Sequence[Record]], Awaitable[event_pb2.Snapshot | None]]
"""Makes the snapshot that replaces these records, of which the session is the fold; None leaves them as they are."""


T = TypeVar("T")


class BlobReader(Protocol):
    """Reads verified bytes of the object store. Raises StoreUnavailable, ContentCorrupt, PageNotFound."""

    async def read_blob(self, key: SessionKey, extent: Extent, digest: bytes) -> bytes: ...


class Read(Protocol):
    """A request that reads one session. How new the answer must be: both hold, `strict` and `min_revision`."""

    min_revision: int
    strict: bool


class Room(Enum):
    """The room of the log that a change takes. A TOMBSTONE replaces all records of its session, and is the last one."""

    COMMON = "all but the reserve"
    RESERVE = "any, since the log can become shorter after the change"
    TOMBSTONE = "any, since the log becomes shorter"


@dataclass(frozen=True, slots=True)
class Request:
    """The request that a commit carries out: its id, and a digest that tells another body apart."""

    operation_id: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class Committed:
    """A commit's outcome. `session` is the state at the end of it; it moves on when the caller next awaits.

    `repeated` says that this very request was carried out before, at `revision`.
    """

    session: Session
    revision: int
    previous_revision: int
    effects: Sequence[RecordedEffect]
    repeated: bool


@dataclass(frozen=True, slots=True)
class RolledUp:
    """A rollup's outcome: the session's revision and the number of replaced records, 0 when no rollup was needed."""

    revision: int
    replaced_records: int
    snapshot: event_pb2.Snapshot | None


class Sessions:
    def __init__(self, log: SessionLog, blobs: BlobReader, clock: Clock, cached_max: int = SESSIONS_CACHED_MAX) -> None:
        self._log = log
        self._blobs = blobs
        self._clock = clock
        self._entries: Lru[SessionKey, CachedSession] = Lru(count_max=cached_max, on_forgotten=self._unwatch)
        self._feed: logs.Feed | None = None

    # Reading

    async def read(self, key: SessionKey, *, min_revision: int = 0, strict: bool = False) -> Session:
        """The session, possibly one that does not exist (`exists` is False).

        Raises RevisionNotFound when the log has not reached `min_revision`, LogUnavailable, StoreUnavailable.
        """
        entry = self._entry(key)
        if strict or not self._is_current(entry, min_revision):
            async with entry.turn():
                if strict or not self._is_current(entry, min_revision):
                    await self._catch_up(key, entry, strict=strict)
                if entry.session.revision < max(min_revision, entry.heard_revision):
                    await self._catch_up(key, entry, strict=True)
        if entry.session.revision < min_revision:
            raise RevisionNotFound(f"min_revision {min_revision}", entry.session.revision)
        return entry.session

    async def read_existing(self, key: SessionKey, *, min_revision: int = 0, strict: bool = False) -> Session:
        """The session. Raises SessionNotFound, once the log's leader has confirmed it, and what `read` raises."""
        session = await self.read(key, min_revision=min_revision, strict=strict)
        if not session.exists and not strict:
            session = await self.read(key, strict=True)
        return decisions.readable(session, key.session)

    async def read_for(self, key: SessionKey, request: Read) -> Session:
        """The session, as new as a request asks for. Raises what `read_existing` raises."""
        return await self.read_existing(key, min_revision=request.min_revision, strict=request.strict)

    def tail(self, key: SessionKey) -> tuple[int, int]:
        """Records and bytes that a cold replica has to fold after the snapshot; as this replica knows it."""
        entry = self._entry(key)
        return entry.tail_records, entry.tail_bytes

    async def carried_out(self, key: SessionKey, request: Request, *, strict: bool = False) -> bool:
        """Whether this very request was carried out before; `strict` asks the log's leader. Raises as `commit` does."""
        await self.read(key, strict=strict)
        entry = self._entry(key)
        async with entry.turn():
            return await self._earlier(key, entry, request) is not None

    async def _earlier(self, key: SessionKey, entry: CachedSession, request: Request) -> Operation | None:
        """The operation when this very request was carried out before. Raises RequestIdReused, OutcomeUnknown."""
        earlier = await entry.operation(
            request.operation_id, lambda segment: self._blobs.read_blob(key, segment.extent, segment.digest)
        )
        if earlier is not None and earlier.request_digest != request.digest:
            raise RequestIdReused(request.operation_id)
        return earlier

    # Changing

    async def commit(
        self,
        key: SessionKey,
        request: Request,
        decide: Decide,
        *,
        touches: tuple[str, ...] | None = (),
        room: Room = Room.COMMON,
    ) -> Committed:
        """Carry out a request once: decide, append, fold.

        `decide` may run several times and must be pure. None or no events means that nothing has to happen.
        Raises what `decide` raises, RequestIdReused, OutcomeUnknown, RevisionConflict when too many others write,
        LogFull, LogUnavailable (not definite: a retry with the same request finds out).
        """
        entry = self._entry(key)
        async with entry.turn():
            if not entry.hears_all(self._feed):
                await self._catch_up(key, entry, strict=False)
            confirmed = False
            for _ in range(ATTEMPTS_MAX):
                session = entry.session
                try:
                    earlier = await self._earlier(key, entry, request)
                    if earlier is not None:
                        return _repeated(session, earlier)
                    events = as_events(decide(session))
                except PagekeeperError:
                    if confirmed:
                        raise
                    events = ()
                if not events and confirmed:
                    return Committed(session, session.revision, session.revision, (), repeated=False)
                if not events:
                    await self._catch_up(key, entry, strict=True)
                    confirmed = True
                    continue
                transaction = decisions.transaction(
                    session, request.operation_id, request.digest, self._clock.now_ms(), events
                )
                data = codec.encode_transaction(transaction)
                revision = await self._append(key, entry, request.operation_id, data, touches, room)
                if revision is None:
                    confirmed = True
                    continue
                previous = session.revision
                if room is Room.TOMBSTONE:
                    session = entry.session = Session()
                effects = session.apply(revision, transaction)
                entry.note_tail(transaction.operation_id, len(data))
                return Committed(session, revision, previous, effects, repeated=False)
            raise RevisionConflict(entry.session.revision, entry.session.revision)

    async def create_from_snapshot(self, key: SessionKey, request: Request, packed: event_pb2.Snapshot) -> Committed:
        """Begin a session with the state in `packed`: a fork. Raises SessionExists, RequestIdReused and as `commit`."""
        entry = self._entry(key)
        snapshot = event_pb2.Snapshot()
        snapshot.CopyFrom(packed)
        snapshot.operation_id, snapshot.request_digest = request.operation_id, request.digest
        snapshot.written_unix_ms = self._clock.now_ms()
        data = snapshot_record(snapshot)
        async with entry.turn():
            for _ in range(ATTEMPTS_MAX):
                await self._catch_up(key, entry, strict=True)
                earlier = await self._earlier(key, entry, request)
                if earlier is not None:
                    return _repeated(entry.session, earlier)
                decisions.absent(entry.session, key.session)
                revision = await self._append(key, entry, request.operation_id, data, None, Room.COMMON)
                if revision is not None:
                    await self._fold(key, entry, [Record(revision, request.operation_id, data, rollup=False)])
                    return Committed(entry.session, revision, 0, (), repeated=False)
            raise RevisionConflict(0, entry.session.revision)

    async def roll_up(self, key: SessionKey, operation_id: str, pack: Pack) -> RolledUp:
        """Replace a session's records by a snapshot. Every other writer of this replica waits meanwhile.

        `pack` may run several times: when another replica writes, its snapshot is worthless and is made again.
        Raises what `pack` raises, SessionNotFound, RevisionConflict when the others never pause, LogFull,
        LogUnavailable.
        """
        entry = self._entry(key)
        async with entry.turn():
            for _ in range(ATTEMPTS_MAX):
                records = await _about(entry, self._log.read(key, strict=True))
                if not records:
                    entry.session = Session()
                await self._fold(key, entry, [r for r in records if r.revision > entry.session.revision])
                session = decisions.readable(entry.session, key.session)
                snapshot = await pack(session, records)
                if snapshot is None:
                    return RolledUp(session.revision, 0, None)
                snapshot.operation_id, snapshot.written_unix_ms = operation_id, self._clock.now_ms()
                data = snapshot_record(snapshot)
                try:
                    revision = await _about(
                        entry,
                        self._log.rollup(
                            key,
                            expected_revision=session.revision,
                            operation_id=name_of_bytes(operation_id, data),
                            data=data,
                        ),
                    )
                except logs.AppendConflict:
                    continue
                await self._fold(key, entry, [Record(revision, operation_id, data, rollup=True)])
                return RolledUp(revision, len(records), snapshot)
            raise RevisionConflict(entry.session.revision, entry.session.revision)

    async def _append(
        self,
        key: SessionKey,
        entry: CachedSession,
        operation_id: str,
        data: bytes,
        touches: tuple[str, ...] | None,
        room: Room,
    ) -> int | None:
        """The revision of the record; None when another writer came first, whose records are then folded."""
        expected, name = entry.session.revision, name_of_bytes(operation_id, data)
        began, hears_all = self._clock.monotonic(), entry.hears_all(self._feed)
        if room is Room.TOMBSTONE:
            appended = self._log.bury(key, expected_revision=expected, operation_id=name, data=data)
        else:
            spare = room is Room.RESERVE
            appended = self._log.append(
                key, expected_revision=expected, operation_id=name, data=data, touches=touches, from_reserve=spare
            )
        try:
            revision = await _about(entry, appended)
        except logs.AppendConflict:
            await self._catch_up(key, entry, strict=True)
            return None
        if hears_all:
            # Nothing had come between.
            entry.current_at = max(began, entry.current_at)
        return revision

    # Following

    async def follow_log(self) -> None:
        """Hear of what is appended to the sessions cached here, until cancelled.

        While nothing is heard each read asks the log itself.
        """
        while True:
            try:
                async with self._log.follow() as feed:
                    self._feed = feed
                    async for notice in feed:
                        heard = self._entries.peek(notice.key)
                        if heard is not None:
                            heard.heard_revision = max(heard.heard_revision, notice.revision)
            except logs.NoAnswer:
                await asyncio.sleep(FOLLOW_RETRY_SECONDS)
            finally:
                self._feed = None

    def _watch(self, key: SessionKey, entry: CachedSession) -> logs.Feed | None:
        """Hear of a session from now on. Return the feed that will tell; None when nothing is heard."""
        feed = self._feed
        if feed is None or self._entries.peek(key) is not entry:
            return None
        if entry.feed is not feed:
            feed.watch(key)
            entry.feed, entry.current_at = feed, NEVER
        return feed

    def _unwatch(self, key: SessionKey) -> None:
        if self._feed is not None:
            self._feed.unwatch(key)

    # Folding

    def _entry(self, key: SessionKey) -> CachedSession:
        entry = self._entries.get(key)
        if entry is None:
            entry = CachedSession()
            self._entries.put(key, entry)
        return entry

    def _is_current(self, entry: CachedSession, min_revision: int) -> bool:
        recently = self._clock.monotonic() - entry.current_at < logs.UNHEARD_SECONDS_MAX
        return recently and entry.hears_all(self._feed) and entry.session.revision >= min_revision

    async def _catch_up(self, key: SessionKey, entry: CachedSession, *, strict: bool) -> None:
        """Read the tail, from the leader where no notice told all that the copy lacks."""
        began = self._clock.monotonic()
        feed = self._watch(key, entry)
        strict = strict or feed is None or began - entry.current_at >= logs.UNHEARD_SECONDS_MAX
        try:
            records = await _about(entry, self._log.read(key, after_revision=entry.session.revision, strict=strict))
        except logs.SessionGone:
            entry.session, entry.heard_revision, strict = Session(), 0, True
            records = await _about(entry, self._log.read(key, strict=True))
        await self._fold(key, entry, records)
        if strict and feed is not None and feed is self._feed:
            entry.current_at = began

    async def _fold(self, key: SessionKey, entry: CachedSession, records: Sequence[Record]) -> None:
        for record in records:
            message = event_pb2.LogRecord.FromString(record.data)
            if message.HasField("transaction"):
                if record.rollup or begins(message.transaction):
                    entry.session = Session()
                entry.session.apply(record.revision, codec.decode_transaction(message.transaction))
                entry.note_tail(message.transaction.operation_id, len(record.data))
                continue
            if not message.HasField("snapshot"):
                raise ReleaseTooOld("a record of another kind", "transactions and snapshots")
            snapshot = message.snapshot
            if snapshot.folded_revision and snapshot.folded_revision == entry.session.revision:
                entry.session.roll_up(record.revision, codec.decode_archive_segment(snapshot.archived))
            else:
                entry.session = await self.unpack(key, record.revision, snapshot)
            entry.begin_tail(founded=not snapshot.folded_revision)

    async def unpack(self, key: SessionKey, revision: int, snapshot: event_pb2.Snapshot) -> Session:
        """The state that a snapshot holds, as of its own revision. Raises ContentCorrupt, StoreUnavailable."""
        if snapshot.WhichOneof("state") == "inline":
            data = snapshot.inline
        else:
            extent = Extent(snapshot.extent.object_key, snapshot.extent.offset, snapshot.extent.length)
            data = await self._blobs.read_blob(key, extent, snapshot.extent_digest)
        if len(data) < STATE_BYTES_AT_ONCE:
            session = decode_snapshot(data, snapshot.state_digest, revision)
        else:
            session = await asyncio.to_thread(decode_snapshot, data, snapshot.state_digest, revision)
        if snapshot.folded_revision:
            session.roll_up(revision, codec.decode_archive_segment(snapshot.archived))
        else:
            operation = Operation(snapshot.operation_id, snapshot.request_digest, revision)
            session.operations = {operation.operation_id: operation}
        return session


def _repeated(session: Session, earlier: Operation) -> Committed:
    return Committed(session, earlier.revision, earlier.revision, (), repeated=True)


async def _about(entry: CachedSession, asked: Coroutine[Any, Any, T]) -> T:
    """`from_log` for one session, whose copy here counts no longer when an append may have happened, or may yet."""
    try:
        return await from_log(asked)
    except LogUnavailable:
        entry.current_at = NEVER
        raise
