"""Artifact-storage as its callers see it: bytes go in and come out as values, in calls of a size that a message takes.

Artifact-storage alone reads the object store, and verifies what it read. A reason that comes back instead of bytes
becomes the exception here that the reason names.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, Protocol, TypeVar

from pagekeeper.core.errors import ContentCorrupt, StoreUnavailable
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.pages import Extent
from pagekeeper.runtime.batches import batches
from pagekeeper.runtime.errors import reason_name
from pagekeeper.runtime.extents import extent_message, extent_of
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.work import platform_caller
from pagekeeper.v1 import artifact_storage_service_pb2 as pb
from pagekeeper.v1 import error_reason_pb2

BLOBS_PER_CALL_MAX: Final = 512
BLOB_BYTES_PER_CALL_MAX: Final = 4 * 1024 * 1024

T = TypeVar("T")


class GetBlobsPort(Protocol):
    """The reading half of artifact-storage."""

    async def get_blobs(self, caller: Caller, request: pb.GetBlobsRequest) -> pb.GetBlobsResponse: ...


class ArtifactPort(GetBlobsPort, Protocol):
    """Both halves of artifact-storage."""

    async def put_blobs(self, caller: Caller, request: pb.PutBlobsRequest) -> pb.PutBlobsResponse: ...


class ArtifactBlobReader:
    """A `BlobReader`. Calls are made in the name of the session's tenant."""

    def __init__(self, artifacts: GetBlobsPort) -> None:
        self._artifacts = artifacts

    async def read_blob(self, key: SessionKey, extent: Extent, digest: bytes) -> bytes:
        """Raises StoreUnavailable, ContentCorrupt: also for what is gone, since the log says that it is there."""
        [item] = await get_each(self._artifacts, platform_caller(key), [(extent, digest)])
        return blob_of(item, f"{extent.object_key} at {extent.offset:,}")


async def put(
    artifacts: ArtifactPort, caller: Caller, key: SessionKey, kind: str, blobs: Sequence[bytes]
) -> list[Extent]:
    """Store blobs as one object; durable on return. Raises StoreUnavailable, ContentTooLarge."""
    request = pb.PutBlobsRequest(session_id=key.session, blobs=blobs, kind=kind)
    response = await artifacts.put_blobs(caller, request)
    return [extent_of(extent) for extent in response.extents]


async def get_each(
    artifacts: GetBlobsPort, caller: Caller, refs: Iterable[tuple[Extent, bytes]]
) -> Sequence[pb.BlobItem]:
    """An item for each extent and SHA-256, in their order: its `data` or a `failure`. Raises StoreUnavailable."""
    request = pb.GetBlobsRequest(
        refs=[pb.BlobRef(extent=extent_message(extent), digest=digest) for extent, digest in refs]
    )
    return (await artifacts.get_blobs(caller, request)).items


def blob_batches(wanted: Iterable[T], size_bytes: Callable[[T], int]) -> Iterator[list[T]]:
    """Split what is wanted into pieces whose bytes come in one message."""
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
