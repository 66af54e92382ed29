"""Write-back: the bytes of dirty pages leave the log for segments in the object store.

A page is dirty while a representation of it has its bytes in the log alone. A flush stores the bytes of all dirty pages
as segments, then commits the placement of each segment (`PagesPlaced`). A crash between the two leaves a segment that
nothing refers to, and the pages dirty: the next flush does the work again. Of two flushes at a time both may store the
same bytes; the fold takes the placement that was committed first.

Invariant: a page becomes clean only after bytes with its digest are durable in the object store.
Never: a byte of a page that is not dirty, a placement before its bytes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.errors import ContentCorrupt
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.session import Session
from pagekeeper.runtime.artifacts import ArtifactPort, put
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.requests import derived_id
from pagekeeper.runtime.sessions import Request, Room, Sessions
from pagekeeper.v1 import memory_service_pb2 as pb

SEGMENT_BYTES_MAX: Final = 8 * 1024 * 1024
SEGMENT_PARTS_MAX: Final = 1_024
"""The most that one PutBlobs takes. The placements of a segment are one record of 300 bytes each, well below the limit
of a record."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """A representation whose bytes are in the log alone."""

    page_id: str
    version: int
    level: int
    data: bytes


class WriteBack:
    def __init__(self, sessions: Sessions, artifacts: ArtifactPort) -> None:
        self._sessions = sessions
        self._artifacts = artifacts

    async def flush_session(self, caller: Caller, request: pb.FlushSessionRequest) -> pb.FlushSessionResponse:
        """Place all that is dirty at the session's present revision, or at `min_revision` when that is newer.

        Raises SessionNotFound, StoreUnavailable, ContentCorrupt, and as `Sessions.commit`.
        """
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_for(key, request)
        flushed = pb.FlushSessionResponse(revision=session.revision)
        for segment in list(segments(session)):
            flushed.revision = max(flushed.revision, await self._place(caller, key, segment))
            flushed.placed += len(segment)
            flushed.placed_bytes += sum(len(dirty.data) for dirty in segment)
        return flushed

    async def _place(self, caller: Caller, key: SessionKey, segment: Sequence[Dirty]) -> int:
        """Store a segment, then say in the log where its parts lie. The session's revision after that."""
        extents = await put(self._artifacts, caller, key, "pages", [dirty.data for dirty in segment])
        placements = [
            ev.PlacedRepresentation(dirty.page_id, dirty.version, dirty.level, extent)
            for dirty, extent in zip(segment, extents, strict=True)
        ]

        def decide(session: Session) -> ev.PagesPlaced | None:
            return decisions.place(decisions.readable(session, key.session), placements)

        # An object's key is never used twice, so it names this placement and no other.
        object_key = extents[0].object_key
        request = Request(derived_id("place", object_key, 0), sha256(object_key.encode()).digest())
        touches = tuple(dict.fromkeys(dirty.page_id for dirty in segment))
        return (await self._sessions.commit(key, request, decide, touches=touches, room=Room.RESERVE)).revision


def segments(session: Session) -> Iterator[list[Dirty]]:
    """Yield segments of dirty representations in mapping order, so that pages of one time lie together.

    Raises ContentCorrupt.
    """
    segment: list[Dirty] = []
    size_bytes = 0
    for dirty in dirty_representations(session):
        if segment and (size_bytes + len(dirty.data) > SEGMENT_BYTES_MAX or len(segment) == SEGMENT_PARTS_MAX):
            yield segment
            segment, size_bytes = [], 0
        segment.append(dirty)
        size_bytes += len(dirty.data)
    if segment:
        yield segment


def dirty_representations(session: Session) -> Iterator[Dirty]:
    """Of all pages and versions, dropped ones too: history shows them. Raises ContentCorrupt."""
    for page in session.pages.dirty():
        for version in page.versions:
            for representation in version.representations:
                data = representation.inline
                if data is None:
                    continue
                if sha256(data).digest() != representation.digest:
                    raise ContentCorrupt(
                        f"the logged bytes of page {page.page_id!r} do not match their digest", page_id=page.page_id
                    )
                yield Dirty(page.page_id, version.version, representation.level, data)


def dirty_bytes(session: Session) -> int:
    """Bytes of all representations that are dirty."""
    return sum(
        len(representation.inline)
        for page in session.pages.dirty()
        for version in page.versions
        for representation in version.representations
        if representation.inline is not None
    )
