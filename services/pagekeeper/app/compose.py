"""All services in one process, calling each other directly.

Each is made whole from those that stand before it: artifact-storage, page-table, working-set, fault-handler, gateway.
"""

from dataclasses import dataclass

from pagekeeper.app.descriptors import ARTIFACT_STORAGE, FAULT_HANDLER, PAGE_TABLE, WORKING_SET
from pagekeeper.artifact_storage.service import ArtifactStorageService
from pagekeeper.core.embedding import Embedder
from pagekeeper.fault_handler import main as fault_handler
from pagekeeper.fault_handler.compression_runner import CompressionRunner
from pagekeeper.fault_handler.summarising import Summariser
from pagekeeper.gateway import main as gateway
from pagekeeper.gateway.service import GatewayService
from pagekeeper.page_table import main as page_table
from pagekeeper.runtime.artifacts import ArtifactBlobReader
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.pool import Pool
from pagekeeper.runtime.queue.port import WorkQueue
from pagekeeper.runtime.rpc.local import local
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.settings import INDEX_BYTES_MAX
from pagekeeper.working_set import main as working_set


@dataclass(frozen=True, slots=True)
class Platform:
    """The public service, and the work of all services."""

    gateway: GatewayService
    sessions: Sessions
    page_table: page_table.PageTable
    fault_handler: fault_handler.FaultHandler

    def start(self, background: Background) -> None:
        background.start("feed", self.sessions.follow_log)
        self.page_table.start(background)
        self.fault_handler.start(background)


def compose(  # noqa: PLR0913, PLR0917 - what the services need
    log: SessionLog,
    queue: WorkQueue,
    artifact_storage: ArtifactStorageService,
    embedder: Embedder,
    compression_runner: CompressionRunner,
    summariser: Summariser,
    clock: Clock,
    pool: Pool,
    index_bytes_max: int = INDEX_BYTES_MAX,
) -> Platform:
    """One process: one cache of folded sessions, no gRPC between services."""
    artifacts = local(ARTIFACT_STORAGE, artifact_storage)
    blobs = ArtifactBlobReader(artifacts)
    sessions = Sessions(log, blobs, clock)
    table = page_table.compose(log, queue, sessions, blobs, artifacts, embedder, clock, pool, index_bytes_max)
    tables = local(PAGE_TABLE, table.service)
    working = local(WORKING_SET, working_set.compose(log, sessions, blobs))
    faults = fault_handler.compose(log, queue, tables, working, artifacts, compression_runner, summariser)
    public = gateway.compose(tables, working, local(FAULT_HANDLER, faults.service), artifacts, pool)
    return Platform(public, sessions, table, faults)
