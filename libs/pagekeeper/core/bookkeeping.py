"""A session's accounts besides its pages: counters, recent evictions, checkpoints, and requests carried out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from pagekeeper.core.events import ArchiveSegment

REQUEST_HASH_BYTES: Final = 4
"""Of a request's id in the archive: of 65,536 requests, another id has the same hash with a chance of 1 in 65,536. Then
a segment is read for nothing."""
REMEMBERED_MS: Final = 75 * 60_000
"""How long an archived request is remembered: an hour, and what clocks differ by and a retry takes on its way."""
REQUEST_HASHES_BYTES_MAX: Final = 65_536 * REQUEST_HASH_BYTES
"""Of all archived requests of a session, the newest: as many as one writes in an hour at 18 a second."""


class SessionState(Enum):
    OPEN = 1
    CLOSED = 2


THRASH_OF_FAULTS_MIN: Final = 4
"""Fewer faults count as so many in the thrash index: one that undid an eviction by chance is no thrashing."""


@dataclass(slots=True)
class Counters:
    faults_this_turn: int = 0
    fault_tokens_this_turn: int = 0
    evictions_total: int = 0
    compressions_total: int = 0
    thrash_faults_total: int = 0


@dataclass(frozen=True, slots=True)
class EvictionMark:
    page_id: str
    turn: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    checkpoint_id: str
    name: str
    revision: int
    turn: int
    page_count: int
    used_tokens: int
    created_unix_ms: int


@dataclass(frozen=True, slots=True)
class Operation:
    operation_id: str
    request_digest: bytes
    revision: int


def forget_old_requests(archive: list[ArchiveSegment]) -> None:
    """Drop the hashes of requests that are too old or too many, when a segment was added.

    Ages are differences between times that the log has, so every replica forgets the same.
    """
    newest_unix_ms = archive[-1].last_written_unix_ms
    left_bytes = REQUEST_HASHES_BYTES_MAX
    for index in range(len(archive) - 1, -1, -1):
        segment = archive[index]
        left_bytes -= len(segment.request_hashes)
        is_old = newest_unix_ms - segment.last_written_unix_ms > REMEMBERED_MS
        if segment.request_hashes and (is_old or left_bytes < 0):
            archive[index] = replace(segment, request_hashes=b"")


def forgotten_until_unix_ms(archive: Sequence[ArchiveSegment]) -> int:
    """Until when requests were written that are forgotten; 0 when none is, as far as the archive tells."""
    return max((segment.last_written_unix_ms for segment in archive if not segment.request_hashes), default=0)
