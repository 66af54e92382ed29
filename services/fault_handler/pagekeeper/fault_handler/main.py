"""Fault-handler put together, for a process of its own or for one that holds all services."""

from dataclasses import dataclass
from typing import Final

from pagekeeper.fault_handler.compressing import Compressing
from pagekeeper.fault_handler.entries import Entries
from pagekeeper.fault_handler.loading import ContentCache, Loader
from pagekeeper.fault_handler.lowering import Apart, Here, Lowering
from pagekeeper.fault_handler.ports import ArtifactPort, PageTablePort, WorkingSetPort
from pagekeeper.fault_handler.service import FaultHandlerService
from pagekeeper.memory.compress.registry import CompressorRegistry
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.queue.port import WorkQueue
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from pagekeeper.runtime.work import COMPRESS

CACHE_BYTES_MAX: Final = 256 * 1024 * 1024
COMPRESSIONS_AT_ONCE: Final = 1
"""It is all computation, by one process."""


@dataclass(frozen=True, slots=True)
class FaultHandler:
    """The service, and the work that it does by itself."""

    service: FaultHandlerService
    entries: Entries
    queue: WorkQueue
    lowering: Lowering

    def start(self, background: Background) -> None:
        background.start("shootdown", self.entries.follow_log)
        background.start("compress", self._compress)

    async def _compress(self) -> None:
        try:
            await self.queue.consume(COMPRESS, self.service.work_compress, concurrency=COMPRESSIONS_AT_ONCE)
        finally:
            await self.lowering.close()


def compose(
    log: SessionLog,
    queue: WorkQueue,
    page_table: PageTablePort,
    working_set: WorkingSetPort,
    artifacts: ArtifactPort,
) -> FaultHandler:
    entries = Entries(page_table, log)
    loader = Loader(ContentCache(CACHE_BYTES_MAX), entries, artifacts)
    count = tokenizer(EncodingName.O200K_BASE).count
    lowering = Apart(Here(CompressorRegistry.default(), count))
    compressing = Compressing(entries, loader, page_table, lowering)
    return FaultHandler(FaultHandlerService(entries, loader, working_set, compressing), entries, queue, lowering)
