"""What every work queue promises."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import SessionId, SessionKey, TenantId, session_key
from pagekeeper.runtime.queue.port import DeadLetter, Handler, WorkItem, WorkQueue
from tests.servers import eventually

WAIT_SECONDS = 10.0


class Worker:
    """A handler that keeps what it was given, and that can be told to fail."""

    def __init__(self) -> None:
        self.deliveries: list[WorkItem] = []
        self.done: list[WorkItem] = []
        self.failures_left: Counter[str] = Counter()
        self._changed = asyncio.Event()

    async def handle(self, item: WorkItem) -> None:
        self.deliveries.append(item)
        self._changed.set()
        if self.failures_left[item.work_id] > 0:
            self.failures_left[item.work_id] -= 1
            raise RuntimeError(f"cannot do {item.work_id}\nnot now")
        self.done.append(item)
        self._changed.set()

    async def has_done(self, count: int) -> list[WorkItem]:
        async with asyncio.timeout(WAIT_SECONDS):
            while len(self.done) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.done


@asynccontextmanager
async def consuming(queue: WorkQueue, kind: str, handler: Handler, *, concurrency: int = 4) -> AsyncIterator[None]:
    consumer = asyncio.ensure_future(queue.consume(kind, handler, concurrency=concurrency))
    try:
        yield
    finally:
        consumer.cancel()
        await asyncio.wait({consumer})
        assert consumer.cancelled()


async def dead_letters(queue: WorkQueue, kind: str, count: int) -> list[DeadLetter]:
    async def enough() -> bool:
        return len(await queue.dead_letters(kind, limit=100)) >= count

    await eventually(enough, timeout_seconds=WAIT_SECONDS)
    return await queue.dead_letters(kind, limit=100)


async def test_each_item_is_handled(queue: WorkQueue, kind: str, tenant: str) -> None:
    worker = Worker()
    keys = [session_key(tenant, f"s{number}") for number in range(40)]
    for number, key in enumerate(keys[:20]):
        await queue.publish(kind, key, f"w{number}", f"data {number}".encode())
    async with consuming(queue, kind, worker.handle):
        for number, key in enumerate(keys[20:], start=20):
            await queue.publish(kind, key, f"w{number}", f"data {number}".encode())
        done = await worker.has_done(40)
    assert sorted(done, key=lambda item: int(item.work_id[1:])) == [
        WorkItem(kind, key, f"w{number}", f"data {number}".encode(), delivery=1) for number, key in enumerate(keys)
    ]


async def test_an_item_published_twice_is_one_item(queue: WorkQueue, kind: str, tenant: str) -> None:
    worker = Worker()
    one, other = session_key(tenant, "s1"), session_key(tenant, "s2")
    await queue.publish(kind, one, "snapshot-9", b"")
    await queue.publish(kind, one, "snapshot-9", b"")
    async with consuming(queue, kind, worker.handle):
        await worker.has_done(1)
        await queue.publish(kind, one, "snapshot-9", b"")  # it was carried out already
        await queue.publish(kind, other, "snapshot-9", b"")  # another session's
        await queue.publish(kind, one, "snapshot-10", b"")
        done = await worker.has_done(3)
        await asyncio.sleep(0.1)
    assert Counter((item.key, item.work_id) for item in done) == {
        (one, "snapshot-9"): 1,
        (other, "snapshot-9"): 1,
        (one, "snapshot-10"): 1,
    }


async def test_kinds_do_not_mix(queue: WorkQueue, kind: str, key: SessionKey) -> None:
    one, other = Worker(), Worker()
    async with consuming(queue, kind, one.handle), consuming(queue, f"{kind}_x", other.handle):
        for number in range(5):
            await queue.publish(kind, key, f"w{number}", b"one")
            await queue.publish(f"{kind}_x", key, f"w{number}", b"other")
        assert {item.data for item in await one.has_done(5)} == {b"one"}
        assert {item.data for item in await other.has_done(5)} == {b"other"}


async def test_a_failed_item_comes_again_until_it_is_done(queue: WorkQueue, kind: str, key: SessionKey) -> None:
    worker = Worker()
    worker.failures_left["w1"] = 3
    await queue.publish(kind, key, "w1", b"data")
    await queue.publish(kind, key, "w2", b"data")
    async with consuming(queue, kind, worker.handle):
        done = await worker.has_done(2)
    assert [item.work_id for item in done] == ["w2", "w1"]
    assert [item.delivery for item in worker.deliveries if item.work_id == "w1"] == [1, 2, 3, 4]
    assert await queue.dead_letters(kind, limit=10) == []


async def test_an_item_that_always_fails_becomes_a_dead_letter(queue: WorkQueue, kind: str, key: SessionKey) -> None:
    worker = Worker()
    for number in range(3):
        worker.failures_left[f"w{number}"] = 1000
        await queue.publish(kind, key, f"w{number}", f"data {number}".encode())
    async with consuming(queue, kind, worker.handle):
        letters = await dead_letters(queue, kind, 3)
        await asyncio.sleep(0.2)
    assert Counter(item.work_id for item in worker.deliveries) == {"w0": 5, "w1": 5, "w2": 5}
    letters.sort(key=lambda letter: letter.item.work_id)
    assert letters == [
        DeadLetter(
            WorkItem(kind, key, f"w{number}", f"data {number}".encode(), delivery=5),
            f"RuntimeError: cannot do w{number} not now",
        )
        for number in range(3)
    ]
    assert len(await queue.dead_letters(kind, limit=2)) == 2
    assert await queue.dead_letters(f"{kind}_x", limit=2) == []


async def test_as_many_items_are_handled_at_once_as_was_asked_for(queue: WorkQueue, kind: str, key: SessionKey) -> None:
    running, most, finished = 0, 0, 0
    all_busy, all_done = asyncio.Event(), asyncio.Event()

    async def handle(_item: WorkItem) -> None:
        nonlocal running, most, finished
        running += 1
        most = max(most, running)
        if running == 3:
            all_busy.set()
        await asyncio.wait_for(all_busy.wait(), WAIT_SECONDS)
        await asyncio.sleep(0.01)
        running -= 1
        finished += 1
        if finished == 12:
            all_done.set()

    async with consuming(queue, kind, handle, concurrency=3):
        for number in range(12):
            await queue.publish(kind, key, f"w{number}", b"")
        await asyncio.wait_for(all_done.wait(), WAIT_SECONDS)
    assert most == 3


async def test_a_cancelled_consumer_gives_its_items_back(queue: WorkQueue, kind: str, key: SessionKey) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def hang(_item: WorkItem) -> None:
        started.set()
        try:
            await asyncio.sleep(WAIT_SECONDS)
        finally:
            ended.set()

    await queue.publish(kind, key, "w1", b"")
    async with consuming(queue, kind, hang, concurrency=2):
        await asyncio.wait_for(started.wait(), WAIT_SECONDS)
    assert ended.is_set()
    worker = Worker()
    async with consuming(queue, kind, worker.handle):
        (item,) = await worker.has_done(1)
    assert (item.work_id, item.delivery) == ("w1", 2)


async def test_a_handler_that_cancels_itself_has_failed(queue: WorkQueue, kind: str, key: SessionKey) -> None:
    deliveries: list[int] = []

    async def give_up(item: WorkItem) -> None:
        deliveries.append(item.delivery)
        raise asyncio.CancelledError

    await queue.publish(kind, key, "w1", b"")
    async with consuming(queue, kind, give_up):
        (letter,) = await dead_letters(queue, kind, 1)
    assert deliveries == [1, 2, 3, 4, 5]
    assert letter.error.startswith("CancelledError")


@pytest.mark.parametrize("wrong", ["", "A", "a.b", "*", ">", "a b", "x" * 33])
async def test_a_kind_is_a_plain_word(queue: WorkQueue, key: SessionKey, wrong: str) -> None:
    with pytest.raises(InvalidField):
        await queue.publish(wrong, key, "w1", b"")
    with pytest.raises(InvalidField):
        await queue.consume(wrong, Worker().handle, concurrency=1)
    with pytest.raises(InvalidField):
        await queue.dead_letters(wrong, limit=1)


@pytest.mark.parametrize("wrong", ["*", ">", "a.*", ""])
async def test_no_id_reaches_beyond_its_own_session(queue: WorkQueue, kind: str, key: SessionKey, wrong: str) -> None:
    for address in (SessionKey(key.tenant, SessionId(wrong)), SessionKey(TenantId(wrong), key.session)):
        with pytest.raises(InvalidField):
            await queue.publish(kind, address, "w1", b"")
    with pytest.raises(InvalidField):
        await queue.publish(kind, key, "w 1", b"")
    for limit in (0, 1001):
        with pytest.raises(InvalidField):
            await queue.dead_letters(kind, limit=limit)
