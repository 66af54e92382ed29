"""Requests that a session carried out before its snapshots, found again in its archive.

A state remembers the session's last requests itself, and `Sessions` those of the log's tail. Older requests are in
archive segments, beside what they wrote. Each segment in the state carries a hash of 4 bytes of each of its requests,
as long as `pagekeeper.core.bookkeeping` keeps them. An id whose hash no segment carries was not carried out. For an id
whose hash a segment carries, the segment's records are read, and tell.

Never: an answer that a request is new when nothing tells. Then OutcomeUnknown says so.
"""

import re
import sys
from array import array
from bisect import bisect_left
from collections.abc import Awaitable, Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Final

from pagekeeper.core.bookkeeping import REQUEST_HASH_BYTES, Operation, forgotten_until_unix_ms
from pagekeeper.core.errors import OutcomeUnknown, PagekeeperError
from pagekeeper.core.events import ArchiveSegment
from pagekeeper.v1 import event_pb2

ReadSegment = Callable[[ArchiveSegment], Awaitable[bytes]]
"""Reads the verified bytes of a segment. Raises StoreUnavailable, ContentCorrupt."""
_UUID_7: Final = re.compile(
    r"([0-9a-fA-F]{8})-?([0-9a-fA-F]{4})-?7[0-9a-fA-F]{3}-?[89abAB][0-9a-fA-F]{3}-?[0-9a-fA-F]{12}"
)
"""RFC 9562, 5.7: the first 48 bits are milliseconds since 1970."""
MADE_EARLIER_MS_MAX: Final = 365 * 24 * 3_600_000
"""An id that only looks like UUIDv7 tells any time from 1970 to the year 10889; a time further back is none."""


def request_hashes(records: Iterable[event_pb2.LogRecord]) -> bytes:
    """The hashes of the requests that wrote these records, in order."""
    return b"".join(_hash(operation_id) for operation_id in map(_operation_id, records) if operation_id)


def made_unix_ms(request_id: str) -> int | None:
    """When a request id was made, if the id tells: UUIDv7, with or without dashes."""
    match = _UUID_7.fullmatch(request_id)
    return int(match[1] + match[2], 16) if match else None


class ArchivedRequests:
    """The requests of one session's archive: the hashes of the archive that was asked about last, sorted."""

    def __init__(self) -> None:
        self._hashes = array("I")
        self._last_revision = 0

    def may_hold(self, archive: Sequence[ArchiveSegment], operation_id: str) -> bool:
        """False when the archive, as far as it is remembered, has no such request for sure."""
        if not archive:
            return False
        if archive[-1].last_revision != self._last_revision:
            hashes = array("I", b"".join(segment.request_hashes for segment in archive))
            self._hashes = array("I", sorted(hashes))
            self._last_revision = archive[-1].last_revision
        number = int.from_bytes(_hash(operation_id), sys.byteorder)
        place = bisect_left(self._hashes, number)
        return place < len(self._hashes) and self._hashes[place] == number


async def archived_operation(
    read: ReadSegment, archive: Sequence[ArchiveSegment], operation_id: str
) -> Operation | None:
    """The request, when a segment holds it. Raises OutcomeUnknown when a segment cannot be read."""
    wanted = _hash(operation_id)
    for segment in reversed(archive):
        if wanted not in segment.request_hashes:
            continue
        try:
            data = await read(segment)
        except PagekeeperError as failure:
            problem = f"revisions {segment.first_revision} to {segment.last_revision} cannot be read"
            raise OutcomeUnknown(operation_id, problem) from failure
        for archived in event_pb2.ArchivedHistory.FromString(data).records:
            if _operation_id(archived.record) != operation_id:
                continue
            record = archived.record
            wrote = record.transaction if record.HasField("transaction") else record.snapshot
            return Operation(operation_id, wrote.request_digest, archived.revision)
    return None


def check_remembered(archive: Sequence[ArchiveSegment], operation_id: str) -> None:
    """Raises OutcomeUnknown for an id that was made before the oldest request that is remembered."""
    made = made_unix_ms(operation_id)
    if made is None:
        return
    forgotten_until = forgotten_until_unix_ms(archive)
    if made <= forgotten_until < made + MADE_EARLIER_MS_MAX:
        problem = (
            f"the id tells that it was made {(forgotten_until - made) // 1_000:,} s before the oldest request that is "
            "remembered; a request that is new takes an id of a clock that is right, or one that tells no time"
        )
        raise OutcomeUnknown(operation_id, problem)


def _operation_id(record: event_pb2.LogRecord) -> str:
    """The request that wrote a record; empty for a snapshot that only folded what was there."""
    if record.HasField("transaction"):
        return record.transaction.operation_id
    return "" if record.snapshot.folded_revision else record.snapshot.operation_id


def _hash(operation_id: str) -> bytes:
    return blake2b(operation_id.encode(), digest_size=REQUEST_HASH_BYTES).digest()
