"""Gateway put together, for a process of its own or for one that holds all services."""

from uuid import uuid4

from pagekeeper.core.events import SessionConfig
from pagekeeper.gateway.contents import Contents, content_cache
from pagekeeper.gateway.ports import FaultHandlerPort, PageTablePort, WorkingSetPort
from pagekeeper.gateway.service import GatewayService
from pagekeeper.runtime.artifacts import GetBlobsPort
from pagekeeper.runtime.pool import Pool
from pagekeeper.runtime.tokens import for_model


def compose(
    page_table: PageTablePort,
    working_set: WorkingSetPort,
    faults: FaultHandlerPort,
    artifacts: GetBlobsPort,
    pool: Pool,
) -> GatewayService:
    """Loads the default model's tokenizer, which takes half a second: the first prompt must not wait for it."""
    for_model(SessionConfig().model)
    contents = Contents(content_cache(), page_table, artifacts, pool)
    return GatewayService(page_table, working_set, faults, contents, lambda: uuid4().hex, pool)
