"""Page contents and their lines, kept by the gateway so that an unchanged prompt needs no bytes from anybody.

A version's bytes at a level never change, so nothing here is ever invalidated, only forgotten: the least recently used
first, by size. Every byte that comes from the object store was verified by artifact-storage.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from sys import getsizeof
from typing import Final

from pagekeeper.core.errors import ContentCorrupt, PagekeeperError, PageNotFound, StoreUnavailable
from pagekeeper.core.lines import LineFacts, page_line
from pagekeeper.core.lru import Lru
from pagekeeper.gateway.counting import Counting
from pagekeeper.gateway.ports import PageTablePort
from pagekeeper.runtime.artifacts import GetBlobsPort, blob_batches, blob_of
from pagekeeper.runtime.batches import batches
from pagekeeper.runtime.codec import MessageReader
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.limits import limits_of
from pagekeeper.runtime.pool import HERE_BYTES_MAX, Pool
from pagekeeper.runtime.views import representation_of
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

CACHE_BYTES_MAX: Final = 256 * 1024 * 1024
ENTRY_BYTES: Final = 1_024
"""What an entry takes beside its text, rounded up: addresses of empty pages would fill the memory."""
LOGGED_BYTES_MAX: Final = 2 * 1024 * 1024
"""Of one lookup, which leaves out bytes beyond `INLINE_BYTES_MAX`."""
LOOKUPS_PER_CALL_MAX: Final = limits_of(table_pb.LookupRequest, "page_ids").max_items

_log: Final = logging.getLogger(__name__)
_LINE_FACTS: Final = MessageReader(LineFacts, page_pb2.Page)


@dataclass(frozen=True, slots=True)
class Content:
    """A version's bytes at a level, and the line that stands for them in a prompt."""

    data: bytes
    line: str

    @property
    def size_bytes(self) -> int:
        """Memory of the entry, with its address."""
        return ENTRY_BYTES + len(self.data) + getsizeof(self.line)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands for a content that cannot be had. `refusal` is what whoever asks for that very page is told."""

    refusal: PagekeeperError


@dataclass(frozen=True, slots=True)
class Wanted:
    """A page as the page table shows it, at one of its levels, with its bytes when they came along."""

    page: page_pb2.Page
    level: int
    inline: bytes | None = None


Outcome = tuple[Wanted, bytes | Unreadable]

Address = tuple[str, str, str, int, int]
"""Tenant, session, page, version, level."""


ContentCache = Lru[Address, Content]


def content_cache() -> ContentCache:
    return Lru(bytes_max=CACHE_BYTES_MAX, size_bytes=attrgetter("size_bytes"))


class Contents:
    """Reads contents through the cache."""

    def __init__(self, cache: ContentCache, page_table: PageTablePort, artifacts: GetBlobsPort, pool: Pool) -> None:
        self._cache = cache
        self._page_table = page_table
        self._artifacts = artifacts
        self._pool = pool
        self._made_bytes = 0

    async def load(self, caller: Caller, session_id: str, want: Wanted) -> Content:
        """One content. Raises LevelUnavailable, PageNotFound, StoreUnavailable, ContentCorrupt."""
        (found,) = await self.load_each(caller, session_id, [want])
        if isinstance(found, Unreadable):
            raise found.refusal
        return found

    async def load_each(self, caller: Caller, session_id: str, wanted: Sequence[Wanted]) -> list[Content | Unreadable]:
        """Contents in the order asked for, each with an outcome of its own: one bad page harms no other.

        Raises LevelUnavailable; StoreUnavailable when the store answers nothing at all.
        """
        found: dict[Address, Content | Unreadable] = {}
        in_log: list[Wanted] = []
        in_store: list[Wanted] = []
        for want in wanted:
            address = _address(caller, session_id, want)
            content: Content | Unreadable | None = self._cache.get(address)
            if content is None and want.inline is not None:
                content = await self._keep(address, want, want.inline)
            if content is not None:
                found[address] = content
            elif representation_of(want.page, want.level).placement.HasField("inline"):
                in_log.append(want)
            else:
                in_store.append(want)
        from_log = await self._from_log(caller, session_id, in_log, in_store)
        for want, read in (*from_log, *await self._from_store(caller, in_store)):
            address = _address(caller, session_id, want)
            found[address] = read if isinstance(read, Unreadable) else await self._keep(address, want, read)
        return [found[_address(caller, session_id, want)] for want in wanted]

    async def count(self, caller: Caller, counting: Counting, contents: Iterable[Content | Unreadable]) -> None:
        """Have the lines counted that are slow to count, so that `counting.of_line` finds them counted."""
        lines = counting.to_count(content.line for content in contents if isinstance(content, Content))
        await counting.memory.prepare(self._pool, caller.tenant, lines)

    async def _keep(self, address: Address, want: Wanted, data: bytes) -> Content | Unreadable:
        try:
            line = await self._line(address, want, data)
        except ValueError as problem:
            page_id = want.page.page_id
            return _unreadable(ContentCorrupt(f"the bytes of page {page_id!r} are no text: {problem}", page_id=page_id))
        content = Content(data, line)
        self._cache.put(address, content)
        return content

    async def _line(self, address: Address, want: Wanted, data: bytes) -> str:
        """Raises ValueError for bytes that are no text."""
        preview_mime_type = representation_of(want.page, want.level).preview_mime_type
        facts = _LINE_FACTS.decode(want.page)
        if len(data) <= HERE_BYTES_MAX:
            line = page_line(facts, want.level, data, preview_mime_type)
            # Many pages are as much work as a large one: others are served in between.
            self._made_bytes += len(data)
            if self._made_bytes > HERE_BYTES_MAX:
                self._made_bytes = 0
                await asyncio.sleep(0)
        else:
            line = await self._pool.run(address[0], page_line, facts, want.level, data, preview_mime_type)
        return line

    async def _from_log(
        self, caller: Caller, session_id: str, wanted: Sequence[Wanted], moved: list[Wanted]
    ) -> list[Outcome]:
        """Bytes that lay in the log; those that have left it since are added to `moved`, as they are placed now."""
        loaded: list[Outcome] = []
        by_version: dict[int, list[Wanted]] = {}
        for want in wanted:
            by_version.setdefault(want.page.version, []).append(want)
        for version, group in by_version.items():
            for batch in batches(group, _logged_bytes, count_max=LOOKUPS_PER_CALL_MAX, bytes_max=LOGGED_BYTES_MAX):
                for want, entry in zip(batch, await self._entries(caller, session_id, version, batch), strict=True):
                    if isinstance(entry, Unreadable):
                        loaded.append((want, entry))
                        continue
                    inline = next((one.data for one in entry.inline if one.level == want.level), None)
                    if inline is not None:
                        loaded.append((want, inline))
                    elif len(batch) > 1 and representation_of(entry.page, want.level).placement.HasField("inline"):
                        # The answer had no room for it: levels came to the pages since they were looked at.
                        loaded += await self._from_log(caller, session_id, [want], moved)
                    else:
                        moved.append(Wanted(entry.page, want.level))
        return loaded

    async def _entries(
        self, caller: Caller, session_id: str, version: int, wanted: Sequence[Wanted]
    ) -> Sequence[table_pb.PageEntry | Unreadable]:
        """The pages' entries now. One that was dropped since costs the others nothing but another call."""
        page_ids = [want.page.page_id for want in wanted]
        request = table_pb.LookupRequest(session_id=session_id, page_ids=page_ids, version=version)
        try:
            return (await self._page_table.lookup(caller, request)).entries
        except PageNotFound as gone:
            if len(wanted) == 1:
                return [_unreadable(gone)]
        return [one for want in wanted for one in await self._entries(caller, session_id, version, [want])]

    async def _from_store(self, caller: Caller, wanted: Sequence[Wanted]) -> list[Outcome]:
        loaded: list[Outcome] = []
        for batch in blob_batches(wanted, _stored_bytes):
            refs = [
                artifact_pb.BlobRef(extent=r.placement.extent, digest=r.digest)
                for r in (representation_of(want.page, want.level) for want in batch)
            ]
            response = await self._artifacts.get_blobs(caller, artifact_pb.GetBlobsRequest(refs=refs))
            for want, item in zip(batch, response.items, strict=True):
                loaded.append((want, _read(item, want.page.page_id)))
        return loaded


def _read(item: artifact_pb.BlobItem, page_id: str) -> bytes | Unreadable:
    try:
        return blob_of(item, f"page {page_id!r}", page_id=page_id)
    except (ContentCorrupt, StoreUnavailable) as refusal:
        return _unreadable(refusal)


def _unreadable(refusal: PagekeeperError) -> Unreadable:
    _log.warning("a page cannot be read: %s", refusal.message, extra={"reason": refusal.reason} | refusal.metadata)
    return Unreadable(refusal)


def is_text(page: page_pb2.Page, level: int) -> bool:
    """Whether the bytes at that level are text: all but a medium's own."""
    return level > 0 or not page.HasField("media")


def _address(caller: Caller, session_id: str, want: Wanted) -> Address:
    return (caller.tenant, session_id, want.page.page_id, want.page.version, want.level)


def _stored_bytes(want: Wanted) -> int:
    return representation_of(want.page, want.level).size_bytes


def _logged_bytes(want: Wanted) -> int:
    """The bytes of all levels of the page that lie in the log: a lookup answers all of them."""
    return sum(one.size_bytes for one in want.page.representations if one.placement.HasField("inline"))


def levels_below(page: page_pb2.Page, level: int) -> list[page_pb2.Representation]:
    """Lower fidelities, the next one first."""
    return sorted((r for r in page.representations if r.level > level), key=lambda r: r.level)
