"""A session as a replica of a service holds it: the fold, how current it is, and the requests that led to it."""

import asyncio

from pagekeeper.core.bookkeeping import Operation
from pagekeeper.core.session import Session
from pagekeeper.runtime.request_memory import ArchivedRequests, ReadSegment, archived_operation, check_remembered


class CachedSession:
    """A cached session: current when it was `confirmed` since the feed went live and no notice since is newer."""

    __slots__ = ("_archived", "_tail", "confirmed", "heard_revision", "lock", "session", "tail_bytes", "tail_records")

    def __init__(self) -> None:
        self.session = Session()
        self.lock = asyncio.Lock()
        self.heard_revision = 0
        self.confirmed = False
        self._archived = ArchivedRequests()
        self._tail: dict[str, Operation] = {}
        """The requests of the records since the last snapshot, of which the archive has none yet."""
        self.tail_records = 0
        self.tail_bytes = 0

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
