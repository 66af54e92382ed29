"""The search indexes of sessions, each kept up with its session's revision.

An index is derived from the session's current versions and can always be made again; a replica keeps those of the
sessions that were searched last. The fold's trace of changes names the changed pages, so a search after an append reads
the appended page and nothing else.

Invariant: an index says what the session said at the revision that it is for.
"""

import asyncio
import logging
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from operator import attrgetter
from typing import Final

from pagekeeper.core.embedding import Embedder
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.indexing import IndexUpkeep, PageToIndex, text_of
from pagekeeper.core.lru import Lru
from pagekeeper.core.session import Session
from pagekeeper.runtime.artifacts import GetBlobsPort, get_each
from pagekeeper.runtime.batches import batches
from pagekeeper.runtime.errors import reason_name
from pagekeeper.runtime.identity import Caller

BATCH_PAGES_MAX: Final = 64
BATCH_BYTES_MAX: Final = 4 * 1024 * 1024
"""Read from the object store with one call."""
SLICE_BYTES_MAX: Final = 64 * 1024
"""Indexed before every other caller is served again. Indexing takes about half a millisecond a KiB."""

_log: Final = logging.getLogger(__name__)


class Indexed(IndexUpkeep):
    """The index of one session at `revision`. The database is closed when no search uses the index any more."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder)
        self.lock = asyncio.Lock()
        weakref.finalize(self, self.index.close)


class Indexes:
    """The indexes of the sessions that were searched last, as many as take `bytes_max` together; one in any case.

    Their number is not bounded: the index of a short session takes 130 KB, and to make it anew takes as long as ten
    searches.
    """

    def __init__(self, artifacts: GetBlobsPort, embedder: Embedder, bytes_max: int) -> None:
        self._artifacts = artifacts
        self._embedder = embedder
        self._indexes: Lru[SessionKey, Indexed] = Lru(bytes_max=bytes_max, size_bytes=attrgetter("size_bytes"))

    @asynccontextmanager
    async def current(self, caller: Caller, key: SessionKey, session: Session) -> AsyncIterator[Indexed]:
        """The index at the session's revision, this caller's alone inside the block. Raises StoreUnavailable."""
        indexed = self._indexed(key)
        async with indexed.lock:
            await self._keep_up(caller, indexed, session)
            self._indexes.put(key, indexed)  # of another size now
            yield indexed

    def _indexed(self, key: SessionKey) -> Indexed:
        indexed = self._indexes.get(key)
        if indexed is None:
            indexed = Indexed(self._embedder)
            self._indexes.put(key, indexed)
        return indexed

    async def _keep_up(self, caller: Caller, indexed: Indexed, session: Session) -> None:
        """Bring the index to the session's revision. An index whose update fails is updated in part."""
        revision = session.revision
        due = indexed.due(session)
        slice_bytes = 0
        for batch in batches(due, attrgetter("to_read_bytes"), count_max=BATCH_PAGES_MAX, bytes_max=BATCH_BYTES_MAX):
            for page, text in zip(batch, await self._texts(caller, batch), strict=True):
                indexed.put(page, text)
                slice_bytes += page.to_read_bytes
                if slice_bytes >= SLICE_BYTES_MAX:
                    slice_bytes = 0
                    await asyncio.sleep(0)
            await asyncio.sleep(0)
        indexed.reach(revision)

    async def _texts(self, caller: Caller, batch: Sequence[PageToIndex]) -> list[str]:
        """Read the levels of a batch from the store. Raises StoreUnavailable.

        A page whose bytes are gone or wrong is found by its hint alone.
        """
        stored = [(page.page_id, page.stored) for page in batch if page.stored is not None]
        loaded: dict[str, str] = {}
        if stored:
            refs = [(one.extent, one.digest) for _, one in stored if one.extent is not None]
            items = await get_each(self._artifacts, caller, refs)
            for (page_id, stored_level), item in zip(stored, items, strict=True):
                if item.failure:
                    reason = reason_name(item.failure)
                    _log.warning("a page is not searchable", extra={"page": page_id, "reason": reason})
                else:
                    loaded[page_id] = text_of(item.data, stored_level)
        return [loaded.get(page.page_id, "") for page in batch]
