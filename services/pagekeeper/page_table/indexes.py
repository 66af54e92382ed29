"""The search indexes of sessions, each kept up with its session's revision.

An index is derived from the session's current versions and can always be made again; a replica keeps those of the
sessions that were searched last. What changed since is read from the fold's own trace, so a search after an append
reads that page and nothing else.

Invariant: an index says what the session said at the revision that it is for.
"""

import asyncio
import logging
import weakref
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.compress.media import DECODED
from pagekeeper.core.embedding import Embedder
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.pages import (
    CompressionLevel,
    MediaDescription,
    MessageRole,
    Modality,
    PageState,
    PageType,
    StoredRepresentation,
)
from pagekeeper.core.previews import parted
from pagekeeper.core.search import SessionIndex
from pagekeeper.core.session import Session
from pagekeeper.page_table.ports import ArtifactPort
from pagekeeper.runtime.batches import batches
from pagekeeper.runtime.errors import reason_name
from pagekeeper.runtime.history import extent_message
from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb

INDEXES_MAX: Final = 256
INDEXES_BYTES_MAX: Final = 512 * 1024 * 1024
"""Sessions whose index is kept, those searched last, and what these may take together."""
BATCH_PAGES_MAX: Final = 64
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
"""Read and indexed at once. Indexing takes about 50 us a page, in which nobody else is served."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What the index holds of a page beside its text: another one of these means that it is indexed again."""

    version: int
    hint: str
    page_type: PageType
    decoded: bool
    """Whether a medium has told what it says itself."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A page to index: its text, and where there is more of it."""

    page_id: str
    shown: _Shown
    modality: Modality
    role: MessageRole
    turn: int
    text: str
    stored: StoredRepresentation | None


class Indexed:
    """The index of one session at `revision`. Its database is closed when nobody searches it any more."""

    def __init__(self, embedder: Embedder) -> None:
        self.index = SessionIndex(embedder)
        self.revision = 0
        self.shown: dict[str, _Shown] = {}
        self.size_bytes = 0
        self.lock = asyncio.Lock()
        weakref.finalize(self, self.index.close)


class Indexes:
    def __init__(self, artifacts: ArtifactPort, embedder: Embedder) -> None:
        self._artifacts = artifacts
        self._embedder = embedder
        self._indexes: OrderedDict[SessionKey, Indexed] = OrderedDict()

    @asynccontextmanager
    async def current(self, caller: Caller, key: SessionKey, session: Session) -> AsyncIterator[Indexed]:
        """The index at the session's revision, this caller's alone inside the block. Raises StoreUnavailable."""
        indexed = self._indexed(key)
        async with indexed.lock:
            await self._keep_up(caller, indexed, session)
            yield indexed

    def _indexed(self, key: SessionKey) -> Indexed:
        indexed = self._indexes.get(key)
        if indexed is None:
            indexed = self._indexes[key] = Indexed(self._embedder)
        self._indexes.move_to_end(key)
        total_bytes = sum(one.size_bytes for one in self._indexes.values())
        while len(self._indexes) > 1 and (len(self._indexes) > INDEXES_MAX or total_bytes > INDEXES_BYTES_MAX):
            _, forgotten = self._indexes.popitem(last=False)
            total_bytes -= forgotten.size_bytes
        return indexed

    async def _keep_up(self, caller: Caller, indexed: Indexed, session: Session) -> None:
        """Bring the index to the session's revision. What fails on the way has been brought there in part."""
        revision = session.revision
        if indexed.revision == revision:
            return
        sources = []
        for page_id in _changed(indexed, session):
            page = session.page(page_id)
            if page is None:
                if indexed.shown.pop(page_id, None) is not None:
                    indexed.index.remove(page_id)
            elif indexed.shown.get(page_id) != _shown(page):
                sources.append(_source(page))
        for batch in batches(sources, _to_read_bytes, count_max=BATCH_PAGES_MAX, bytes_max=BATCH_BYTES_MAX):
            for source, text in zip(batch, await self._texts(caller, batch), strict=True):
                indexed.index.replace(
                    source.page_id,
                    text,
                    source.shown.hint,
                    modality=source.modality,
                    page_type=source.shown.page_type,
                    role=source.role,
                    turn=source.turn,
                )
                indexed.shown[source.page_id] = source.shown
            await asyncio.sleep(0)
        indexed.revision = revision
        indexed.size_bytes = indexed.index.size_bytes

    async def _texts(self, caller: Caller, batch: Sequence[_Source]) -> list[str]:
        """Raises StoreUnavailable. A page whose bytes are gone or wrong is found by its hint alone."""
        stored = [(source.page_id, source.stored) for source in batch if source.stored is not None]
        loaded: dict[str, str] = {}
        if stored:
            refs = [
                artifact_pb.BlobRef(extent=extent_message(one.extent), digest=one.digest)
                for _, one in stored
                if one.extent is not None
            ]
            response = await self._artifacts.get_blobs(caller, artifact_pb.GetBlobsRequest(refs=refs))
            for (page_id, stored_level), item in zip(stored, response.items, strict=True):
                if item.failure:
                    reason = reason_name(item.failure)
                    _log.warning("a page is not searchable", extra={"page": page_id, "reason": reason})
                else:
                    loaded[page_id] = _text_of(item.data, stored_level)
        return [_both(source.text, loaded.get(source.page_id, "")) for source in batch]


def _changed(indexed: Indexed, session: Session) -> list[str]:
    """Pages that the index may have wrong."""
    changed = session.changes.since(indexed.revision) if indexed.revision else None
    return changed if changed is not None else list({**indexed.shown, **session.pages})


def _shown(page: PageState) -> _Shown:
    return _Shown(page.current_version, page.hint, page.page_type, _decoded(page) is not None)


def _decoded(page: PageState) -> StoredRepresentation | None:
    """The level that has what a medium's bytes say, if they were decoded and may say more than its description."""
    version = page.current
    if version.media is None or not version.full.size_bytes:
        return None
    level = version.at(CompressionLevel.REDUCED)
    described = page.modality is Modality.IMAGE and version.media.caption
    return None if level is None or (described and level.compressor == DECODED) else level


def _source(page: PageState) -> _Source:
    version = page.current
    text, stored = "", None
    more: StoredRepresentation | None = version.full
    if version.media is not None:
        text = _description(version.media)
        more = _decoded(page)
    if more is not None and more.inline is not None:
        text = _both(text, _text_of(more.inline, more))
    else:
        stored = more
    return _Source(page.page_id, _shown(page), page.modality, page.role, version.turn, text, stored)


def _text_of(content: bytes, stored: StoredRepresentation) -> str:
    text, _ = parted(content, stored.preview_mime_type)
    return text.decode()


def _both(description: str, text: str) -> str:
    """What is in one of the two, once."""
    if not description:
        return text
    return "\n".join(dict.fromkeys(f"{description}\n{text}".splitlines()))


def _description(media: MediaDescription) -> str:
    return "\n".join([media.caption, media.transcript, *media.scenes])


def _to_read_bytes(source: _Source) -> int:
    return source.stored.size_bytes if source.stored else len(source.text)
