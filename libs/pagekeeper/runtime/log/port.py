"""The port of the session log: the promises of every implementation.

A session's records form one sequence. A record is appended only at the revision that its writer has read. Of two
writers that decided on the same state, exactly one succeeds, whatever happens to messages, connections and servers. The
log carries opaque bytes and never looks inside a record.

Every failure says whether it is definite. `NoAnswer` alone is not: its `maybe_applied` tells whether the append
may still have happened. Repeating the same append, with the same `operation_id` and `expected_revision`, is always safe
and gives the revision of the first append.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Protocol, Self

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import SessionId, SessionKey, TenantId

MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""A whole message, headers included: the default `max_payload` of a NATS server."""

RECORD_BYTES_MAX: Final = MESSAGE_BYTES_MAX - 8 * 1024
"""A record's data. The rest is for headers, whose parts are all bounded below."""

TOUCHES_BYTES_MAX: Final = 4 * 1024
"""Beyond this a notice says "anything may have changed" rather than carry a long list of pages."""

RESERVE_SHARE: Final = 16
RESERVE_BYTES_MIN: Final = 2 * MESSAGE_BYTES_MAX
RESERVE_SHARE_MAX: Final = 4
"""See `reserve_bytes`."""

TOMBSTONE_SECONDS: Final = 24 * 3600
"""How long the last record of a deleted session stands."""
UNHEARD_SECONDS_MAX: Final = 5.0
"""How long a follower may believe that it has heard of everything. Notices get lost, when a server dies between storing
a record and telling of it, or when the follower is slow, and nothing else tells of them."""

APPEND_TIMEOUT_SECONDS: Final = 5.0
READ_TIMEOUT_SECONDS: Final = 5.0
FOLLOW_TIMEOUT_SECONDS: Final = 10.0

SESSIONS_LIMIT_MAX: Final = 1000

_OPERATION_ID: Final = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class Record:
    """One message of a session's log. A `rollup` replaces everything before it."""

    revision: int
    operation_id: str
    data: bytes
    rollup: bool


@dataclass(frozen=True, slots=True)
class Notice:
    """A session moved from one revision to the next.

    `touches` names the pages whose entries changed; `()` means none of them and None means any of them. A follower
    whose state is not at `previous_revision` has missed something of this session and must treat it as None.
    """

    key: SessionKey
    previous_revision: int
    revision: int
    touches: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class OldRecord:
    """A record as a partition keeps it, and whose it is. `size_bytes` is that of its data."""

    key: SessionKey
    revision: int
    size_bytes: int
    rollup: bool


class LogError(Exception):
    """The log did not do what it was asked to."""


class AppendConflict(LogError):
    """A compare-and-append lost its race: the session is at `actual`. Definite, except after a rollup.

    A commit folds what came meanwhile and appends again. A caller hears of a conflict only as `RevisionConflict`.

    `maybe_applied` is True when a rollup has replaced the records after the expected revision. The operation may then
    be among the records that the rollup folded, and only the fold can tell.
    """

    def __init__(self, expected: int, actual: int, *, maybe_applied: bool) -> None:
        super().__init__(f"expected revision {expected}, found {actual}")
        self.expected = expected
        self.actual = actual
        self.maybe_applied = maybe_applied


class NoRoom(LogError):
    """The log has no room left. Definite: nothing was written.

    Passes when an operator gives the log more room, or when sessions are deleted or written back.
    """


class RecordTooLarge(LogError):
    """The record can never be appended. Definite: it was not even sent."""

    def __init__(self, size_bytes: int) -> None:
        super().__init__(f"a record of {size_bytes:,} bytes; at most {RECORD_BYTES_MAX:,} fit")
        self.size_bytes = size_bytes
        self.limit_bytes = RECORD_BYTES_MAX


class NoAnswer(LogError):
    """No answer within the deadline. `maybe_applied` is False when the append certainly did not and will not happen."""

    def __init__(self, reason: str, *, maybe_applied: bool) -> None:
        super().__init__(reason)
        self.maybe_applied = maybe_applied


class SessionGone(LogError):
    """A reader knows records that the log has no more. Definite.

    A tombstone has been and gone, or this is another log.
    """

    def __init__(self, key: SessionKey) -> None:
        super().__init__(f"session {key.session!r} was deleted")
        self.key = key


class LogBroken(LogError):
    """A record that others build on is missing. Never folded over: somebody has removed messages behind our back."""


class Feed(Protocol):
    """The notices of the sessions that a follower watches, for as long as one connection lasts.

    The iteration ends when the connection does. By then notices may have been missed, and nothing is watched any more.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> Notice:
        """Wait for the next notice. Notices of one session come in order; one that is lost leaves a gap."""
        ...

    def watch(self, key: SessionKey) -> None:
        """Hear of a session: of every record that a strict read of the same log, begun afterwards, does not return.

        Safe to repeat. Does nothing once the connection is lost.
        """
        ...

    def unwatch(self, key: SessionKey) -> None:
        """Hear of a session no more."""
        ...

    async def settle(self) -> None:
        """Return when every record that is appended from then on to a session watched by now is told of.

        For a follower that then asks somebody else about the session. Errors: NoAnswer.
        """
        ...


class SessionLog(Protocol):
    """All sessions' logs. Safe to share between tasks of one event loop."""

    @property
    def partitions(self) -> int:
        """How many parts the sessions are divided over: `subjects.partition_of`."""
        ...

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
        """Append a record after `expected_revision` (0: the session has none yet) and return its revision.

        When this returns the record is on disk, on a majority of replicas if there are several. `from_reserve` is for
        a record that lets the log become shorter: it may take the room that is kept back (`reserve_bytes`).
        Errors: AppendConflict, NoRoom, RecordTooLarge, NoAnswer, InvalidField.
        """
        ...

    async def rollup(
        self,
        key: SessionKey,
        *,
        expected_revision: int,
        operation_id: str,
        data: bytes,
        timeout_seconds: float = APPEND_TIMEOUT_SECONDS,
    ) -> int:
        """Replace the session's records by this one, if none came after `expected_revision`. Return its revision.

        A rollup touches no pages, because the state stays the same. It makes the log shorter, so it may take the room
        that is kept back.
        Errors: AppendConflict, NoRoom, RecordTooLarge, NoAnswer, InvalidField.
        """
        ...

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
        """Replace the session's records by a tombstone, if none came after `expected_revision`. Return its revision.

        The tombstone goes by itself after `stands_seconds`, and the session has no record then. A tombstone may touch
        any page. It may take the room that is kept back.
        Errors: AppendConflict, NoRoom, RecordTooLarge, NoAnswer, InvalidField.
        """
        ...

    async def read(
        self,
        key: SessionKey,
        *,
        after_revision: int = 0,
        strict: bool = False,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> list[Record]:
        """Records after a revision, oldest first; none for a session that does not exist.

        Not strict may be stale: a prefix of what is there. Strict holds everything that was acknowledged before the
        call. A rollup after that revision is the first record of the answer, and the only one.
        Errors: NoAnswer, LogBroken, InvalidField; when strict and after a revision, SessionGone.
        """
        ...

    async def sessions(
        self, tenant: TenantId, *, after: str, limit: int, timeout_seconds: float = READ_TIMEOUT_SECONDS
    ) -> list[SessionId]:
        """Up to `limit` sessions of a tenant that have records, sorted, those after `after` ("": from the start).

        Costs one request per partition and time in proportion to the tenant's sessions: for lists, not for lookups.
        Errors: NoAnswer, InvalidField.
        """
        ...

    async def fill(self, partition: int, *, timeout_seconds: float = READ_TIMEOUT_SECONDS) -> float:
        """The share of a partition's room that is used; 1 is full but for the reserve, 0 has no limit.

        Errors: NoAnswer.
        """
        ...

    async def oldest(
        self, partition: int, *, after_revision: int, limit: int, timeout_seconds: float = READ_TIMEOUT_SECONDS
    ) -> list[OldRecord]:
        """Some of the records of a partition after a revision, oldest first; none when there are no more.

        At most `limit`, and fewer when they are large. May be stale. Errors: NoAnswer.
        """
        ...

    def follow(self, *, timeout_seconds: float = FOLLOW_TIMEOUT_SECONDS) -> Feed:
        """The notices of sessions that are yet to be watched. Enter it before anything else.

        Entering it raises NoAnswer when the log cannot be reached in time.
        """
        ...


def reserve_bytes(max_bytes: int) -> int:
    """The bytes of a partition of `max_bytes` that are kept for what makes the log shorter.

    A server refuses any record once a stream is full, and a rollup stands beside what it replaces for a moment. The
    reserve is max_bytes / 16, and at least two of the largest messages; a small log keeps a quarter.
    """
    return min(max_bytes // RESERVE_SHARE_MAX, max(max_bytes // RESERVE_SHARE, RESERVE_BYTES_MIN))


def check_record(operation_id: str, data: bytes) -> None:
    """Refuse what can never be a record. Errors: RecordTooLarge, InvalidField."""
    if _OPERATION_ID.fullmatch(operation_id) is None:
        raise InvalidField("operation_id", "must be 1 to 200 printable ASCII characters without spaces")
    if len(data) > RECORD_BYTES_MAX:
        raise RecordTooLarge(len(data))


def whole_tail(stored: Sequence[tuple[Record, int]], after_revision: int) -> list[Record]:
    """Return a reader's records after `after_revision`, out of stored records with the revisions they were appended to.

    Nothing before the newest rollup: a server that is killed after storing a rollup and before deleting what it
    replaces comes back with all or some of it. Errors: LogBroken, if a record is missing.
    """
    start = max((index for index, (record, _) in enumerate(stored) if record.rollup), default=0)
    reached = None
    for record, previous in stored[start:]:
        # A reader may start between two revisions, so its first record may build on an older one than its start.
        whole = previous <= after_revision if reached is None else previous == reached
        if not whole and not record.rollup:
            raise LogBroken(f"revision {record.revision} follows {previous}, which is missing")
        reached = record.revision
    return [record for record, _ in stored[start:]]


def encode_touches(touches: tuple[str, ...] | None) -> str | None:
    """One header value, or None when anything may be touched or the list is too long to carry."""
    if touches is None:
        return None
    text = ",".join(touches)
    return text if len(text) <= TOUCHES_BYTES_MAX else None


def decode_touches(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    return tuple(text.split(",")) if text else ()
