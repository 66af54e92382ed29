"""Lower representations, made in the background or when asked for, and added beside the full one."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import Final, NamedTuple

from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.compress.media import DECODED, UNDECODABLE
from pagekeeper.core.compress.registry import LOWER_LEVELS
from pagekeeper.core.errors import PageNotFound, SessionClosed, SessionNotFound
from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.core.pages import CompressionLevel, MediaDescription, Modality, PageType
from pagekeeper.core.previews import joined
from pagekeeper.fault_handler.compression_frames import Page
from pagekeeper.fault_handler.compression_runner import CompressionRunner
from pagekeeper.fault_handler.entries import Entries, Found
from pagekeeper.fault_handler.loading import Loader
from pagekeeper.fault_handler.ports import PageTablePort
from pagekeeper.fault_handler.summarising import NoSummariser, Summariser
from pagekeeper.fault_handler.turns import Line
from pagekeeper.runtime.codec import codec_of
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.queue.port import WorkItem
from pagekeeper.runtime.requests import derived_id
from pagekeeper.runtime.views import MODALITY_OF, PAGE_TYPE_OF
from pagekeeper.runtime.work import pages_to_compress, platform_caller
from pagekeeper.v1 import event_pb2, page_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb

LOWERED_AT_ONCE: Final = 16
LOWERED_BYTES_AT_ONCE: Final = 64 * 1024
ADDED_PER_CALL: Final = 32
ADDED_BYTES_PER_CALL: Final = 256 * 1024
"""The most that one request adds: page-table counts the tokens of a request in one go."""

Wanted = tuple[Found, Sequence[CompressionLevel]]
"""A page, and the levels of it that are asked for."""

_AT_ONCE = NoSummariser()
"""Of a call: somebody waits for it."""
_MEDIA = codec_of(MediaDescription)


class _Manner(NamedTuple):
    """How pages are compressed: in which line they wait, and in whose words their levels are."""

    line: Line
    summariser: Summariser


class Compressing:
    def __init__(
        self,
        entries: Entries,
        loader: Loader,
        page_table: PageTablePort,
        compression_runner: CompressionRunner,
        summariser: Summariser,
    ) -> None:
        self._entries = entries
        self._loader = loader
        self._page_table = page_table
        self._lowering = compression_runner
        self._summariser = summariser

    async def compress(self, caller: Caller, request: pb.CompressPagesRequest) -> pb.CompressPagesResponse:
        """Raises SessionNotFound, SessionClosed, PageNotFound, StoreUnavailable, ContentCorrupt, TooManyRequests.

        All levels are made, those that exist too: so a repeated request asks page-table for the same thing, and is
        told what it made the first time.
        """
        key = session_key(caller.tenant, request.session_id)
        found = await self._entries.look_up(caller, key, list(dict.fromkeys(request.page_ids)), 0)
        wanted = [(one, LOWER_LEVELS) for one in found]
        return await self._compress(caller, key, wanted, request.request_id, _Manner(Line(key.tenant), _AT_ONCE))

    async def work(self, item: WorkItem) -> None:
        """Compress the pages that a work item names. Pages and sessions that were dropped or closed meanwhile need no
        compression.
        """
        page_ids = pages_to_compress(item.data)
        caller = platform_caller(item.key)
        try:
            found = await self._entries.look_up(caller, item.key, page_ids, 0)
            wanted = [(one, _missing_levels(one.page)) for one in found]
            manner = _Manner(Line(item.key.tenant, background=True), self._summariser)
            await self._compress(caller, item.key, wanted, item.work_id, manner)
        except (SessionNotFound, SessionClosed, PageNotFound):
            return

    async def _compress(
        self, caller: Caller, key: SessionKey, wanted: Sequence[Wanted], request_id: str, manner: _Manner
    ) -> pb.CompressPagesResponse:
        response = pb.CompressPagesResponse(revision=max((found.revision for found, _ in wanted), default=0))
        made: list[event_pb2.AddedRepresentation] = []
        for some in _batches(wanted):
            made += await self._lower(caller, key, some, manner)
            made_bytes = sum(one.representation.size_bytes for one in made)
            if len(made) >= ADDED_PER_CALL or made_bytes >= ADDED_BYTES_PER_CALL:
                await self._add(caller, key, request_id, made, response)
                made = []
        if made:
            await self._add(caller, key, request_id, made, response)
        return response

    async def _add(
        self,
        caller: Caller,
        key: SessionKey,
        request_id: str,
        made: list[event_pb2.AddedRepresentation],
        response: pb.CompressPagesResponse,
    ) -> None:
        request = table_pb.AddRepresentationsRequest(session_id=key.session, representations=made)
        # Named after what was made: once a page has another version, a retry asks for something else. That is safe,
        # since a level that is there is not added again.
        body = sha256(request.SerializeToString(deterministic=True)).hexdigest()
        request.request_id = derived_id("compress", f"{request_id}/{body}", 0)
        added = await self._page_table.add_representations(caller, request)
        response.revision = added.revision
        response.made.extend(added.made)

    async def _lower(
        self, caller: Caller, key: SessionKey, wanted: Sequence[Wanted], manner: _Manner
    ) -> list[event_pb2.AddedRepresentation]:
        """Of these levels, those that would save tokens."""
        read = [await self._page(caller, key, found) for found, _ in wanted]
        heard = [_heard(page, found.page, manner.summariser) for page, (found, _) in zip(read, wanted, strict=True)]
        pages = await asyncio.gather(*heard)
        extracted = await self._lowering.lower(pages, manner.line)
        sources = map(_told, [page.source for page in pages], extracted)
        lowered = await asyncio.gather(*map(manner.summariser.rewrite, sources, extracted))
        return [
            _added(found.page, compressed)
            for (found, levels), made in zip(wanted, lowered, strict=True)
            for compressed in made
            if compressed.level in levels
        ]

    async def _page(self, caller: Caller, key: SessionKey, found: Found) -> Page:
        page = found.page
        modality = MODALITY_OF[page.modality]
        if any(one.compressor == UNDECODABLE for one in page.representations):
            return Page(Source(page.page_id, modality, media=_MEDIA.decode(page.media)), undecodable=True)
        _, data = await self._loader.read(caller, key, found, CompressionLevel.FULL)
        if page.HasField("media"):
            return Page(Source(page.page_id, modality, media=_MEDIA.decode(page.media)), data)
        return Page(Source(page.page_id, modality, text=data.decode()))


def _batches(wanted: Sequence[Wanted]) -> Iterator[list[Wanted]]:
    """Pages that have something to make, a few at a time."""
    batch: list[Wanted] = []
    batch_bytes = 0
    for found, levels in wanted:
        if levels and PAGE_TYPE_OF[found.page.page_type] is not PageType.INDEX:
            batch.append((found, levels))
            batch_bytes += found.page.representations[0].size_bytes
        if len(batch) == LOWERED_AT_ONCE or batch_bytes >= LOWERED_BYTES_AT_ONCE:
            yield batch
            batch, batch_bytes = [], 0
    if batch:
        yield batch


async def _heard(page: Page, known: page_pb2.Page, summariser: Summariser) -> Page:
    """With what is said in a recording, where nobody wrote it."""
    if page.source.modality not in (Modality.AUDIO, Modality.VIDEO) or not page.data or known.media.transcript:
        return page
    return replace(page, heard=await summariser.transcript(known.page_id, known.mime_type, page.data))


def _told(source: Source, made: Sequence[Compressed]) -> Source:
    """All there is to say of a page: of a medium that was decoded, the level that has it."""
    decoded = next((one for one in made if one.compressor == DECODED), None)
    return source if decoded is None else replace(source, text=decoded.text, media=None)


def _missing_levels(page: page_pb2.Page) -> list[CompressionLevel]:
    there = {representation.level for representation in page.representations}
    return [level for level in LOWER_LEVELS if level not in there]


def _added(page: page_pb2.Page, compressed: Compressed) -> event_pb2.AddedRepresentation:
    data = joined(compressed.text, compressed.preview)
    return event_pb2.AddedRepresentation(
        page_id=page.page_id,
        version=page.version,
        representation=event_pb2.StoredRepresentation(
            level=compressed.level,
            size_bytes=len(data),
            digest=sha256(data).digest(),
            compressor=compressed.compressor,
            inline=data,
            preview_mime_type=compressed.preview.mime_type if compressed.preview else "",
        ),
    )
