"""The methods of artifact-storage that page-table calls; the service and its remote proxy both have them."""

from typing import Protocol

from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb
from pagekeeper.v1 import memory_service_pb2 as pb


class ArtifactPort(Protocol):
    async def put_blobs(self, caller: Caller, request: artifact_pb.PutBlobsRequest) -> artifact_pb.PutBlobsResponse: ...
    async def get_blobs(self, caller: Caller, request: artifact_pb.GetBlobsRequest) -> artifact_pb.GetBlobsResponse: ...
    async def flush_session(self, caller: Caller, request: pb.FlushSessionRequest) -> pb.FlushSessionResponse: ...
