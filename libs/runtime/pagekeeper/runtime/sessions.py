"""Folded sessions, kept current with the log: the only way in which a service reads or changes one.

A cached session is a hint; the log is the truth. A change is decided on the cached state and appended on the condition
that the log has not moved on; when it has, the tail is read and the change is decided again. So a stale replica can
answer an old state, never write on one.

Access rules:
1. A cached `Session` is mutated only while its entry's lock is held, and between two awaits: a reader that does not
   await sees one revision.
2. `read` answers a state at least as new as `min_revision`, and as new as every notice that has arrived.
3. `commit` raises a refusal only after it was decided on a state that the log's leader confirmed: a stale cache must
   not answer "not found" for what another replica has just made.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from pagekeeper.memory import decisions
from pagekeeper.memory import events as ev
from pagekeeper.memory.errors import ContentCorrupt, PagekeeperError, RevisionConflict, RevisionNotFound
from pagekeeper.memory.happenings import Happening
from pagekeeper.memory.ids import SessionKey
from pagekeeper.memory.pages import Extent
from pagekeeper.memory.session import Operation, Session
from pagekeeper.runtime import codec
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.log import port as logs
from pagekeeper.runtime.log.port import Record, SessionLog
from pagekeeper.v1 import event_pb2

ATTEMPTS_MAX: Final = 16
"""Lost races before a commit gives up. With N writers a round has one winner, so N rounds serve all of them."""
SESSIONS_CACHED_MAX: Final = 4096
"""Warm sessions of a replica. At 1 to 2 MB for a long one this bounds memory; the log has all of them."""
STATE_INLINE_BYTES_MAX: Final = 256 * 1024
"""A larger compressed state becomes an object, to keep the log's messages far below their limit of 1 MiB."""

FOLLOW_RETRY_SECONDS: Final = 0.5

Decide = Callable[[Session], Sequence[ev.Event] | ev.Event | None]


class BlobReader(Protocol):
    """Reads verified bytes of the object store. Raises StoreUnavailable, ContentCorrupt, PageNotFound."""

    async def read_blob(self, key: SessionKey, extent: Extent, digest: bytes) -> bytes: ...


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
    happenings: Sequence[Happening]
    repeated: bool


class _Entry:
    """A cached session: current when it was `confirmed` since the feed went live and no notice since is newer."""

    __slots__ = ("confirmed", "heard_revision", "lock", "session", "tail_bytes", "tail_records")

    def __init__(self) -> None:
        self.session = Session()
        self.lock = asyncio.Lock()
        self.heard_revision = 0
        self.confirmed = False
        self.tail_records = 0
        self.tail_bytes = 0


class Sessions:
    def __init__(self, log: SessionLog, blobs: BlobReader, clock: Clock, cached_max: int = SESSIONS_CACHED_MAX) -> None:
        self._log = log
        self._blobs = blobs
        self._clock = clock
        self._cached_max = cached_max
        self._entries: OrderedDict[SessionKey, _Entry] = OrderedDict()
        self._feed_is_live = False

    # Reading

    async def read(self, key: SessionKey, *, min_revision: int = 0, strict: bool = False) -> Session:
        """The session, possibly one that does not exist (`exists` is False).

        Raises RevisionNotFound when the log has not reached `min_revision`, LogUnavailable, StoreUnavailable.
        """
        entry = self._entry(key)
        if strict or not self._is_current(entry, min_revision):
            async with entry.lock:
                if strict or not self._is_current(entry, min_revision):
                    await self._catch_up(key, entry, strict=strict)
                if entry.session.revision < min_revision:
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

    def tail(self, key: SessionKey) -> tuple[int, int]:
        """Records and bytes that a cold replica has to fold after the snapshot; as this replica knows it."""
        entry = self._entry(key)
        return entry.tail_records, entry.tail_bytes

    # Changing

    async def commit(
        self, key: SessionKey, request: Request, decide: Decide, *, touches: tuple[str, ...] | None = ()
    ) -> Committed:
        """Carry out a request once: decide, append, fold.

        `decide` may run several times and must be pure. None or no events means that nothing has to happen.
        Raises what `decide` raises, RequestIdReused, RevisionConflict when too many others write, LogFull,
        LogUnavailable (not definite: a retry with the same request finds out).
        """
        entry = self._entry(key)
        async with entry.lock:
            if not self._is_current(entry, 0):
                await self._catch_up(key, entry, strict=False)
            confirmed = False
            for _ in range(ATTEMPTS_MAX):
                session = entry.session
                try:
                    earlier = decisions.earlier_operation(session, request.operation_id, request.digest)
                    if earlier is not None:
                        return _repeated(session, earlier)
                    decided = decide(session)
                except PagekeeperError:
                    if confirmed:
                        raise
                    await self._catch_up(key, entry, strict=True)
                    confirmed = True
                    continue
                events = _as_events(decided)
                if not events:
                    return Committed(session, session.revision, session.revision, (), repeated=False)
                transaction = ev.Transaction(request.operation_id, request.digest, self._clock.now_ms(), events)
                data = codec.encode_transaction(transaction)
                try:
                    revision = await self._log.append(
                        key,
                        expected_revision=session.revision,
                        operation_id=request.operation_id,
                        data=data,
                        touches=touches,
                    )
                except logs.RevisionConflict:
                    await self._catch_up(key, entry, strict=True)
                    confirmed = True
                    continue
                previous = session.revision
                happenings = session.apply(revision, transaction)
                entry.tail_records += 1
                entry.tail_bytes += len(data)
                return Committed(session, revision, previous, happenings, repeated=False)
            raise RevisionConflict(entry.session.revision, entry.session.revision)

    async def found(self, key: SessionKey, request: Request, seed: Session) -> Committed:
        """Begin a session with `seed` as its state: a fork. Raises SessionExists, RequestIdReused and as `commit`."""
        entry = self._entry(key)
        async with entry.lock:
            await self._catch_up(key, entry, strict=True)
            session = entry.session
            earlier = decisions.earlier_operation(session, request.operation_id, request.digest)
            if earlier is not None:
                return _repeated(session, earlier)
            decisions.open_session(session, key.session, seed.config, seed.labels)
            state = codec.encode_state(seed)
            snapshot = event_pb2.Snapshot(
                operation_id=request.operation_id,
                request_digest=request.digest,
                written_unix_ms=self._clock.now_ms(),
                folded_revision=0,
                state_digest=sha256(state).digest(),
                inline=codec.compress_state(state),
            )
            data = event_pb2.LogRecord(snapshot=snapshot).SerializeToString(deterministic=True)
            try:
                revision = await self._log.append(
                    key, expected_revision=0, operation_id=request.operation_id, data=data, touches=None
                )
            except logs.RevisionConflict as conflict:
                raise RevisionConflict(conflict.expected, conflict.actual) from conflict
            record = Record(revision, request.operation_id, data, rollup=False)
            await self._fold(key, entry, [record])
            return Committed(entry.session, revision, 0, (), repeated=False)

    @asynccontextmanager
    async def writing(self, key: SessionKey) -> AsyncIterator[Session]:
        """The session as the log's leader has it, with every other writer of this replica kept out: for snapshots."""
        entry = self._entry(key)
        async with entry.lock:
            await self._catch_up(key, entry, strict=True)
            yield entry.session

    # Following

    async def follow_log(self) -> None:
        """Hear of every append, until cancelled. While the feed is down each read asks the log itself."""
        while True:
            try:
                async with self._log.follow() as feed:
                    for entry in self._entries.values():
                        entry.confirmed = False
                    self._feed_is_live = True
                    async for notice in feed:
                        heard = self._entries.get(notice.key)
                        if heard is not None:
                            heard.heard_revision = max(heard.heard_revision, notice.revision)
            except (logs.LogUnavailable, logs.FeedRewound):
                await asyncio.sleep(FOLLOW_RETRY_SECONDS)
            finally:
                self._feed_is_live = False

    # Folding

    def _entry(self, key: SessionKey) -> _Entry:
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry()
            while len(self._entries) > self._cached_max:
                self._entries.popitem(last=False)
        else:
            self._entries.move_to_end(key)
        return entry

    def _is_current(self, entry: _Entry, min_revision: int) -> bool:
        return (
            self._feed_is_live and entry.confirmed and entry.session.revision >= max(min_revision, entry.heard_revision)
        )

    async def _catch_up(self, key: SessionKey, entry: _Entry, *, strict: bool) -> None:
        """Read the tail. An entry that is not confirmed asks the leader: no notice would tell of what it missed."""
        strict = strict or not entry.confirmed
        feed_was_live = self._feed_is_live
        records = await self._log.read(key, after_revision=entry.session.revision, strict=strict)
        await self._fold(key, entry, records)
        if strict:
            entry.confirmed = feed_was_live and self._feed_is_live

    async def _fold(self, key: SessionKey, entry: _Entry, records: Sequence[Record]) -> None:
        for record in records:
            message = event_pb2.LogRecord.FromString(record.data)
            if message.HasField("transaction"):
                entry.session.apply(record.revision, codec.decode_transaction(message.transaction))
                entry.tail_records += 1
                entry.tail_bytes += len(record.data)
                continue
            snapshot = message.snapshot
            if snapshot.folded_revision and snapshot.folded_revision == entry.session.revision:
                entry.session.roll_up(record.revision, codec.decode_archive_segment(snapshot.archived))
            else:
                entry.session = await self.unpack(key, record.revision, snapshot)
            entry.tail_records = entry.tail_bytes = 0

    async def unpack(self, key: SessionKey, revision: int, snapshot: event_pb2.Snapshot) -> Session:
        """The state that a snapshot holds, as of its own revision. Raises ContentCorrupt, StoreUnavailable."""
        if snapshot.WhichOneof("state") == "inline":
            data = snapshot.inline
        else:
            extent = Extent(snapshot.extent.object_key, snapshot.extent.offset, snapshot.extent.length)
            data = await self._blobs.read_blob(key, extent, snapshot.extent_digest)
        state = codec.decompress_state(data)
        if sha256(state).digest() != snapshot.state_digest:
            raise ContentCorrupt(f"the snapshot at revision {revision} does not match its digest")
        session = codec.decode_state(state, revision)
        if snapshot.folded_revision:
            session.roll_up(revision, codec.decode_archive_segment(snapshot.archived))
        else:
            operation = Operation(snapshot.operation_id, snapshot.request_digest, revision)
            session.operations = {operation.operation_id: operation}
        return session


def _repeated(session: Session, earlier: Operation) -> Committed:
    return Committed(session, earlier.revision, earlier.revision, (), repeated=True)


def _as_events(decided: Sequence[ev.Event] | ev.Event | None) -> tuple[ev.Event, ...]:
    if decided is None:
        return ()
    return tuple(decided) if isinstance(decided, Sequence) else (decided,)
