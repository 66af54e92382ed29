"""Page-table and artifact-storage whole, on the in-memory fakes of the log, the object store and the queue.

Two replicas may share the stores: each has its own folds and caches, as two processes have.
"""

import asyncio
import pickle
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import Final, TypeVar, TypeVarTuple

from pagekeeper.artifact_storage.objects import Objects, Ref
from pagekeeper.artifact_storage.service import ArtifactStorageService
from pagekeeper.core.embedding import WordsAlone
from pagekeeper.core.ids import SessionId, SessionKey, TenantId
from pagekeeper.core.session import Session
from pagekeeper.page_table.indexes import Indexes
from pagekeeper.page_table.outbox import Outbox
from pagekeeper.page_table.service import PageTableService
from pagekeeper.runtime import codec
from pagekeeper.runtime.artifacts import ArtifactBlobReader
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.extents import extent_of
from pagekeeper.runtime.history import History
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.pool import InlinePool, Pool
from pagekeeper.runtime.queue.port import Retries, WorkQueue
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.tokens import Tokenizer
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from tests.fakes.faulty_bucket import Faults, FaultyBucket
from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_bucket import MemoryBucket
from tests.fakes.memory_log import MemoryLog
from tests.fakes.memory_queue import MemoryQueue

TENANT: Final = TenantId("acme")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class WordTokenizer:
    """Counts words and lines: quick, and additive over lines as the real ones are."""

    name = "words"

    def count(self, text: str) -> int:
        return len(text.split()) + text.count("\n")


WORDS: Final = WordTokenizer()
IN_PLACE: Final = InlinePool()


class SeenPool(InlinePool):
    """Computes in place, with values that have gone through `pickle`, and remembers for whom and what."""

    def __init__(self) -> None:
        self.computed: list[tuple[str, str]] = []

    async def run(self, tenant: str, function: Callable[[*Ts], T], *args: *Ts) -> T:
        self.computed.append((tenant, function.__name__))
        await asyncio.sleep(0)
        sent: tuple[*Ts] = pickle.loads(pickle.dumps(args))  # noqa: S301 - what was made here
        answer: T = pickle.loads(pickle.dumps(await super().run(tenant, function, *sent)))  # noqa: S301 - as above
        return answer


def caller(tenant: str = TENANT) -> Caller:
    return Caller(TenantId(tenant), "test", None, "trace")


def key(session_id: str, tenant: str = TENANT) -> SessionKey:
    return SessionKey(TenantId(tenant), SessionId(session_id))


INDEX_BYTES_MAX = 64 * 1024**2


@dataclass
class Stores:
    """What replicas share."""

    clock: ManualClock = field(default_factory=ManualClock)
    log: SessionLog = field(default_factory=MemoryLog)
    queue: WorkQueue = field(default_factory=lambda: MemoryQueue(Retries()))
    ids: Iterator[int] = field(default_factory=count)
    seed: int = 1
    objects_made: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bucket = FaultyBucket(MemoryBucket(self.clock), Random(self.seed), Faults())

    def new_id(self) -> str:
        self.objects_made.append(f"{next(self.ids):08x}")
        return self.objects_made[-1]

    def behind(self, log: SessionLog) -> "Stores":
        """The same stores, with something between a replica and their log."""
        stores = replace(self, log=log)
        stores.bucket = self.bucket
        return stores


class Replica:
    """One process of the platform, without the parts that are not asked about here."""

    def __init__(
        self,
        stores: Stores,
        name: str = "a",
        tokenizer_of: Callable[[str], Tokenizer] = lambda _model: WORDS,
        pool: Pool = IN_PLACE,
    ) -> None:
        self.stores = stores
        self.name = name
        self.objects = Objects(BlobStore(stores.bucket, Random(2)), stores.new_id)
        self.artifacts = ArtifactStorageService(self.objects)
        self.blobs = ArtifactBlobReader(self.artifacts)
        self.sessions = Sessions(stores.log, self.blobs, stores.clock)
        self.history = History(stores.log, self.blobs, self.sessions)
        self.outbox = Outbox(stores.queue, stores.clock)
        self.page_table = PageTableService(
            stores.log,
            self.sessions,
            self.history,
            tokenizer_of,
            self.artifacts,
            Indexes(self.artifacts, WordsAlone(), INDEX_BYTES_MAX),
            self.outbox,
            stores.clock,
            pool,
        )
        self._requests = count()

    async def open(self, session_id: str = "s1", **config: float) -> session_pb2.Session:
        """By least recently used, so that who scripts it knows what leaves."""
        request = pb.OpenSessionRequest(
            request_id=self.request_id(),
            session_id=session_id,
            config=session_pb2.SessionConfig(**{"eviction_policy": "lru/1"} | config),  # type: ignore[arg-type]  # by name
        )
        return (await self.page_table.open_session(caller(), request)).session

    async def append(self, *pages: page_pb2.PageInput, session_id: str = "s1") -> pb.AppendPagesResponse:
        request = pb.AppendPagesRequest(request_id=self.request_id(), session_id=session_id, pages=pages)
        return await self.page_table.map_pages(caller(), request)

    async def lookup(self, page_id: str, session_id: str = "s1", version: int = 0) -> table_pb.PageEntry:
        request = table_pb.LookupRequest(session_id=session_id, page_ids=[page_id], version=version)
        return (await self.page_table.lookup(caller(), request)).entries[0]

    async def flush(self, session_id: str = "s1") -> pb.FlushSessionResponse:
        return await self.page_table.flush_session(caller(), pb.FlushSessionRequest(session_id=session_id))

    async def snapshot(self, session_id: str = "s1") -> table_pb.SnapshotSessionResponse:
        request = table_pb.SnapshotSessionRequest(session_id=session_id)
        return await self.page_table.snapshot_session(caller(), request)

    async def content(self, page_id: str, session_id: str = "s1", level: int = 0, version: int = 0) -> bytes:
        """The bytes of a page wherever they lie, verified where they are read from the object store."""
        entry = await self.lookup(page_id, session_id, version)
        inline = {one.level: one.data for one in entry.inline}
        if level in inline:
            return inline[level]
        [stored] = [one for one in entry.page.representations if one.level == level]
        found = await self.objects.get(TENANT, [Ref(extent_of(stored.placement.extent), stored.digest)])
        assert isinstance(found[0], bytes), found[0]
        return found[0]

    async def state(self, session_id: str = "s1") -> bytes:
        return codec.encode_state(await self.fold(session_id))

    async def fold(self, session_id: str = "s1") -> Session:
        return await self.sessions.read(key(session_id), strict=True)

    async def facts(self, session_id: str = "s1") -> dict[str, object]:
        """Everything that the fold knows, the trace that it leaves of itself aside."""
        session = await self.fold(session_id)
        known = vars(session) | {"working_set": list(session.working_set), "pages": list(session.pages.items())}
        return {name: value for name, value in known.items() if name != "changes"}

    def request_id(self) -> str:
        return f"{self.name}{next(self._requests)}"


@asynccontextmanager
async def following(*replicas: Replica) -> AsyncIterator[None]:
    """The replicas hear of every append meanwhile, as they do in service."""
    tasks = [asyncio.ensure_future(replica.sessions.follow_log()) for replica in replicas]
    await asyncio.sleep(0)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def ready(stores: Stores) -> Stores:
    """The stores, with a bucket."""
    await BlobStore(stores.bucket, Random(3)).ensure_bucket()
    return stores
