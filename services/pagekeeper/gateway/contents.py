"""Page contents and their lines, kept by the gateway so that an unchanged prompt needs no bytes from anybody.

A version's bytes at a level never change, so nothing here is ever invalidated, only forgotten: the least recently used
first, by size. Every byte that comes from the object store was verified by artifact-storage.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from sys import getsizeof
from typing import Final

from pagekeeper.core.lines import LineFacts, page_line
from pagekeeper.core.lru import Lru
from pagekeeper.gateway.counting import Counting
from pagekeeper.gateway.ports import PageTablePort
from pagekeeper.runtime.artifacts import GetBlobsPort, blob_batches, blob_of
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
LOOKUPS_PER_CALL_MAX: Final = limits_of(table_pb.LookupRequest, "page_ids").max_items

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
class Wanted:
    """A page as the page table shows it, at one of its levels, with its bytes when they came along."""

    page: page_pb2.Page
    level: int
    inline: bytes | None = None


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

    async def load(self, caller: Caller, session_id: str, wanted: Sequence[Wanted]) -> list[Content]:
        """Contents in the order asked for.

        Raises LevelUnavailable, PageNotFound, StoreUnavailable, ContentCorrupt: all of them or none.
        """
        found: dict[Address, Content] = {}
        in_log: list[Wanted] = []
        in_store: list[Wanted] = []
        for want in wanted:
            address = _address(caller, session_id, want)
            content = self._cache.get(address)
            if content is None and want.inline is not None:
                content = await self._keep(address, want, want.inline)
            if content is not None:
                found[address] = content
            elif representation_of(want.page, want.level).placement.HasField("inline"):
                in_log.append(want)
            else:
                in_store.append(want)
        for want, data in await self._from_log(caller, session_id, in_log, in_store):
            address = _address(caller, session_id, want)
            found[address] = await self._keep(address, want, data)
        for want, data in await self._from_store(caller, in_store):
            address = _address(caller, session_id, want)
            found[address] = await self._keep(address, want, data)
        return [found[_address(caller, session_id, want)] for want in wanted]

    async def count(self, caller: Caller, counting: Counting, contents: Iterable[Content]) -> None:
        """Have the lines counted that are slow to count, so that `counting.of_line` finds them counted."""
        lines = counting.to_count(content.line for content in contents)
        await counting.memory.prepare(self._pool, caller.tenant, lines)

    async def _keep(self, address: Address, want: Wanted, data: bytes) -> Content:
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
        content = Content(data, line)
        self._cache.put(address, content)
        return content

    async def _from_log(
        self, caller: Caller, session_id: str, wanted: Sequence[Wanted], moved: list[Wanted]
    ) -> list[tuple[Wanted, bytes]]:
        """Bytes that lay in the log; those that have left it since are added to `moved`, as they are placed now."""
        loaded = []
        by_version: dict[int, list[Wanted]] = {}
        for want in wanted:
            by_version.setdefault(want.page.version, []).append(want)
        for version, group in by_version.items():
            for batch in _batches(group, LOOKUPS_PER_CALL_MAX):
                request = table_pb.LookupRequest(
                    session_id=session_id, page_ids=[want.page.page_id for want in batch], version=version
                )
                response = await self._page_table.lookup(caller, request)
                for want, entry in zip(batch, response.entries, strict=True):
                    inline = next((one.data for one in entry.inline if one.level == want.level), None)
                    if inline is None:
                        moved.append(Wanted(entry.page, want.level))
                    else:
                        loaded.append((want, inline))
        return loaded

    async def _from_store(self, caller: Caller, wanted: Sequence[Wanted]) -> list[tuple[Wanted, bytes]]:
        loaded = []
        for batch in blob_batches(wanted, _stored_bytes):
            refs = [
                artifact_pb.BlobRef(extent=r.placement.extent, digest=r.digest)
                for r in (representation_of(want.page, want.level) for want in batch)
            ]
            response = await self._artifacts.get_blobs(caller, artifact_pb.GetBlobsRequest(refs=refs))
            for want, item in zip(batch, response.items, strict=True):
                page_id = want.page.page_id
                loaded.append((want, blob_of(item, f"page {page_id!r}", page_id=page_id)))
        return loaded


def is_text(page: page_pb2.Page, level: int) -> bool:
    """Whether the bytes at that level are text: all but a medium's own."""
    return level > 0 or not page.HasField("media")


def _address(caller: Caller, session_id: str, want: Wanted) -> Address:
    return (caller.tenant, session_id, want.page.page_id, want.page.version, want.level)


def _stored_bytes(want: Wanted) -> int:
    return representation_of(want.page, want.level).size_bytes


def _batches(items: Sequence[Wanted], size: int) -> Iterable[Sequence[Wanted]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def levels_below(page: page_pb2.Page, level: int) -> list[page_pb2.Representation]:
    """Lower fidelities, the next one first."""
    return sorted((r for r in page.representations if r.level > level), key=lambda r: r.level)
