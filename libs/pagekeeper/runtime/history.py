"""A session's past: every record of the session, folded again.

Archive segments hold the records that snapshots replaced; the log holds the others. Archives and log join without a
gap, because a snapshot names the segment of the records that it replaced, and the next segment keeps the snapshot.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from pagekeeper.core import events as ev
from pagekeeper.core.effects import RecordedEffect
from pagekeeper.core.errors import ContentCorrupt, RevisionNotFound, SessionNotFound, StoreUnavailable
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.runtime.extents import extent_message
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.session_records import from_log
from pagekeeper.runtime.sessions import BlobReader, Committed, Sessions
from pagekeeper.v1 import event_pb2

RECORDS_AT_ONCE: Final = 64
"""Folded before everybody else is served again."""


@dataclass(frozen=True, slots=True)
class Step:
    """One record of the past, and the state after it. `session` moves on with the next step."""

    revision: int
    transaction: ev.Transaction | None
    effects: list[RecordedEffect]
    session: Session


class History:
    def __init__(self, log: SessionLog, blobs: BlobReader, sessions: Sessions) -> None:
        self._log = log
        self._blobs = blobs
        self._sessions = sessions

    async def records(self, key: SessionKey) -> AsyncIterator[tuple[int, event_pb2.LogRecord]]:
        """Every record with its revision, oldest first. Raises StoreUnavailable, ContentCorrupt, LogUnavailable.

        A snapshot may be taken while the archive is read: then what it replaced is in the next segment.
        """
        reached, needed = 0, 0
        while True:
            session = await self._sessions.read(key, strict=True)
            for segment in [segment for segment in session.archive if segment.last_revision > reached]:
                data = await self._blobs.read_blob(key, segment.extent, segment.digest)
                for archived in event_pb2.ArchivedHistory.FromString(data).records:
                    yield archived.revision, archived.record
                reached = segment.last_revision
            records = await from_log(self._log.read(key, after_revision=reached, strict=True))
            tail = [(record.revision, event_pb2.LogRecord.FromString(record.data)) for record in records]
            if tail and tail[0][1].snapshot.folded_revision > reached:
                if reached < needed:
                    raise ContentCorrupt(f"the history of session {key.session!r} lacks what came after {reached}")
                needed = tail[0][1].snapshot.folded_revision
                continue
            for revision, log_record in tail:
                yield revision, log_record
            return

    async def steps(self, key: SessionKey) -> AsyncIterator[Step]:
        """The fold from the beginning, record by record."""
        session = Session()
        folded = 0
        async for revision, record in self.records(key):
            folded += 1
            if folded % RECORDS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if record.HasField("transaction"):
                transaction = codec.decode_transaction(record.transaction)
                yield Step(revision, transaction, session.apply(revision, transaction), session)
            elif record.snapshot.folded_revision:
                session.roll_up(revision, codec.decode_archive_segment(record.snapshot.archived))
                yield Step(revision, None, [], session)
            else:
                session = await self._sessions.unpack(key, revision, record.snapshot)
                yield Step(revision, None, [], session)

    async def at_revision(self, key: SessionKey, revision: int) -> Session:
        """The state just after `revision`. Raises RevisionNotFound when no record has it."""
        latest = 0
        async for step in self.steps(key):
            latest = step.revision
            if step.revision == revision:
                return step.session
            if step.revision > revision:
                break
        raise RevisionNotFound(f"revision {revision}", latest)

    async def at_turn(self, key: SessionKey, turn: int) -> Session:
        """The state at the end of `turn`. Raises RevisionNotFound when that turn has not begun.

        A batch that holds several turns is one transaction: the end of a turn inside it is the state before it.
        """
        last_revision = latest = reached_turn = 0
        async for step in self.steps(key):
            latest, reached_turn = step.revision, step.session.turn
            if reached_turn <= turn:
                last_revision = step.revision
        if turn > reached_turn or not last_revision:
            raise RevisionNotFound(f"turn {turn}", latest)
        return await self.at_revision(key, last_revision)


async def state_after(history: History, key: SessionKey, committed: Committed) -> Session:
    """The state just after a commit: for a repeated request, what it was when the request was carried out.

    Raises StoreUnavailable, and SessionNotFound when the session has been deleted since the commit.
    """
    if committed.session.revision == committed.revision:
        return committed.session
    try:
        return await history.at_revision(key, committed.revision)
    except ContentCorrupt as corrupt:
        # It has been done, which a definite refusal would deny; the next attempt may read the same bytes as they are.
        raise StoreUnavailable(f"what revision {committed.revision} did cannot be read: {corrupt.message}") from corrupt
    except RevisionNotFound as gone:
        raise SessionNotFound(key.session) from gone


def archived_record(session: Session, record: event_pb2.LogRecord) -> event_pb2.LogRecord:
    """The record as an archive keeps it: bytes that lie in the object store by now are named instead of repeated."""
    kept = event_pb2.LogRecord()
    kept.CopyFrom(record)
    if kept.HasField("snapshot"):
        if kept.snapshot.folded_revision:
            kept.snapshot.ClearField("inline")
            kept.snapshot.ClearField("extent")
        return kept
    for event in kept.transaction.events:
        if event.WhichOneof("kind") == "pages_mapped":
            for page in event.pages_mapped.pages:
                _name_bytes(session, page.page_id, page.version, page.full)
        elif event.WhichOneof("kind") == "representations_added":
            for added in event.representations_added.representations:
                _name_bytes(session, added.page_id, added.version, added.representation)
    return kept


def _name_bytes(session: Session, page_id: str, version: int, stored: event_pb2.StoredRepresentation) -> None:
    representation = session.pages[page_id].versions[version - 1].at(stored.level)
    if stored.HasField("inline") and representation is not None and representation.extent is not None:
        stored.ClearField("inline")
        stored.extent.CopyFrom(extent_message(representation.extent))
