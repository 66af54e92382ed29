"""The bytes that a fold needs, read through artifact-storage, which alone reads and verifies objects."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol, TypeVar

from pagekeeper.core.errors import ContentCorrupt, StoreUnavailable
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.pages import Extent
from pagekeeper.runtime.batches import batches
from pagekeeper.runtime.errors import reason_name
from pagekeeper.runtime.history import extent_message
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.work import platform_caller
from pagekeeper.v1 import artifact_storage_service_pb2 as pb
from pagekeeper.v1 import error_reason_pb2

BLOBS_PER_CALL_MAX: Final = 512
BLOB_BYTES_PER_CALL_MAX: Final = 4 * 1024 * 1024

T = TypeVar("T")


class BlobsPort(Protocol):
    """The methods of artifact-storage that a `BlobReader` calls."""

    async def get_blobs(self, caller: Caller, request: pb.GetBlobsRequest) -> pb.GetBlobsResponse: ...


class ArtifactBlobReader:
    """A `BlobReader`. Calls are made in the name of the session's tenant."""

    def __init__(self, artifacts: BlobsPort) -> None:
        self._artifacts = artifacts

    async def read_blob(self, key: SessionKey, extent: Extent, digest: bytes) -> bytes:
        """Raises StoreUnavailable, ContentCorrupt: also for what is gone, since the log says that it is there."""
        ref = pb.BlobRef(extent=extent_message(extent), digest=digest)
        response = await self._artifacts.get_blobs(platform_caller(key), pb.GetBlobsRequest(refs=[ref]))
        return blob_of(response.items[0], f"{extent.object_key} at {extent.offset:,}")


def blob_batches(wanted: Iterable[T], size_bytes: Callable[[T], int]) -> Iterator[list[T]]:
    """Split ranges into batches whose bytes fit one message."""
    return batches(wanted, size_bytes, count_max=BLOBS_PER_CALL_MAX, bytes_max=BLOB_BYTES_PER_CALL_MAX)


def blob_of(item: pb.BlobItem, what: str, **metadata: str) -> bytes:
    """The bytes of `what`. Raises ContentCorrupt when they are gone or not what was stored."""
    match item.failure:
        case error_reason_pb2.ERROR_REASON_UNSPECIFIED:
            return item.data
        case error_reason_pb2.ERROR_REASON_CONTENT_CORRUPT:
            raise ContentCorrupt(f"the stored bytes of {what} do not match their digest", **metadata)
        case error_reason_pb2.ERROR_REASON_PAGE_NOT_FOUND:
            raise ContentCorrupt(f"the stored bytes of {what} are gone", **metadata)
        case failure:
            reason = reason_name(failure)
            raise StoreUnavailable(f"the stored bytes of {what} could not be read: {reason}", **metadata)
