"""Fault-handler put together, for a process of its own or for one that holds all services."""

import logging
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.lru import Lru
from pagekeeper.fault_handler.compressing import Compressing
from pagekeeper.fault_handler.compression_runner import CompressionRunner, ConfinedCompressor, InlineCompressor
from pagekeeper.fault_handler.entries import Entries
from pagekeeper.fault_handler.loading import Loader
from pagekeeper.fault_handler.ports import PageTablePort, WorkingSetPort
from pagekeeper.fault_handler.service import FaultHandlerService
from pagekeeper.fault_handler.summarising import ChatSummariser, NoSummariser, Summariser
from pagekeeper.fault_handler.transcribing import Transcribing
from pagekeeper.fault_handler.viewing import decoders_missing
from pagekeeper.runtime.artifacts import GetBlobsPort
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.queue.port import WorkQueue
from pagekeeper.runtime.settings import SummariserSettings
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from pagekeeper.runtime.work import COMPRESS

CACHE_BYTES_MAX: Final = 256 * 1024 * 1024
ENTRY_BYTES: Final = 512
"""What an entry of the cache takes beside its bytes, rounded up."""
COMPRESSIONS_AT_ONCE: Final = 8
"""Items of the background that are taken on, so that tenants can take turns at the few processes that compress."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FaultHandler:
    """The service, and the work that it does by itself."""

    service: FaultHandlerService
    entries: Entries
    queue: WorkQueue
    compression_runner: CompressionRunner
    summariser: Summariser

    def start(self, background: Background) -> None:
        background.start("shootdown", self.entries.follow_log)
        background.start("compress", self._compress)

    async def _compress(self) -> None:
        try:
            await self.queue.consume(COMPRESS, self.service.work_compress, concurrency=COMPRESSIONS_AT_ONCE)
        finally:
            await self.summariser.close()
            await self.compression_runner.close()


def compose(
    log: SessionLog,
    queue: WorkQueue,
    page_table: PageTablePort,
    working_set: WorkingSetPort,
    artifacts: GetBlobsPort,
    compression_runner: CompressionRunner,
    summariser: Summariser,
) -> FaultHandler:
    entries = Entries(page_table, log)
    loader = Loader(Lru(bytes_max=CACHE_BYTES_MAX, size_bytes=_size_bytes), entries, artifacts)
    compressing = Compressing(entries, loader, page_table, compression_runner, summariser)
    return FaultHandler(
        FaultHandlerService(entries, loader, working_set, compressing), entries, queue, compression_runner, summariser
    )


def open_compression_runner() -> CompressionRunner:
    missing = decoders_missing()
    if missing:
        _log.warning("media are what was written about them: the extra `media` is not installed", extra={"no": missing})
    return ConfinedCompressor(InlineCompressor(CompressorRegistry.default(), _count))


def open_summariser(settings: SummariserSettings) -> Summariser:
    """Raises CannotStart when an endpoint is named without its model."""
    summariser: Summariser = NoSummariser()
    if settings.summariser_url:
        summariser = ChatSummariser(
            settings.summariser_url,
            _named("SUMMARISER", settings.summariser_model),
            settings.summariser_key.get_secret_value(),
            _count,
            sees=settings.summariser_sees,
        )
    if settings.transcriber_url:
        model = _named("TRANSCRIBER", settings.transcriber_model)
        key = settings.transcriber_key.get_secret_value()
        summariser = Transcribing(summariser, settings.transcriber_url, model, key)
    return summariser


def _size_bytes(data: bytes) -> int:
    return ENTRY_BYTES + len(data)


def _named(what: str, model: str) -> str:
    if not model:
        raise CannotStart(f"PK_{what}_MODEL is missing: the model that PK_{what}_URL is to be asked for")
    return model


def _count(text: str) -> int:
    """Tells whether a level is worth having; page-table counts again, with the session's own tokenizer."""
    return tokenizer(EncodingName.O200K_BASE).count(text)
