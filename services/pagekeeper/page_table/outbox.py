"""Background work that changes leave behind, published beside them and never before them.

A change that was acknowledged has noted its work here, in memory, and goes on; `run` publishes what was noted, a
session's pages together. Accepted: what was noted is lost when the process dies, or when the queue does not take it.
A write-back is noted again by the next append; pages whose compression is lost have no lower levels until somebody asks
for them.
"""

import asyncio
import logging
from typing import Final

from pagekeeper.core.ids import SessionKey
from pagekeeper.core.lru import Lru
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.queue.port import QueueError, WorkQueue
from pagekeeper.runtime.work import COMPRESS, WRITEBACK, compress_data

GATHER_SECONDS: Final = 0.25
"""How long work is gathered before it is published: a turn's pages become one item."""
WORK_PAGES_MAX: Final = 256
"""Pages of one item of work, so that a worker that dies repeats little."""
SESSIONS_MAX: Final = 10_000
"""Sessions with work that is not yet published; beyond, the oldest is forgotten."""
PUBLISHED_MAX: Final = 10_000
"""Write-backs that are remembered, so as not to be published again with every further append."""
REPUBLISH_SECONDS: Final = 150.0
"""A write-back that is still due after this was lost; by then the queue has forgotten its id."""

_log: Final = logging.getLogger(__name__)


class Outbox:
    def __init__(self, queue: WorkQueue, clock: Clock) -> None:
        self._queue = queue
        self._clock = clock
        self._noted = asyncio.Event()
        self._compress: Lru[SessionKey, tuple[int, dict[str, None]]] = Lru(count_max=SESSIONS_MAX)
        self._writeback: Lru[SessionKey, str] = Lru(count_max=SESSIONS_MAX)
        self._published: Lru[SessionKey, tuple[str, float]] = Lru(count_max=PUBLISHED_MAX)

    def note_compress(self, key: SessionKey, revision: int, page_ids: list[str]) -> None:
        """Pages that have no lower levels, as of `revision`."""
        _, noted = self._compress.peek(key) or (0, {})
        self._compress.put(key, (revision, noted | dict.fromkeys(page_ids)))
        self._noted.set()

    def note_writeback(self, key: SessionKey, work_id: str) -> None:
        """`work_id` names the part of the log that is to be written back; naming it again costs nothing."""
        published_id, published = self._published.peek(key) or ("", 0.0)
        if published_id == work_id and self._clock.monotonic() - published < REPUBLISH_SECONDS:
            return
        self._writeback.put(key, work_id)
        self._noted.set()

    async def run(self) -> None:
        """Publish until cancelled."""
        while True:
            await self._noted.wait()
            await asyncio.sleep(GATHER_SECONDS)
            await self.publish()

    async def publish(self) -> None:
        """Publish what was noted. Items that the queue refuses are logged and forgotten."""
        self._noted.clear()
        compress, self._compress = self._compress, Lru(count_max=SESSIONS_MAX)
        writeback, self._writeback = self._writeback, Lru(count_max=SESSIONS_MAX)
        for key, work_id in writeback.items():
            if await self._put(WRITEBACK, key, work_id, b""):
                self._published.put(key, (work_id, self._clock.monotonic()))
        for key, (revision, noted) in compress.items():
            page_ids = list(noted)
            for start in range(0, len(page_ids), WORK_PAGES_MAX):
                data = compress_data(page_ids[start : start + WORK_PAGES_MAX])
                await self._put(COMPRESS, key, f"{key.session}.{revision}.{start}", data)

    async def _put(self, kind: str, key: SessionKey, work_id: str, data: bytes) -> bool:
        try:
            await self._queue.publish(kind, key, work_id, data)
        except QueueError as error:
            _log.warning("work is not taken: %s", error, extra={"kind": kind, "session": key.session})
            return False
        return True
