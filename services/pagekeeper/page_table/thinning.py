"""Thinning: the sessions that were not used for longest leave a partition that fills, but for one small record each.

A session whose log grows is written back by itself (`outbox`). Small sessions never grow enough, and millions of them
fill a log for good. So each replica looks at how full the partitions are. Where one is fuller than `FILL_MAX`, the
replica reads the oldest records and leaves a piece of `thin` work for the sessions of those that are not thin yet.

The work of a partition is bounded: `SESSIONS_AT_ONCE` are under way, and the position moves on when its record is thin
or gone, or was neither for long. Replicas that look at the same time leave the same work under the same ids, which the
queue takes once. The work is done on folds of its own, so the sessions in use stay in the replica's cache.
"""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.ids import SessionKey
from pagekeeper.page_table.snapshots import FILL_MAX, Snapshots
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.log.port import OldRecord, SessionLog
from pagekeeper.runtime.queue.port import QueueError, WorkItem, WorkQueue
from pagekeeper.runtime.session_records import from_log
from pagekeeper.runtime.work import THIN

LOOK_SECONDS: Final = 2.0
READS_MAX: Final = 4
RECORDS_AT_ONCE: Final = 512
"""Of a read. A look reads until it has found enough sessions, at most READS_MAX times: a million thin records are
passed in 17 minutes."""
SESSIONS_AT_ONCE: Final = 64
THIN_BYTES_MAX: Final = 1_024
"""A rollup of no more bytes is thin: nothing is gained by another one."""
STUCK_SECONDS: Final = 300.0
"""Sessions that cannot be thinned, because their content is corrupt for example, are passed over after so long."""
THINNED_AT_ONCE: Final = 2
"""Pieces of work at a time: the rest of the replica serves callers."""

_log: Final = logging.getLogger(__name__)


@dataclass(slots=True)
class _Position:
    """All records up to `revision` are thin, or were passed over. `since` is when it was last moved."""

    since: float
    revision: int = 0


class Thinning:
    def __init__(self, log: SessionLog, queue: WorkQueue, snapshots: Snapshots, clock: Clock) -> None:
        self._log = log
        self._queue = queue
        self._snapshots = snapshots
        self._clock = clock
        self._positions = [_Position(since=clock.monotonic()) for _ in range(log.partitions)]

    async def run(self) -> None:
        """Look at the partitions until cancelled. Raises LogUnavailable."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def work(self) -> None:
        """Do `thin` work until cancelled."""
        await self._queue.consume(THIN, self.do, concurrency=THINNED_AT_ONCE)

    async def do(self, item: WorkItem) -> None:
        """Handle a piece of `thin` work."""
        await self._snapshots.thin(item)

    async def look(self) -> None:
        """Leave work behind for the partitions that are filling. Raises LogUnavailable."""
        for partition, position in enumerate(self._positions):
            if await from_log(self._log.fill(partition)) >= FILL_MAX:
                await self._thin(partition, position)
            else:
                position.since = self._clock.monotonic()

    async def _thin(self, partition: int, position: _Position) -> None:
        cursor, thick = position.revision, list[OldRecord]()
        for _ in range(READS_MAX):
            records = await from_log(self._log.oldest(partition, after_revision=cursor, limit=RECORDS_AT_ONCE))
            if not records:
                break
            cursor = records[-1].revision
            thick += [record for record in records if not _is_thin(record)]
            if len({record.key for record in thick}) >= SESSIONS_AT_ONCE:
                break
        now = self._clock.monotonic()
        stuck = now - position.since > STUCK_SECONDS
        reached = thick[0].revision - 1 if thick and not stuck else cursor
        if cursor == position.revision:
            reached = 0  # the end: begin again
        if reached != position.revision:
            position.revision, position.since = reached, now
        await self._leave_work(thick)

    async def _leave_work(self, thick: Sequence[OldRecord]) -> None:
        """One piece for each session, named by the oldest record of it, so that naming it again costs nothing."""
        oldest: dict[SessionKey, OldRecord] = {}
        for record in thick:
            if len(oldest) < SESSIONS_AT_ONCE:
                oldest.setdefault(record.key, record)
        for key, record in oldest.items():
            try:
                await self._queue.publish(THIN, key, f"{key.session}.{record.revision}", b"")
            except QueueError as error:
                _log.warning("work is not taken: %s", error, extra={"kind": THIN, "session": key.session})
                return


def _is_thin(record: OldRecord) -> bool:
    return record.rollup and record.size_bytes <= THIN_BYTES_MAX
