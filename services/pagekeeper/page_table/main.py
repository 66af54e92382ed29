"""Page-table put together, for a process of its own or for one that holds all services."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pagekeeper.core.embedding import Embedder
from pagekeeper.core.events import SessionConfig
from pagekeeper.page_table.indexes import Indexes
from pagekeeper.page_table.outbox import Outbox
from pagekeeper.page_table.service import PageTableService
from pagekeeper.page_table.snapshots import Snapshots
from pagekeeper.page_table.thinning import THINNED_AT_ONCE, Thinning
from pagekeeper.page_table.write_back import WriteBack
from pagekeeper.runtime.artifacts import ArtifactPort
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.history import History
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.pool import Pool
from pagekeeper.runtime.queue.port import WorkQueue
from pagekeeper.runtime.sessions import BlobReader, Sessions
from pagekeeper.runtime.tokens import Tokenizer, for_model
from pagekeeper.runtime.work import WRITEBACK

WRITEBACKS_AT_ONCE: Final = 4
"""Each holds a segment of up to 8 MiB, then a session's whole state, and mostly waits for the object store."""
MODELS_REMEMBERED_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class PageTable:
    """The service, and the work that it does by itself."""

    service: PageTableService
    outbox: Outbox
    thinning: Thinning
    queue: WorkQueue

    def start(self, background: Background) -> None:
        background.start("outbox", self.outbox.run)
        background.start(
            "write-back",
            lambda: self.queue.consume(WRITEBACK, self.service.work, concurrency=WRITEBACKS_AT_ONCE),
        )
        background.start("thinning", self.thinning.run)
        background.start("thin", self.thinning.work)


@lru_cache(maxsize=MODELS_REMEMBERED_MAX)
def tokenizer_of(model: str) -> Tokenizer:
    """How to count for a model; asked for with every append."""
    return for_model(model).tokenizer


def compose(  # noqa: PLR0913, PLR0917 - what its parts need
    log: SessionLog,
    queue: WorkQueue,
    sessions: Sessions,
    blobs: BlobReader,
    artifacts: ArtifactPort,
    embedder: Embedder,
    clock: Clock,
    pool: Pool,
    index_bytes_max: int,
) -> PageTable:
    """`sessions` must be kept current by whoever made it: see `Sessions.follow_log`.

    Loads the default model's tokenizer, which takes half a second: the first append must not wait for it.
    """
    tokenizer_of(SessionConfig().model)
    outbox = Outbox(queue, clock)
    history = History(log, blobs, sessions)
    indexes = Indexes(artifacts, embedder, index_bytes_max)
    service = PageTableService(log, sessions, history, tokenizer_of, artifacts, indexes, outbox, clock, pool)
    return PageTable(service, outbox, open_thinning(log, queue, blobs, artifacts, clock), queue)


def open_thinning(
    log: SessionLog, queue: WorkQueue, blobs: BlobReader, artifacts: ArtifactPort, clock: Clock
) -> Thinning:
    """Thinning, with folds that are kept no longer than its work takes, and that ask the log's leader each time."""
    sessions = Sessions(log, blobs, clock, cached_max=THINNED_AT_ONCE)
    snapshots = Snapshots(log, sessions, artifacts, WriteBack(sessions, artifacts))
    return Thinning(log, queue, snapshots, clock)
