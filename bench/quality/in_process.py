"""All services in this process, put together as `serve all` puts them, on the in-memory fakes of log and store.

What is measured here is the platform's own work: there is no wire, no disk and no server.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from random import Random
from typing import cast

from bench.quality.report import SEED
from pagekeeper.app.compose import compose
from pagekeeper.app.descriptors import MEMORY
from pagekeeper.artifact_storage import main as artifact_storage
from pagekeeper.client.api import MemoryService
from pagekeeper.client.connection import Pagekeeper
from pagekeeper.core.embedding import WordsAlone
from pagekeeper.fault_handler.main import open_compression_runner
from pagekeeper.fault_handler.summarising import NoSummariser
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.runtime.pool import InlinePool
from pagekeeper.runtime.queue.port import Retries
from pagekeeper.runtime.rpc.local import local
from tests.fakes.memory_bucket import MemoryBucket
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_queue import MemoryQueue

CALL_SECONDS = 120


@asynccontextmanager
async def platform() -> AsyncIterator[Pagekeeper]:
    """A client of it, with all its background work going on; nothing is left of either."""
    clock = SystemClock()
    store = BlobStore(MemoryBucket(clock), Random(SEED))
    await store.ensure_bucket()
    numbers = count()
    storage = artifact_storage.compose(store, lambda: f"{next(numbers):08x}")
    queue = MemoryQueue(Retries())
    pool = InlinePool()
    whole = compose(MemoryLog(), queue, storage, WordsAlone(), open_compression_runner(), NoSummariser(), clock, pool)
    async with Background(clock, Random(SEED)) as background:
        whole.start(background)
        yield Pagekeeper(cast(MemoryService, local(MEMORY, whole.gateway)), clock, CALL_SECONDS)
