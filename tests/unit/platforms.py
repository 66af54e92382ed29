"""The whole platform on the in-memory fakes of the log, the queue and the object store.

Replicas share the stores, and have folds and caches of their own, as processes have.
"""

from itertools import count
from random import Random
from typing import Any, Final, Generic, Self, TypeVar

from pagekeeper.app.compose import Platform, compose
from pagekeeper.app.descriptors import MEMORY
from pagekeeper.artifact_storage import main as artifact_storage
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.embedding import WordsAlone
from pagekeeper.fault_handler.compression_runner import InlineCompressor
from pagekeeper.fault_handler.summarising import NoSummariser
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.pool import InlinePool
from pagekeeper.runtime.queue.port import Retries
from pagekeeper.runtime.rpc.local import local
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from tests.fakes.faulty_bucket import Faults, FaultyBucket
from tests.fakes.memory_bucket import MemoryBucket
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_queue import MemoryQueue
from tests.unit.stack import caller

C = TypeVar("C", bound=Clock)
RUNNER: Final = InlineCompressor(CompressorRegistry.default(), tokenizer(EncodingName.O200K_BASE).count)


class Platforms(Generic[C]):
    """What replicas share."""

    def __init__(self, clock: C) -> None:
        self.clock = clock
        self.log = MemoryLog()
        self.queue = MemoryQueue(Retries())
        self.bucket = FaultyBucket(MemoryBucket(self.clock), Random(1), Faults())
        self._objects = count()

    async def open(self) -> Self:
        await BlobStore(self.bucket, Random(2)).ensure_bucket()
        return self

    def replica(self) -> "PlatformReplica":
        storage = artifact_storage.compose(BlobStore(self.bucket, Random(3)), lambda: f"{next(self._objects):08x}")
        whole = compose(self.log, self.queue, storage, WordsAlone(), RUNNER, NoSummariser(), self.clock, InlinePool())
        return PlatformReplica(whole)


class PlatformReplica:
    """One process with all services. `api` has the RPCs of the gateway."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.api: Any = local(MEMORY, platform.gateway)

    async def snapshot(self, session_id: str) -> table_pb.SnapshotSessionResponse:
        request = table_pb.SnapshotSessionRequest(session_id=session_id)
        return await self.platform.page_table.service.snapshot_session(caller(), request)
