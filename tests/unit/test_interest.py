"""A replica hears of the sessions that it has copies of, and of no others."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pagekeeper.core.errors import SessionNotFound
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.tlb import LINES_MAX
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.v1 import page_pb2
from tests.fakes.memory_log import MemoryLog
from tests.unit.faulting import FaultingReplica
from tests.unit.stack import Stores, caller, key, ready

CACHED_MAX = 3


@asynccontextmanager
async def followed(follow_log: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    following = asyncio.ensure_future(follow_log())
    await asyncio.sleep(0.01)
    try:
        yield
    finally:
        following.cancel()
        await asyncio.wait({following})


def keys(*names: str) -> set[SessionKey]:
    return {key(name) for name in names}


async def test_interest_follows_the_cache() -> None:
    stores = await ready(Stores())
    replica = FaultingReplica(stores, "a")
    sessions = Sessions(stores.log, replica.blobs, stores.clock, CACHED_MAX)
    log = stores.log
    assert isinstance(log, MemoryLog)
    async with followed(sessions.follow_log):
        for name in ("s1", "s2", "s3"):
            await sessions.read(key(name))
        assert log.watched == keys("s1", "s2", "s3")
        await sessions.read(key("s1"))
        await sessions.read(key("s4"))
        assert log.watched == keys("s1", "s3", "s4")
        # A connection that is lost takes all interest along; it comes back with the next read.
        log.disconnect()
        await asyncio.sleep(0.01)
        assert log.watched == set()
        await sessions.read(key("s3"))
        assert log.watched == keys("s3")
    assert log.watched == set()


async def test_the_tlb_hears_of_the_sessions_that_it_has_entries_of() -> None:
    stores = await ready(Stores())
    replica = FaultingReplica(stores, "a")
    log = stores.log
    assert isinstance(log, MemoryLog)
    await replica.open()
    await replica.append(page_pb2.PageInput(page_id="p", text="a harbour", role=page_pb2.MESSAGE_ROLE_USER))
    # Its sessions follow nothing here, so that all interest is the TLB's.
    async with followed(replica.entries.follow_log):
        assert (await replica.entries.find(caller(), key("s1"), "p", 0)).page.page_id == "p"
        assert log.watched == keys("s1")
        for number in range(LINES_MAX):
            with pytest.raises(SessionNotFound):
                await replica.entries.find(caller(), key(f"other{number}"), "p", 0)
        assert log.watched == keys(*(f"other{number}" for number in range(LINES_MAX)))
        log.disconnect()
        await asyncio.sleep(0.01)
        assert log.watched == set()
        await replica.entries.find(caller(), key("s1"), "p", 0)
        assert log.watched == keys("s1")
