"""A partition that fills makes room by itself: sessions that were not used for longest leave it, and lose nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pagekeeper.core import events as ev
from pagekeeper.core.errors import LogFull
from pagekeeper.page_table.main import open_thinning
from pagekeeper.page_table.snapshots import FILL_MAX
from pagekeeper.page_table.thinning import SESSIONS_AT_ONCE, STUCK_SECONDS, THIN_BYTES_MAX, Thinning
from pagekeeper.runtime import codec
from pagekeeper.runtime.queue.port import WorkItem
from pagekeeper.runtime.sessions import Request
from pagekeeper.runtime.work import THIN
from pagekeeper.v1 import page_pb2
from tests.fakes.memory_log import MemoryLog
from tests.unit.stack import Replica, Stores, key, ready

PAGES = 3
TEXT = "The tide comes in at dawn and goes at dusk. " * 10


def small_log(partition_bytes_max: int = 256_000) -> MemoryLog:
    return MemoryLog(partitions=1, partition_bytes_max=partition_bytes_max)


def thinning_of(replica: Replica) -> Thinning:
    stores = replica.stores
    return open_thinning(stores.log, stores.queue, replica.blobs, replica.artifacts, stores.clock)


async def fill(replica: Replica, *, sessions_max: int = 1_000, prefix: str = "s") -> list[str]:
    """Open small sessions until the log is full, or there are so many; those that have all their pages."""
    filled: list[str] = []
    while len(filled) < sessions_max:
        name = f"{prefix}{len(filled)}"
        try:
            await replica.open(name)
            for number in range(PAGES):
                page = page_pb2.PageInput(page_id=f"p{number}", text=f"{name} {number}: {TEXT}")
                await replica.append(page, session_id=name)
        except LogFull:
            return filled
        filled.append(name)
    return filled


@asynccontextmanager
async def at_work(thinning: Thinning) -> AsyncIterator[None]:
    worker = asyncio.ensure_future(thinning.work())
    try:
        yield
    finally:
        worker.cancel()
        await asyncio.wait({worker})


async def look_until_there_is_room(thinning: Thinning, log: MemoryLog) -> int:
    """How often it took to look."""
    for looks in range(1_000):
        if await log.fill(0) < FILL_MAX:
            return looks
        await thinning.look()
        for _ in range(200):
            await asyncio.sleep(0)
    raise AssertionError


async def test_a_full_log_makes_room_by_itself_and_nothing_is_lost() -> None:
    log = small_log()
    replica = Replica(await ready(Stores(log=log)))
    filled = await fill(replica)
    assert len(filled) > 40
    before = {name: codec.encode_state(await replica.sessions.read(key(name))) for name in filled}
    thinning = thinning_of(replica)
    async with at_work(thinning):
        await look_until_there_is_room(thinning, log)
    assert len(await fill(replica, sessions_max=0)) == 0
    await replica.open("after")
    other = Replica(replica.stores, name="b")
    thin = 0
    for name in filled:
        records = await log.read(key(name), strict=True)
        thin += len(records) == 1 and records[0].rollup and len(records[0].data) <= THIN_BYTES_MAX
        for number in range(PAGES):
            assert await other.content(f"p{number}", name) == f"{name} {number}: {TEXT}".encode()
        session = await other.sessions.read(key(name), strict=True)
        assert [page.page_id for page in session.mapped_pages()] == [f"p{number}" for number in range(PAGES)]
        assert session.working_set.used_tokens == codec.decode_state(before[name], 1).working_set.used_tokens
    assert 0 < thin < len(filled)
    # The coldest went first: those that were written to last are as they were.
    assert len(await log.read(key(filled[-1]), strict=True)) == PAGES + 1
    await replica.append(page_pb2.PageInput(page_id="more", text="more"), session_id=filled[0])
    assert [one.page_id for one in (await other.sessions.read(key(filled[0]), strict=True)).mapped_pages()][
        -1
    ] == "more"


async def test_a_log_with_room_is_left_alone() -> None:
    log = small_log()
    replica = Replica(await ready(Stores(log=log)))
    filled = await fill(replica, sessions_max=20)
    thinning = thinning_of(replica)
    async with at_work(thinning):
        for _ in range(5):
            await thinning.look()
            await asyncio.sleep(0)
    for name in filled:
        assert len(await log.read(key(name), strict=True)) == PAGES + 1


async def test_replicas_leave_each_piece_of_work_once_and_few_at_a_time() -> None:
    log = small_log(1_000_000)
    replica = Replica(await ready(Stores(log=log)))
    filled = await fill(replica)
    assert len(filled) > SESSIONS_AT_ONCE
    left: Counter[str] = Counter()

    async def note(item: WorkItem) -> None:
        left[item.key.session] += 1

    consumer = asyncio.ensure_future(replica.stores.queue.consume(THIN, note, concurrency=4))
    for thinning in (thinning_of(replica), thinning_of(Replica(replica.stores, name="b"))):
        for _ in range(3):
            await thinning.look()
    for _ in range(500):
        await asyncio.sleep(0)
    consumer.cancel()
    await asyncio.wait({consumer})
    assert list(left) == filled[:SESSIONS_AT_ONCE]
    assert set(left.values()) == {1}


async def test_a_session_that_cannot_be_thinned_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pagekeeper.page_table.thinning.RECORDS_AT_ONCE", 8)
    monkeypatch.setattr("pagekeeper.page_table.thinning.READS_MAX", 1)
    log = small_log()
    replica = Replica(await ready(Stores(log=log)))
    filled = await fill(replica)
    thinning = thinning_of(replica)
    one_done, another_done = thinning_of(replica), asyncio.Event()

    async def all_but_the_first(item: WorkItem) -> None:
        if item.key.session != filled[0]:
            await one_done.do(item)
            another_done.set()

    consumer = asyncio.ensure_future(replica.stores.queue.consume(THIN, all_but_the_first, concurrency=4))
    await look_until_there_is_room(thinning, log)
    assert another_done.is_set()
    later = await fill(replica, prefix="t")
    another_done.clear()
    for _ in range(5):
        await thinning.look()
        for _ in range(200):
            await asyncio.sleep(0)
    replica.stores.clock.advance(STUCK_SECONDS + 1)
    await look_until_there_is_room(thinning, log)
    consumer.cancel()
    await asyncio.wait({consumer})
    assert another_done.is_set()
    assert len(later) > 10
    assert len(await log.read(key(filled[0]), strict=True)) == PAGES + 1


async def test_a_flush_in_a_filling_partition_makes_the_log_shorter() -> None:
    log = small_log()
    replica = Replica(await ready(Stores(log=log)))
    filled = await fill(replica)
    used = await log.fill(0)
    flushed = await replica.flush(filled[-1])
    assert flushed.placed == PAGES
    [record] = await log.read(key(filled[-1]), strict=True)
    assert record.revision == flushed.revision
    assert await log.fill(0) < used


async def test_a_session_that_an_earlier_release_deleted_gets_its_tombstone() -> None:
    log = small_log()
    replica = Replica(await ready(Stores(log=log)))
    filled = await fill(replica)
    await replica.sessions.commit(key(filled[0]), Request("old-delete", b""), lambda _: ev.SessionDeleted())
    assert len(await log.read(key(filled[0]), strict=True)) == PAGES + 2
    thinning = thinning_of(replica)
    async with at_work(thinning):
        await look_until_there_is_room(thinning, log)
    [tombstone] = await log.read(key(filled[0]), strict=True)
    assert tombstone.rollup
    assert not (await replica.sessions.read(key(filled[0]), strict=True)).exists
