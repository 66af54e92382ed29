"""Contents of pages, loaded once however many ask, and kept for a while: a version's bytes never change.

Invariant: whatever leaves this module has the digest that the page table says, wherever it came from.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from hashlib import sha256

from pagekeeper.core.errors import ContentCorrupt
from pagekeeper.core.ids import SessionKey, TenantId
from pagekeeper.core.lru import Lru
from pagekeeper.fault_handler.entries import Entries, Found
from pagekeeper.runtime.artifacts import GetBlobsPort, blob_batches, blob_of
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.single_flight import SingleFlight
from pagekeeper.runtime.views import representation_of
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb
from pagekeeper.v1 import page_pb2

Address = tuple[TenantId, bytes]
"""Tenant, SHA-256 of the bytes: a fork shares its parent's, tenants share nothing."""


class _Moved(Exception):
    """The bytes are not where the entry says any more: look the page up again."""


@dataclass(frozen=True, eq=False, slots=True)
class _Batch:
    """A call for several contents, told apart from all others."""

    request: artifact_pb.GetBlobsRequest


class Loader:
    def __init__(self, cache: Lru[Address, bytes], entries: Entries, artifacts: GetBlobsPort) -> None:
        self._cache = cache
        self._entries = entries
        self._artifacts = artifacts
        self._flights: SingleFlight[Address, bytes] = SingleFlight()
        self._calls: SingleFlight[_Batch, artifact_pb.GetBlobsResponse] = SingleFlight()

    async def read(self, caller: Caller, key: SessionKey, found: Found, level: int) -> tuple[Found, bytes]:
        """The verified bytes of a page at a level, and the entry that led to them.

        The answer has a fresh entry of the same version when the bytes have moved since the first one. Raises
        LevelUnavailable, StoreUnavailable, ContentCorrupt, PageNotFound.
        """
        try:
            return found, await self._load(caller, found, level)
        except _Moved:
            fresh = await self._same_version(caller, key, found)
        except ContentCorrupt:
            fresh = await self._same_version(caller, key, found)
            if representation_of(fresh.page, level) == representation_of(found.page, level):
                raise
        return fresh, await self._load(caller, fresh, level)

    async def _same_version(self, caller: Caller, key: SessionKey, found: Found) -> Found:
        page = found.page
        (fresh,) = await self._entries.look_up(caller, key, [page.page_id], found.revision, page.version)
        return fresh

    async def _load(self, caller: Caller, found: Found, level: int) -> bytes:
        """Raises _Moved when only the log may have the bytes."""
        representation = representation_of(found.page, level)
        address = (caller.tenant, representation.digest)
        data = self._cache.get(address)
        if data is not None:
            return data
        if level in found.inline:
            return self._keep(address, found.inline[level], found.page.page_id)
        if representation.placement.HasField("inline"):
            raise _Moved
        return await self._flights.do(address, partial(self._fetch, caller, _batch([representation]), 0, found.page))

    async def read_ahead(self, caller: Caller, wanted: Iterable[tuple[Found, int]]) -> None:
        """Bring contents into the cache, with one call for many. Failures are left to `read`, which raises them."""
        absent: dict[Address, tuple[page_pb2.Page, page_pb2.Representation]] = {}
        for found, level in wanted:
            representation = representation_of(found.page, level)
            address = (caller.tenant, representation.digest)
            if level not in found.inline and representation.placement.HasField("extent") and address not in self._cache:
                absent[address] = (found.page, representation)
        for some in blob_batches(absent.items(), lambda one: one[1][1].size_bytes):
            batch = _batch([representation for _, (_, representation) in some])
            loads = [
                self._flights.do(address, partial(self._fetch, caller, batch, index, page))
                for index, (address, (page, _)) in enumerate(some)
            ]
            await asyncio.gather(*loads, return_exceptions=True)

    async def _fetch(self, caller: Caller, batch: _Batch, index: int, page: page_pb2.Page) -> bytes:
        # The load serves everyone who asks for these bytes, so it is nobody's deadline that ends it.
        patient = caller.with_deadline(None)
        response = await self._calls.do(batch, lambda: self._artifacts.get_blobs(patient, batch.request))
        data = blob_of(response.items[index], f"page {page.page_id!r}", page_id=page.page_id)
        return self._keep((caller.tenant, batch.request.refs[index].digest), data, page.page_id)

    def _keep(self, address: Address, data: bytes, page_id: str) -> bytes:
        if sha256(data).digest() != address[1]:
            raise ContentCorrupt(f"the bytes of page {page_id!r} do not match their digest", page_id=page_id)
        self._cache.put(address, data)
        return data


def level_for(page: page_pb2.Page, target_level: int) -> int:
    """`target_level` where the page has it; else the nearest shorter level, and where there is none the shortest."""
    levels = [r.level for r in page.representations]
    return min((level for level in levels if level >= target_level), default=max(levels))


def _batch(representations: Iterable[page_pb2.Representation]) -> _Batch:
    refs = [artifact_pb.BlobRef(extent=one.placement.extent, digest=one.digest) for one in representations]
    return _Batch(artifact_pb.GetBlobsRequest(refs=refs))
