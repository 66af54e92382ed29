"""Artifact storage: the RPCs over the tenants' objects."""

from typing import Final

from pagekeeper.artifact_storage.objects import KINDS, Objects, Ref, Unread
from pagekeeper.core.errors import ContentTooLarge, InvalidField
from pagekeeper.core.ids import session_key
from pagekeeper.core.pages import Extent
from pagekeeper.runtime.errors import reason_number
from pagekeeper.runtime.extents import extent_message
from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb

BLOBS_MAX: Final = 1_024
BLOB_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of all blobs of one call: what one message carries."""


class ArtifactStorageService:
    """Implements `ArtifactStorageService` of the API. Stateless."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def put_blobs(self, caller: Caller, request: artifact_pb.PutBlobsRequest) -> artifact_pb.PutBlobsResponse:
        key = session_key(caller.tenant, request.session_id)
        if request.kind not in KINDS:
            raise InvalidField("kind", f"must be one of {', '.join(sorted(KINDS))}, not {request.kind!r}")
        _check_count("blobs", len(request.blobs))
        _check_size("blobs", sum(map(len, request.blobs)))
        extents = await self._objects.put(key, request.kind, request.blobs)
        return artifact_pb.PutBlobsResponse(extents=[extent_message(extent) for extent in extents])

    async def get_blobs(self, caller: Caller, request: artifact_pb.GetBlobsRequest) -> artifact_pb.GetBlobsResponse:
        _check_count("refs", len(request.refs))
        _check_size("refs", sum([ref.extent.length for ref in request.refs]))
        refs = [
            Ref(Extent(ref.extent.object_key, ref.extent.offset, ref.extent.length), ref.digest) for ref in request.refs
        ]
        found = await self._objects.get(caller.tenant, refs)
        return artifact_pb.GetBlobsResponse(
            items=[
                artifact_pb.BlobItem(failure=reason_number(one.error))
                if isinstance(one, Unread)
                else artifact_pb.BlobItem(data=one)
                for one in found
            ]
        )


def _check_count(field: str, count: int) -> None:
    if not 1 <= count <= BLOBS_MAX:
        raise InvalidField(field, f"must have 1 to {BLOBS_MAX:,} entries, not {count:,}")


def _check_size(field: str, size_bytes: int) -> None:
    if size_bytes > BLOB_BYTES_MAX:
        raise ContentTooLarge(field, size_bytes, BLOB_BYTES_MAX)
