"""Page table entries, from the TLB where it has them."""

import asyncio
from typing import Final

from pagekeeper.fault_handler.ports import PageTablePort
from pagekeeper.memory.ids import SessionKey
from pagekeeper.memory.tlb import Tlb
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.log import port as logs
from pagekeeper.v1 import page_table_service_pb2 as table_pb

FOLLOW_RETRY_SECONDS: Final = 0.5


class Entries:
    def __init__(self, page_table: PageTablePort, log: logs.SessionLog) -> None:
        self._page_table = page_table
        self._log = log
        self._tlb: Tlb[table_pb.PageEntry] = Tlb()
        self._hears = False

    async def entry(self, caller: Caller, key: SessionKey, page_id: str, min_revision: int) -> table_pb.PageEntry:
        """Raises SessionNotFound, PageNotFound."""
        known = self._tlb.lookup(key, page_id, min_revision)
        if known is not None:
            return known
        return (await self.look_up(caller, key, [page_id], min_revision))[0]

    async def look_up(
        self, caller: Caller, key: SessionKey, page_ids: list[str], min_revision: int
    ) -> list[table_pb.PageEntry]:
        """Ask the page table itself. Raises SessionNotFound, PageNotFound."""
        request = table_pb.LookupRequest(session_id=key.session, page_ids=page_ids, min_revision=min_revision)
        response = await self._page_table.lookup(caller, request)
        entries = list(response.entries)
        if self._hears:
            self._tlb.fill(key, response.revision, zip(page_ids, entries, strict=True))
        return entries

    def advance(self, key: SessionKey, previous_revision: int, revision: int) -> None:
        """Note an append that touched no entry, before the feed tells of it."""
        if revision > previous_revision:
            self._tlb.shoot_down(key, previous_revision, revision, ())

    async def follow_log(self) -> None:
        """Shoot down what others change, until cancelled. While nothing is heard, nothing is kept."""
        while True:
            try:
                async with self._log.follow() as feed:
                    self._hears = True
                    async for notice in feed:
                        self._tlb.shoot_down(notice.key, notice.previous_revision, notice.revision, notice.touches)
            except (logs.LogUnavailable, logs.FeedRewound):
                await asyncio.sleep(FOLLOW_RETRY_SECONDS)
            finally:
                self._hears = False
                self._tlb.flush()
