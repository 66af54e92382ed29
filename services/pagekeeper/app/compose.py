"""All services in one process, calling each other directly.

They refer to each other in a circle: page-table stores what is too large for the log with artifact-storage, whose
write-back tells page-table where bytes lie. So page-table is given artifact-storage's methods before they are there.
"""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from pagekeeper.app.descriptors import ARTIFACT_STORAGE, FAULT_HANDLER, PAGE_TABLE, WORKING_SET
from pagekeeper.artifact_storage import main as artifact_storage
from pagekeeper.artifact_storage.objects import Objects
from pagekeeper.core.embedding import Embedder
from pagekeeper.fault_handler import main as fault_handler
from pagekeeper.fault_handler.compression_runner import CompressionRunner
from pagekeeper.fault_handler.summarising import Summariser
from pagekeeper.gateway import main as gateway
from pagekeeper.gateway.service import GatewayService
from pagekeeper.page_table import main as page_table
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.queue.port import WorkQueue
from pagekeeper.runtime.rpc.local import local
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.working_set import main as working_set


@dataclass(frozen=True, slots=True)
class Platform:
    """The public service, and the work of all services."""

    gateway: GatewayService
    sessions: Sessions
    page_table: page_table.PageTable
    artifact_storage: artifact_storage.ArtifactStorage
    fault_handler: fault_handler.FaultHandler

    def start(self, background: Background) -> None:
        background.start("feed", self.sessions.follow_log)
        self.page_table.start(background)
        self.artifact_storage.start(background)
        self.fault_handler.start(background)


def compose(
    log: SessionLog,
    queue: WorkQueue,
    objects: Objects,
    embedder: Embedder,
    compression_runner: CompressionRunner,
    summariser: Summariser,
    clock: Clock,
) -> Platform:
    """One process: one cache of folded sessions, no gRPC between services."""
    sessions = Sessions(log, objects, clock)
    artifacts: Any = SimpleNamespace()
    table = page_table.compose(log, queue, sessions, objects, artifacts, embedder, clock)
    tables = local(PAGE_TABLE, table.service)
    storage = artifact_storage.compose(objects, sessions, tables, queue)
    vars(artifacts).update(vars(local(ARTIFACT_STORAGE, storage.service)))
    working = local(WORKING_SET, working_set.compose(log, sessions, objects))
    faults = fault_handler.compose(log, queue, tables, working, artifacts, compression_runner, summariser)
    public = gateway.compose(tables, working, local(FAULT_HANDLER, faults.service), artifacts)
    return Platform(public, sessions, table, storage, faults)
