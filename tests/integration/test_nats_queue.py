"""The work queue while servers and workers die."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from pagekeeper.core.ids import session_key
from pagekeeper.runtime.log.connection import Connection, connect, now
from pagekeeper.runtime.log.jetstream import ask
from pagekeeper.runtime.log.streams import Capacity, make_streams
from pagekeeper.runtime.queue.nats_queue import NatsQueue
from pagekeeper.runtime.queue.port import QueueFull, QueueUnavailable, Retries, WorkItem
from tests.servers import NatsServer, Proxy, eventually

KEY = session_key("acme", "s1")
QUICK = Retries(seconds_min=0.02, seconds_max=0.1, silence_seconds_max=0.6)


@asynccontextmanager
async def connected(url: str, *, work_bytes_max: int = 64 * 1024**2) -> AsyncIterator[Connection]:
    capacity = Capacity(log_bytes_max=8 * 1024**2, work_bytes_max=work_bytes_max)
    async with connect([url], name="integration") as connection:
        await make_streams(connection, partitions=1, capacity=capacity)
        yield connection


@asynccontextmanager
async def consuming(queue: NatsQueue, done: list[WorkItem], *, seconds: float = 0.0) -> AsyncIterator[None]:
    async def handle(item: WorkItem) -> None:
        await asyncio.sleep(seconds)
        done.append(item)

    consumer = asyncio.ensure_future(queue.consume("pack", handle, concurrency=3))
    try:
        yield
    finally:
        consumer.cancel()
        await asyncio.wait({consumer})
        assert consumer.cancelled()


async def until(done: list[WorkItem], count: int, timeout_seconds: float = 20.0) -> set[str]:
    async def enough() -> bool:
        return len({item.work_id for item in done}) >= count

    await eventually(enough, timeout_seconds=timeout_seconds)
    return {item.work_id for item in done}


async def test_items_survive_the_server_and_consumers_go_on(nats_server: NatsServer) -> None:
    done: list[WorkItem] = []
    async with connected(nats_server.url) as connection:
        queue = NatsQueue(connection, QUICK, partitions=1)
        async with consuming(queue, done):
            for number in range(90):
                if number % 30 == 20:
                    nats_server.kill()
                    await asyncio.to_thread(nats_server.start)
                await queue.publish("pack", KEY, f"w{number}", b"")
            assert await until(done, 90) == {f"w{number}" for number in range(90)}


@pytest.mark.parametrize("end", [NatsServer.stop, NatsServer.kill], ids=["stop", "kill"])
async def test_an_idle_consumer_goes_on_after_a_restart(
    nats_server: NatsServer, end: Callable[[NatsServer], None]
) -> None:
    done: list[WorkItem] = []
    async with connected(nats_server.url) as connection:
        queue = NatsQueue(connection, QUICK, partitions=1)
        async with consuming(queue, done):
            await queue.publish("pack", KEY, "before", b"")
            await until(done, 1)
            await asyncio.sleep(0.3)  # until every worker has asked and is waiting
            end(nats_server)
            await asyncio.to_thread(nats_server.start)
            await queue.publish("pack", KEY, "after", b"")
            assert await until(done, 2, timeout_seconds=5) == {"before", "after"}


async def test_a_consumer_that_was_deleted_is_made_again(nats_server: NatsServer) -> None:
    done: list[WorkItem] = []
    async with connected(nats_server.url) as connection:
        queue = NatsQueue(connection, QUICK, partitions=1)
        async with consuming(queue, done):
            await queue.publish("pack", KEY, "before", b"")
            await until(done, 1)
            await ask(connection, "CONSUMER.DELETE.PK_WORK.pack", {}, deadline=now() + 5)
            await queue.publish("pack", KEY, "after", b"")
            assert await until(done, 2, timeout_seconds=5) == {"before", "after"}


async def test_long_work_stays_with_its_worker(nats_server: NatsServer) -> None:
    done: list[WorkItem] = []
    async with connected(nats_server.url) as connection:
        queue = NatsQueue(connection, QUICK, partitions=1)
        async with consuming(queue, done, seconds=3 * QUICK.silence_seconds_max):
            await queue.publish("pack", KEY, "long", b"")
            await until(done, 1)
            await asyncio.sleep(QUICK.silence_seconds_max)
    assert [item.delivery for item in done] == [1]


async def test_the_item_of_a_worker_that_died_goes_to_another(nats_server: NatsServer, proxy: Proxy) -> None:
    """Its connection hangs: nothing that it says reaches the server any more."""
    lost: list[WorkItem] = []
    done: list[WorkItem] = []
    async with connected(nats_server.url) as connection:
        await NatsQueue(connection, QUICK, partitions=1).publish("pack", KEY, "w1", b"")
        async with connected(nats_server.url_at(proxy.port)) as dying:
            started = asyncio.Event()

            async def hang(item: WorkItem) -> None:
                lost.append(item)
                proxy.drop_questions = True
                started.set()
                await asyncio.sleep(30)

            consumer = asyncio.ensure_future(NatsQueue(dying, QUICK, partitions=1).consume("pack", hang, concurrency=1))
            await asyncio.wait_for(started.wait(), 10)
            async with consuming(NatsQueue(connection, QUICK, partitions=1), done):
                await until(done, 1)
            consumer.cancel()
            await asyncio.wait({consumer})
            proxy.cut()
    assert [item.delivery for item in lost] == [1]
    assert [item.delivery for item in done] == [2]


async def test_a_cancelled_worker_gives_its_item_back_at_once(nats_server: NatsServer) -> None:
    patient = Retries(silence_seconds_max=60)
    done: list[WorkItem] = []
    async with connected(nats_server.url) as connection:
        queue = NatsQueue(connection, patient, partitions=1)
        started = asyncio.Event()

        async def hang(_item: WorkItem) -> None:
            started.set()
            await asyncio.sleep(60)

        await queue.publish("pack", KEY, "w1", b"")
        consumer = asyncio.ensure_future(queue.consume("pack", hang, concurrency=1))
        await asyncio.wait_for(started.wait(), 10)
        consumer.cancel()
        await asyncio.wait({consumer})
        async with consuming(queue, done):
            await until(done, 1, timeout_seconds=10)


async def test_a_full_queue_refuses(nats_server: NatsServer) -> None:
    async with connected(nats_server.url, work_bytes_max=10_000) as connection:
        queue = NatsQueue(connection, QUICK, partitions=1)
        done: list[WorkItem] = []
        published = 0
        with pytest.raises(QueueFull):  # noqa: PT012 - it is full at some time, not at a certain one
            while True:
                await queue.publish("pack", KEY, f"w{published}", b"x" * 500)
                published += 1
        async with consuming(queue, done):
            await until(done, published)
        await queue.publish("pack", KEY, "later", b"x" * 500)


async def test_without_a_server_publishing_fails_in_time(nats_server: NatsServer) -> None:
    async with connected(nats_server.url) as connection:
        queue = NatsQueue(connection, QUICK, partitions=1)
        nats_server.kill()
        started = now()
        with pytest.raises(QueueUnavailable):
            await queue.publish("pack", KEY, "w1", b"", timeout_seconds=0.4)
        with pytest.raises(QueueUnavailable):
            await queue.dead_letters("pack", limit=1, timeout_seconds=0.4)
        assert now() - started < 1.5
