"""A replica that also has working-set and fault-handler, and what to ask of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.lru import Lru
from pagekeeper.fault_handler.compressing import Compressing
from pagekeeper.fault_handler.compression_runner import InlineCompressor
from pagekeeper.fault_handler.entries import Entries
from pagekeeper.fault_handler.loading import Loader
from pagekeeper.fault_handler.ports import PageTablePort, WorkingSetPort
from pagekeeper.fault_handler.service import FaultHandlerService
from pagekeeper.fault_handler.summarising import NoSummariser, Summariser
from pagekeeper.runtime.artifacts import GetBlobsPort
from pagekeeper.v1 import event_pb2, page_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from pagekeeper.v1 import working_set_service_pb2 as working_pb
from pagekeeper.working_set.service import WorkingSetService
from tests.unit.stack import WORDS, Replica, Stores, caller, following

CACHE_BYTES_MAX = 1024 * 1024


class FaultingReplica(Replica):
    def __init__(self, stores: Stores, name: str = "a", cache_bytes_max: int = CACHE_BYTES_MAX) -> None:
        super().__init__(stores, name)
        self.working_set = WorkingSetService(self.sessions, self.history)
        self.cache_bytes_max = cache_bytes_max
        self.summariser: Summariser = NoSummariser()
        self.compose(self.page_table, self.working_set, self.artifacts)

    def compose(self, page_table: PageTablePort, working_set: WorkingSetPort, artifacts: GetBlobsPort) -> None:
        """Make the fault handler, with somebody between it and the others perhaps."""
        self.entries = Entries(page_table, self.stores.log)
        loader = Loader(Lru(bytes_max=self.cache_bytes_max, size_bytes=len), self.entries, artifacts)
        compression_runner = InlineCompressor(CompressorRegistry.default(), WORDS.count)
        compressing = Compressing(self.entries, loader, page_table, compression_runner, self.summariser)
        self.faults = FaultHandlerService(self.entries, loader, working_set, compressing)

    async def fault(
        self, page_id: str, target_level: int = 0, *, min_revision: int = 0, request_id: str = ""
    ) -> pb.FaultPageResponse:
        request = pb.FaultPageRequest(
            request_id=request_id or self.request_id(),
            session_id="s1",
            page_id=page_id,
            target_level=target_level,
            min_revision=min_revision,
        )
        return await self.faults.fault(caller(), request)

    async def resident(self, known_revision: int = 0, available_limit: int = 100) -> working_pb.ResidentResponse:
        request = working_pb.ResidentRequest(
            session_id="s1", known_revision=known_revision, available_limit=available_limit
        )
        return await self.working_set.resident(caller(), request)

    async def begin_turn(self, request_id: str = "") -> pb.BeginTurnResponse:
        request = pb.BeginTurnRequest(request_id=request_id or self.request_id(), session_id="s1")
        return await self.working_set.begin_turn(caller(), request)

    async def push_out(self, *page_ids: str) -> None:
        """Talk until these pages are not resident."""
        for number in range(100):
            session = await self.fold()
            if not any(page_id in session.working_set for page_id in page_ids):
                return
            await self.append(said(f"filler-{self.name}-{number}-{session.revision}", 60))
        raise AssertionError("they do not leave")


def said(
    page_id: str, words: int, role: page_pb2.MessageRole.ValueType = page_pb2.MESSAGE_ROLE_USER
) -> page_pb2.PageInput:
    """A page with its own words."""
    return page_pb2.PageInput(page_id=page_id, text=text_of(page_id, words), role=role)


def text_of(page_id: str, words: int) -> str:
    return " ".join(f"{page_id}.{number}" for number in range(words))


async def represent(replica: FaultingReplica, page_id: str, level: int, text: str) -> None:
    data = text.encode()
    stored = event_pb2.StoredRepresentation(level=level, inline=data, digest=sha256(data).digest(), compressor="test/1")
    version = (await replica.lookup(page_id)).page.version
    added = event_pb2.AddedRepresentation(page_id=page_id, version=version, representation=stored)
    request = table_pb.AddRepresentationsRequest(
        request_id=replica.request_id(), session_id="s1", representations=[added]
    )
    await replica.page_table.add_representations(caller(), request)


@asynccontextmanager
async def serving(*replicas: FaultingReplica) -> AsyncIterator[None]:
    """The replicas hear of every append meanwhile, their TLBs too."""
    shootdowns = [asyncio.ensure_future(replica.entries.follow_log()) for replica in replicas]
    try:
        async with following(*replicas):
            yield
    finally:
        for shootdown in shootdowns:
            shootdown.cancel()
        await asyncio.wait(shootdowns)
