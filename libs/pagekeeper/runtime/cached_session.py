"""A session as a replica of a service holds it: the fold, how current it is, and the requests that led to it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf
from typing import Final

from pagekeeper.core.bookkeeping import Operation
from pagekeeper.core.errors import LogUnavailable
from pagekeeper.core.session import Session
from pagekeeper.runtime.log.port import Feed
from pagekeeper.runtime.request_memory import ArchivedRequests, ReadSegment, archived_operation, check_remembered

NEVER: Final = -inf


class CachedSession:
    """A cached session.

    `current_at` is a time at which the copy was all that the log had, NEVER when none is known. The time is worth
    something while `feed`, on which the session is watched, is the one that is followed.
    """

    __slots__ = (
        "_archived",
        "_lock",
        "_tail",
        "_unanswered",
        "current_at",
        "feed",
        "heard_revision",
        "session",
        "tail_bytes",
        "tail_records",
    )

    def __init__(self) -> None:
        self.session = Session()
        self._lock = asyncio.Lock()
        self._unanswered: LogUnavailable | None = None
        """How the last turn failed, when the log did not answer it."""
        self.heard_revision = 0
        self.current_at = NEVER
        self.feed: Feed | None = None
        self._archived = ArchivedRequests()
        self._tail: dict[str, Operation] = {}
        """The requests of the records since the last snapshot, of which the archive has none yet."""
        self.tail_records = 0
        self.tail_bytes = 0

    def hears_all(self, followed: Feed | None) -> bool:
        """Whether the copy was current once, and would have been told since that it is so no longer."""
        return (
            followed is not None
            and self.feed is followed
            and self.current_at != NEVER
            and self.session.revision >= self.heard_revision
        )

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Hold the session's lock for the block.

        Raises LogUnavailable to who waited for a turn that the log did not answer: that wait was a wait for the log.
        Callers that each waited for the log in a turn of their own would wait in sum, beyond their deadlines, and
        would hear of the deadline instead of the log.
        """
        waits = self._lock.locked()
        async with self._lock:
            if waits and self._unanswered is not None:
                raise LogUnavailable(self._unanswered.message) from self._unanswered
            self._unanswered = None
            try:
                yield
            except LogUnavailable as unanswered:
                self._unanswered = unanswered
                raise

    def note_tail(self, operation_id: str, size_bytes: int) -> None:
        """A record was folded, which this request wrote."""
        self._tail[operation_id] = self.session.operations[operation_id]
        self.tail_records += 1
        self.tail_bytes += size_bytes

    def begin_tail(self, *, founded: bool) -> None:
        """A snapshot was folded: it moved the tail to the archive, or founded the session."""
        self._tail = dict(self.session.operations) if founded else {}
        self.tail_records = self.tail_bytes = 0

    async def operation(self, operation_id: str, read: ReadSegment) -> Operation | None:
        """The request when it was carried out; `read` reads a segment of the archive. Raises OutcomeUnknown."""
        archive = self.session.archive
        found = self.session.operations.get(operation_id) or self._tail.get(operation_id)
        if found is None and self._archived.may_hold(archive, operation_id):
            found = await archived_operation(read, archive, operation_id)
        if found is None:
            check_remembered(archive, operation_id)
        return found
