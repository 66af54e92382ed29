"""Snapshots: a session's log, replaced by its fold.

Snapshots are the second half of write-back: `Snapshots.work` flushes a session whose log has grown, then snapshots it.
`Snapshots.thin` does the same for a session of a partition that fills, and puts the state into the object store too,
however small: what stays in the log is one record that names it.

The records go to the object store first, then the rollup replaces them: a crash in between leaves an object that
nothing refers to, and the log as it was. No part of history is in a state alone.
"""

import asyncio
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

from pagekeeper.core import events as ev
from pagekeeper.core.errors import SessionNotFound
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.session import Session
from pagekeeper.page_table.write_back import WriteBack, dirty_bytes
from pagekeeper.runtime import codec
from pagekeeper.runtime.artifacts import ArtifactPort, put
from pagekeeper.runtime.extents import extent_message
from pagekeeper.runtime.history import archived_record
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.log.port import Record, SessionLog
from pagekeeper.runtime.log.subjects import partition_of
from pagekeeper.runtime.queue.port import WorkItem
from pagekeeper.runtime.request_memory import request_hashes
from pagekeeper.runtime.session_records import from_log
from pagekeeper.runtime.sessions import STATE_INLINE_BYTES_MAX, Request, Room, Sessions
from pagekeeper.runtime.work import platform_caller
from pagekeeper.v1 import event_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb

TAIL_RECORDS_MIN: Final = 2
"""Fewer are not worth a snapshot, which is itself a record."""
DIRTY_BYTES_MAX: Final = 64 * 1024
"""More bytes than this, appended since the last write-back, are flushed first: contents belong neither into a state nor
into an archive, and pages that stay dirty wait for the next snapshot."""
THIN_STATE_BYTES_MAX: Final = 512
"""Of a thin log's state. The place of an object, with its digest, takes some 200 bytes."""
FILL_MAX: Final = 0.75
"""The share of a partition's room from which on sessions are thinned."""
OPERATION: Final = "snapshot"


class Snapshots:
    def __init__(self, log: SessionLog, sessions: Sessions, artifacts: ArtifactPort, write_back: WriteBack) -> None:
        self._log = log
        self._sessions = sessions
        self._artifacts = artifacts
        self._write_back = write_back

    async def snapshot_session(
        self, caller: Caller, request: table_pb.SnapshotSessionRequest
    ) -> table_pb.SnapshotSessionResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_existing(key)
        if dirty_bytes(session) > DIRTY_BYTES_MAX:
            flush = pb.FlushSessionRequest(session_id=key.session, min_revision=session.revision)
            await self._write_back.flush_session(caller, flush)
        return await self._roll_up(caller, key, TAIL_RECORDS_MIN, STATE_INLINE_BYTES_MAX)

    async def flush_session(self, caller: Caller, request: pb.FlushSessionRequest) -> pb.FlushSessionResponse:
        """Place what is dirty. In a partition that is nearly full the records leave the log as well.

        Raises what `WriteBack.flush_session` raises.
        """
        flushed = await self._write_back.flush_session(caller, request)
        key = session_key(caller.tenant, request.session_id)
        if await from_log(self._log.fill(partition_of(key, self._log.partitions))) >= FILL_MAX:
            thinned = await self._roll_up(caller, key, TAIL_RECORDS_MIN, THIN_STATE_BYTES_MAX)
            flushed.revision = max(flushed.revision, thinned.revision)
        return flushed

    async def _roll_up(
        self, caller: Caller, key: SessionKey, records_min: int, inline_bytes_max: int
    ) -> table_pb.SnapshotSessionResponse:
        """Replace a log by its fold, if the log has so many records besides a snapshot, or a state too large for it."""
        state_bytes = 0

        async def pack(session: Session, records: Sequence[Record]) -> event_pb2.Snapshot | None:
            nonlocal state_bytes
            messages = [(record.revision, event_pb2.LogRecord.FromString(record.data)) for record in records]
            first = messages[0][1]
            if (
                len(messages) - first.HasField("snapshot") < records_min
                and len(first.snapshot.inline) <= inline_bytes_max
            ):
                return None
            segment = await archive(self._artifacts, caller, key, session, messages)
            # In a thread, because a large state takes long. Nobody changes the session: its writers wait.
            state = await asyncio.to_thread(codec.encode_state, session)
            state_bytes = len(state)
            snapshot = await packed_state(self._artifacts, caller, key, state, inline_bytes_max)
            snapshot.folded_revision = session.revision
            snapshot.archived.CopyFrom(codec.encode_archive_segment(segment))
            return snapshot

        rolled_up = await self._sessions.roll_up(key, OPERATION, pack)
        return table_pb.SnapshotSessionResponse(
            revision=rolled_up.revision, replaced_records=rolled_up.replaced_records, state_bytes=state_bytes
        )

    async def work(self, item: WorkItem) -> None:
        """Handle a piece of `writeback` work: flush, then snapshot. A session that was deleted meanwhile needs neither.

        Every step may be done again: what was placed is not dirty any more, and a log that is short is left alone.
        """
        caller = platform_caller(item.key)
        try:
            await self._write_back.flush_session(caller, pb.FlushSessionRequest(session_id=item.key.session))
            await self.snapshot_session(caller, table_pb.SnapshotSessionRequest(session_id=item.key.session))
        except SessionNotFound:
            return

    async def thin(self, item: WorkItem) -> None:
        """Handle a piece of `thin` work. A session that an earlier release deleted gets its tombstone here."""
        caller, key = platform_caller(item.key), item.key
        try:
            await self._write_back.flush_session(caller, pb.FlushSessionRequest(session_id=key.session))
            await self._roll_up(caller, key, 1, THIN_STATE_BYTES_MAX)
        except SessionNotFound:
            await self._sessions.commit(key, Request("bury", b""), _deleted, room=Room.TOMBSTONE)


def _deleted(session: Session) -> ev.SessionDeleted | None:
    """The tombstone of a session that was deleted and has other records still; None when it has its tombstone."""
    return ev.SessionDeleted() if len(session.operations) > 1 else None


async def archive(
    artifacts: ArtifactPort,
    caller: Caller,
    key: SessionKey,
    session: Session,
    messages: Sequence[tuple[int, event_pb2.LogRecord]],
) -> ev.ArchiveSegment:
    """Store the records that a snapshot of `session`, their fold, will replace. Raises StoreUnavailable."""
    archived = event_pb2.ArchivedHistory(
        records=[
            event_pb2.ArchivedRecord(revision=revision, record=archived_record(session, message))
            for revision, message in messages
        ]
    )
    data = archived.SerializeToString(deterministic=True)
    [extent] = await put(artifacts, caller, key, "history", [data])
    return ev.ArchiveSegment(
        first_revision=messages[0][0],
        last_revision=messages[-1][0],
        last_turn=session.turn,
        extent=extent,
        digest=sha256(data).digest(),
        request_hashes=request_hashes(message for _, message in messages),
        last_written_unix_ms=_written_unix_ms(messages[-1][1]),
    )


def _written_unix_ms(record: event_pb2.LogRecord) -> int:
    return (record.transaction if record.HasField("transaction") else record.snapshot).written_unix_ms


async def packed_state(
    artifacts: ArtifactPort,
    caller: Caller,
    key: SessionKey,
    state: bytes,
    inline_bytes_max: int = STATE_INLINE_BYTES_MAX,
) -> event_pb2.Snapshot:
    """A snapshot with nothing but the state in it: inline, or as an object when it is large."""
    packed = await asyncio.to_thread(codec.compress_state, state)
    snapshot = event_pb2.Snapshot(state_digest=sha256(state).digest())
    if len(packed) <= inline_bytes_max:
        snapshot.inline = packed
    else:
        [extent] = await put(artifacts, caller, key, "state", [packed])
        snapshot.extent.CopyFrom(extent_message(extent))
        snapshot.extent_digest = sha256(packed).digest()
    return snapshot
