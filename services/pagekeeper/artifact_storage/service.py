"""Artifact storage: the RPCs over the tenants' objects."""

from pagekeeper.artifact_storage.objects import KINDS, Objects, Ref, Unread
from pagekeeper.core.errors import ContentTooLarge, InvalidField
from pagekeeper.core.ids import session_key
from pagekeeper.core.pages import Extent
from pagekeeper.runtime import limits
from pagekeeper.runtime.errors import reason_number
from pagekeeper.runtime.extents import extent_message
from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb


class ArtifactStorageService:
    """Implements `ArtifactStorageService` of the API. Stateless."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def put_blobs(self, caller: Caller, request: artifact_pb.PutBlobsRequest) -> artifact_pb.PutBlobsResponse:
        limits.check(request)
        key = session_key(caller.tenant, request.session_id)
        if request.kind not in KINDS:
            raise InvalidField("kind", f"must be one of {', '.join(sorted(KINDS))}, not {request.kind!r}")
        extents = await self._objects.put(key, request.kind, request.blobs)
        return artifact_pb.PutBlobsResponse(extents=[extent_message(extent) for extent in extents])

    async def get_blobs(self, caller: Caller, request: artifact_pb.GetBlobsRequest) -> artifact_pb.GetBlobsResponse:
        limits.check(request)
        size_bytes = sum([ref.extent.length for ref in request.refs])
        bytes_max = limits.limits_of(request, "refs").max_total_bytes
        if size_bytes > bytes_max:
            raise ContentTooLarge("refs", size_bytes, bytes_max)
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
