"""Artifact storage: the RPCs over the tenants' objects, and write-back."""

from typing import Final

from pagekeeper.artifact_storage.objects import KINDS, Objects, Ref, Unread
from pagekeeper.artifact_storage.write_back import WriteBack
from pagekeeper.core.errors import ContentTooLarge, InvalidField, SessionNotFound
from pagekeeper.core.ids import session_key
from pagekeeper.core.pages import Extent
from pagekeeper.runtime.history import extent_message
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.queue.port import WorkItem, WorkQueue
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.work import SNAPSHOT, platform_caller
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb
from pagekeeper.v1 import memory_service_pb2 as pb

BLOBS_MAX: Final = 1_024
BLOB_BYTES_MAX: Final = 8 * 1024 * 1024
"""Of all blobs of one call: what one message carries."""


class ArtifactStorageService:
    """Implements `ArtifactStorageService` of the API, and `writeback` work. Stateless."""

    def __init__(self, objects: Objects, sessions: Sessions, write_back: WriteBack, queue: WorkQueue) -> None:
        self._objects = objects
        self._sessions = sessions
        self._write_back = write_back
        self._queue = queue

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
                artifact_pb.BlobItem(failure=one.failure) if isinstance(one, Unread) else artifact_pb.BlobItem(data=one)
                for one in found
            ]
        )

    async def stat_blob(self, caller: Caller, request: artifact_pb.StatBlobRequest) -> artifact_pb.StatBlobResponse:
        size_bytes = await self._objects.size_bytes(caller.tenant, request.object_key)
        return artifact_pb.StatBlobResponse(size_bytes=size_bytes)

    async def flush_session(self, caller: Caller, request: pb.FlushSessionRequest) -> pb.FlushSessionResponse:
        key = session_key(caller.tenant, request.session_id)
        session = await self._sessions.read_existing(key, min_revision=request.min_revision)
        flushed = await self._write_back.flush(caller, key, session)
        return pb.FlushSessionResponse(
            revision=flushed.revision, placed=flushed.placed, placed_bytes=flushed.placed_bytes
        )

    async def work(self, item: WorkItem) -> None:
        """Handle a piece of `writeback` work: flush, then have a snapshot taken of what is clean.

        A session that was deleted meanwhile needs neither. The item's id names the part of the log that is meant, so
        it is also the snapshot's.
        """
        request = pb.FlushSessionRequest(session_id=item.key.session)
        try:
            await self.flush_session(platform_caller(item.key), request)
        except SessionNotFound:
            return
        await self._queue.publish(SNAPSHOT, item.key, item.work_id, b"")


def _check_count(field: str, count: int) -> None:
    if not 1 <= count <= BLOBS_MAX:
        raise InvalidField(field, f"must have 1 to {BLOBS_MAX:,} entries, not {count:,}")


def _check_size(field: str, size_bytes: int) -> None:
    if size_bytes > BLOB_BYTES_MAX:
        raise ContentTooLarge(field, size_bytes, BLOB_BYTES_MAX)
