"""Page table entries, from the TLB where it has them.

The TLB hears of the sessions that it has entries of, and of no others. A session is watched before the page table is
asked, and until its line is dropped. Notices get lost, so an entry counts for UNHEARD_SECONDS_MAX from its question on.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.ids import SessionKey
from pagekeeper.core.tlb import Tlb
from pagekeeper.fault_handler.ports import PageTablePort
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.log import port as logs
from pagekeeper.runtime.log.connection import now
from pagekeeper.runtime.single_flight import SingleFlight
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import page_table_service_pb2 as table_pb

FOLLOW_RETRY_SECONDS: Final = 0.5
ENTRY_BYTES_MAX: Final = 4_096
"""A larger entry is asked for each time: with a megabyte of scenes in each, the TLB's entries would take 64 GB."""


@dataclass(frozen=True, slots=True)
class Found:
    """The page table's answer about a page, its revision, and the bytes in the answer by level.

    `asked_at` is when it was asked, a time of the event loop.
    """

    page: page_pb2.Page
    revision: int
    inline: dict[int, bytes]
    asked_at: float = 0.0


Asked = tuple[SessionKey, tuple[str, ...], int, int]
"""Session, pages, version, least revision."""


class Entries:
    """The way to the page table. Concurrent lookups of the same thing are one."""

    def __init__(self, page_table: PageTablePort, log: logs.SessionLog) -> None:
        self._page_table = page_table
        self._log = log
        self._tlb: Tlb[Found] = Tlb(self._unwatch)
        self._flights: SingleFlight[Asked, table_pb.LookupResponse] = SingleFlight()
        self._feed: logs.Feed | None = None
        self._watched: set[SessionKey] = set()

    async def find(self, caller: Caller, key: SessionKey, page_id: str, min_revision: int) -> Found:
        """Return the page's entry at `min_revision` or later, or raise SessionNotFound or PageNotFound."""
        found = self._known(key, page_id, min_revision)
        if found is None:
            (found,) = await self.look_up(caller, key, [page_id], min_revision)
        return found

    async def find_many(
        self, caller: Caller, key: SessionKey, page_ids: Sequence[str], min_revision: int
    ) -> dict[str, Found]:
        """The same for several, asking once. Raises SessionNotFound; PageNotFound when one of them does not exist."""
        known = {page_id: self._known(key, page_id, min_revision) for page_id in page_ids}
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
        feed, asked_at = await self._watch(key), now()
        asked = (key, tuple(page_ids), version, min_revision)
        request = table_pb.LookupRequest(
            session_id=key.session, page_ids=page_ids, version=version, min_revision=min_revision
        )
        # Its answer serves everyone who asks meanwhile, so it is nobody's deadline that ends it.
        patient = caller.with_deadline(None)
        response = await self._flights.do(asked, lambda: self._page_table.lookup(patient, request))
        found = [
            Found(entry.page, response.revision, {one.level: one.data for one in entry.inline}, asked_at)
            for entry in response.entries
        ]
        if feed is not None and feed is self._feed and not version:
            kept = [Found(_lasting(one.page), one.revision, {}, asked_at) for one in found]
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
                    self._feed = feed
                    async for notice in feed:
                        self._tlb.shoot_down(notice.key, notice.previous_revision, notice.revision, notice.touches)
            except logs.NoAnswer:
                await asyncio.sleep(FOLLOW_RETRY_SECONDS)
            finally:
                self._feed = None
                self._watched.clear()
                self._tlb.flush()

    def _known(self, key: SessionKey, page_id: str, min_revision: int) -> Found | None:
        if self._feed is None:
            return None
        found = self._tlb.lookup(key, page_id, min_revision)
        return found if found is not None and now() - found.asked_at < logs.UNHEARD_SECONDS_MAX else None

    async def _watch(self, key: SessionKey) -> logs.Feed | None:
        """Hear of a session before the page table is asked. Return the feed that will tell; None when none does."""
        feed = self._feed
        if feed is None or not self._tlb.listens(key):
            return None
        if key in self._watched:
            return feed
        feed.watch(key)
        try:
            await feed.settle()
        except logs.NoAnswer:
            return None
        if feed is not self._feed:
            return None
        if not self._tlb.listens(key):
            feed.unwatch(key)
            return None
        self._watched.add(key)
        return feed

    def _unwatch(self, key: SessionKey) -> None:
        self._watched.discard(key)
        if self._feed is not None:
            self._feed.unwatch(key)


def _lasting(page: page_pb2.Page) -> page_pb2.Page:
    """Return the part of an entry that holds until a notice touches the page: all but whether the page is resident."""
    lasting = page_pb2.Page()
    lasting.CopyFrom(page)
    lasting.resident_level = 0
    in_log = page.representations[0].placement.HasField("inline")
    lasting.tier = page_pb2.STORAGE_TIER_L1 if in_log else page_pb2.STORAGE_TIER_L2
    return lasting
