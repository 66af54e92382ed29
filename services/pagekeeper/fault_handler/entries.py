"""Page table entries, from the TLB where it has them."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.ids import SessionKey
from pagekeeper.core.tlb import Tlb
from pagekeeper.fault_handler.ports import PageTablePort
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.log import port as logs
from pagekeeper.runtime.single_flight import SingleFlight
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

FOLLOW_RETRY_SECONDS: Final = 0.5
ENTRY_BYTES_MAX: Final = 4_096
"""A larger entry is asked for each time: with a megabyte of scenes in each, the TLB's entries would take 64 GB."""


@dataclass(frozen=True, slots=True)
class Found:
    """The page table's answer about a page, its revision, and the bytes in the answer by level."""

    page: page_pb2.Page
    revision: int
    inline: dict[int, bytes]


Asked = tuple[SessionKey, tuple[str, ...], int, int]
"""Session, pages, version, least revision."""


class Entries:
    """The way to the page table. Concurrent lookups of the same thing are one."""

    def __init__(self, page_table: PageTablePort, log: logs.SessionLog) -> None:
        self._page_table = page_table
        self._log = log
        self._tlb: Tlb[Found] = Tlb()
        self._flights: SingleFlight[Asked, table_pb.LookupResponse] = SingleFlight()
        self._hears = False

    async def find(self, caller: Caller, key: SessionKey, page_id: str, min_revision: int) -> Found:
        """Return the page's entry at `min_revision` or later, or raise SessionNotFound or PageNotFound."""
        found = self._tlb.lookup(key, page_id, min_revision) if self._hears else None
        if found is None:
            (found,) = await self.look_up(caller, key, [page_id], min_revision)
        return found

    async def find_many(
        self, caller: Caller, key: SessionKey, page_ids: Sequence[str], min_revision: int
    ) -> dict[str, Found]:
        """The same for several, asking once. Raises SessionNotFound; PageNotFound when one of them does not exist."""
        known = {page_id: self._tlb.lookup(key, page_id, min_revision) for page_id in page_ids} if self._hears else {}
        found = {page_id: one for page_id, one in known.items() if one is not None}
        missing = [page_id for page_id in dict.fromkeys(page_ids) if page_id not in found]
        if missing:
            answers = await self.look_up(caller, key, missing, min_revision)
            found |= zip(missing, answers, strict=True)
        return found

    async def look_up(
        self, caller: Caller, key: SessionKey, page_ids: Sequence[str], min_revision: int, version: int = 0
    ) -> list[Found]:
        """Ask the page table; `version` 0 is the current version. Raises SessionNotFound, PageNotFound."""
        asked = (key, tuple(page_ids), version, min_revision)
        request = table_pb.LookupRequest(
            session_id=key.session, page_ids=page_ids, version=version, min_revision=min_revision
        )
        # Its answer serves everyone who asks meanwhile, so it is nobody's deadline that ends it.
        patient = caller.with_deadline(None)
        response = await self._flights.do(asked, lambda: self._page_table.lookup(patient, request))
        found = [
            Found(entry.page, response.revision, {one.level: one.data for one in entry.inline})
            for entry in response.entries
        ]
        if self._hears and not version:
            kept = [Found(_lasting(one.page), one.revision, {}) for one in found]
            small = [(one.page.page_id, one) for one in kept if one.page.ByteSize() <= ENTRY_BYTES_MAX]
            self._tlb.fill(key, response.revision, small)
        return found

    def advance(self, key: SessionKey, previous_revision: int, revision: int) -> None:
        """Note an append that touched no entry, before the feed tells of it."""
        self._tlb.advance(key, previous_revision, revision)

    async def follow_log(self) -> None:
        """Shoot down what others change, until cancelled. While nothing is heard, nothing is kept."""
        while True:
            try:
                async with self._log.follow() as feed:
                    self._hears = True
                    async for notice in feed:
                        self._tlb.shoot_down(notice.key, notice.previous_revision, notice.revision, notice.touches)
            except (logs.NoAnswer, logs.FeedRewound):
                await asyncio.sleep(FOLLOW_RETRY_SECONDS)
            finally:
                self._hears = False
                self._tlb.flush()


def _lasting(page: page_pb2.Page) -> page_pb2.Page:
    """Return the part of an entry that holds until a notice touches the page: all but whether the page is resident."""
    lasting = page_pb2.Page()
    lasting.CopyFrom(page)
    lasting.resident_level = 0
    in_log = page.representations[0].placement.HasField("inline")
    lasting.tier = page_pb2.STORAGE_TIER_L1 if in_log else page_pb2.STORAGE_TIER_L2
    return lasting
