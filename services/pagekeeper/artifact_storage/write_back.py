"""Write-back: the bytes of dirty pages leave the log for segments in the object store.

Bytes first, then the placement: a crash in between leaves a segment that nothing refers to, and the pages dirty. Two
flushes of one session at a time do the work twice, and page-table places each page once.

Invariant: a page becomes clean only after bytes with its digest are durable in the object store.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from pagekeeper.artifact_storage.objects import Objects
from pagekeeper.artifact_storage.ports import PlacementsPort
from pagekeeper.core.errors import ContentCorrupt
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.session import Session
from pagekeeper.runtime.history import extent_message
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.requests import derived_id
from pagekeeper.v1 import event_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

SEGMENT_BYTES_MAX: Final = 8 * 1024 * 1024
SEGMENT_PARTS_MAX: Final = 2_048
"""Their placements are one record of the log: at 300 bytes each, well below its limit."""


@dataclass(frozen=True, slots=True)
class Dirty:
    """A representation whose bytes are in the log alone."""

    page_id: str
    version: int
    level: int
    data: bytes
    digest: bytes


@dataclass(frozen=True, slots=True)
class Flushed:
    """`revision` is the session's after it."""

    revision: int
    placed: int
    placed_bytes: int


class WriteBack:
    def __init__(self, objects: Objects, placements: PlacementsPort) -> None:
        self._objects = objects
        self._placements = placements

    async def flush(self, caller: Caller, key: SessionKey, session: Session) -> Flushed:
        """Place all that is dirty in `session` now. Raises StoreUnavailable, ContentCorrupt, and as PlacePages."""
        revision, placed, placed_bytes = session.revision, 0, 0
        for segment in list(segments(session)):
            extents = await self._objects.put(key, "pages", [dirty.data for dirty in segment])
            request = table_pb.PlacePagesRequest(
                request_id=derived_id("place", extents[0].object_key, 0),
                session_id=key.session,
                placements=[
                    event_pb2.PlacedRepresentation(
                        page_id=dirty.page_id, version=dirty.version, level=dirty.level, extent=extent_message(extent)
                    )
                    for dirty, extent in zip(segment, extents, strict=True)
                ],
            )
            response = await self._placements.place_pages(caller, request)
            revision = max(revision, response.revision)
            placed += len(segment)
            placed_bytes += sum(extent.length for extent in extents)
        return Flushed(revision, placed, placed_bytes)


def segments(session: Session) -> Iterator[list[Dirty]]:
    """Return the dirty representations in mapping order, so that pages of one time lie together."""
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
                yield Dirty(page.page_id, version.version, representation.level, data, representation.digest)
