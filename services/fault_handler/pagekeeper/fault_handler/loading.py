"""Contents of pages, loaded once however many ask, and kept for a while: a version's bytes never change."""

from collections import OrderedDict
from typing import Final

from pagekeeper.fault_handler.ports import ArtifactPort
from pagekeeper.memory.errors import LevelUnavailable
from pagekeeper.memory.ids import SessionKey
from pagekeeper.runtime.blob_reader import blob_of
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.single_flight import SingleFlight
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

CACHE_BYTES_MAX: Final = 256 * 1024 * 1024

Address = tuple[SessionKey, str, int, int]
"""Session, page, version, level."""


class ContentCache:
    """Bytes by address, the least recently used forgotten first."""

    def __init__(self, bytes_max: int = CACHE_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._contents: OrderedDict[Address, bytes] = OrderedDict()

    def get(self, address: Address) -> bytes | None:
        data = self._contents.get(address)
        if data is not None:
            self._contents.move_to_end(address)
        return data

    def put(self, address: Address, data: bytes) -> None:
        if address in self._contents:
            return
        self._contents[address] = data
        self._bytes += len(data)
        while self._bytes > self._bytes_max:
            _, forgotten = self._contents.popitem(last=False)
            self._bytes -= len(forgotten)


class Loader:
    def __init__(self, cache: ContentCache, artifacts: ArtifactPort) -> None:
        self._cache = cache
        self._artifacts = artifacts
        self._flights: SingleFlight[Address, bytes] = SingleFlight()

    async def load(self, caller: Caller, key: SessionKey, entry: table_pb.PageEntry, level: int) -> bytes:
        """The verified bytes of a page at a level. Raises LevelUnavailable, StoreUnavailable, ContentCorrupt."""
        address = (key, entry.page.page_id, entry.page.version, level)
        data = self._cache.get(address)
        if data is None:
            data = _inline(entry, level)
        if data is None:
            # The load serves everyone who asks for these bytes, so it is nobody's deadline that ends it.
            patient = caller.with_deadline(None)
            data = await self._flights.do(address, lambda: self._fetch(patient, entry.page, level))
        self._cache.put(address, data)
        return data

    async def _fetch(self, caller: Caller, page: page_pb2.Page, level: int) -> bytes:
        representation = representation_at(page, level)
        ref = artifact_pb.BlobRef(extent=representation.placement.extent, digest=representation.digest)
        response = await self._artifacts.get_blobs(caller, artifact_pb.GetBlobsRequest(refs=[ref]))
        return blob_of(response.items[0], f"page {page.page_id!r}", page_id=page.page_id)


def representation_at(page: page_pb2.Page, level: int) -> page_pb2.Representation:
    """Raises LevelUnavailable."""
    for representation in page.representations:
        if representation.level == level:
            return representation
    raise LevelUnavailable(f"page {page.page_id!r} has no level {level}", page_id=page.page_id, level=str(level))


def level_for(page: page_pb2.Page, target_level: int) -> int:
    """The lowest fidelity that is not below `target_level`."""
    return max(r.level for r in page.representations if r.level <= target_level)


def _inline(entry: table_pb.PageEntry, level: int) -> bytes | None:
    return next((one.data for one in entry.inline if one.level == level), None)
