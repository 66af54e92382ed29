"""Work in the background: what grows is written back and snapshotted, what is long is left to be compressed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.ids import SessionKey
from pagekeeper.page_table.mapping import TAIL_BYTES_LIMIT, TAIL_BYTES_MAX, TAIL_RECORDS_MAX, is_due
from pagekeeper.page_table.write_back import segments
from pagekeeper.runtime.queue.port import Retries, WorkItem
from pagekeeper.runtime.work import COMPRESS, WRITEBACK, pages_to_compress
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.fakes.memory_queue import MemoryQueue
from tests.unit.stack import Replica, Stores, caller, key, ready


@asynccontextmanager
async def consuming(replica: Replica, *kinds: str) -> AsyncIterator[list[WorkItem]]:
    """The replica does its work meanwhile; what it was given is noted."""
    seen: list[WorkItem] = []

    async def handle(item: WorkItem) -> None:
        seen.append(item)
        if item.kind == WRITEBACK:
            await replica.page_table.work(item)

    queue = replica.stores.queue
    tasks = [asyncio.ensure_future(queue.consume(kind, handle, concurrency=1)) for kind in kinds]
    try:
        yield seen
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def settled() -> None:
    for _ in range(200):
        await asyncio.sleep(0.001)


async def test_a_log_that_grew_is_flushed_then_snapshotted_once() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    async with consuming(replica, WRITEBACK) as seen:
        for _ in range(3):
            await replica.append(page_pb2.PageInput(text="x" * (TAIL_BYTES_MAX // 2)))
            await replica.outbox.publish()
        await settled()
        assert [item.kind for item in seen] == [WRITEBACK]
        session = await replica.fold()
        assert len(session.archive) == 1
        assert len(await replica.stores.log.read(key("s1"))) <= 3
        assert not [one for one in list(segments(session)) if len(one) > 1]
        for _ in range(3):
            await replica.append(page_pb2.PageInput(text="y" * (TAIL_BYTES_MAX // 2)))
            await replica.outbox.publish()
        await settled()
        assert len((await replica.fold()).archive) == 2


@given(st.integers(0, 5_000), st.integers(0, 8 << 20), st.integers(0, 100_000))
def test_a_tail_is_bounded_and_a_snapshot_is_shared_by_many_appends(records: int, size_bytes: int, pages: int) -> None:
    if is_due(records, size_bytes, pages):
        assert records >= TAIL_RECORDS_MAX or size_bytes >= TAIL_BYTES_MAX
        assert pages <= max(4 * records, size_bytes // 512) or size_bytes >= TAIL_BYTES_LIMIT
    else:
        assert size_bytes < TAIL_BYTES_LIMIT
        assert records < max(TAIL_RECORDS_MAX, pages / 4)


async def test_what_is_about_to_leave_is_left_to_be_compressed_together() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open(max_l0_tokens=1_000, reserved_tokens=10, pin_last_turns=1)
    long = "word " * 120
    async with consuming(replica, COMPRESS) as seen:
        await replica.append(page_pb2.PageInput(page_id="long", text=long))
        await replica.outbox.publish()
        await settled()
        assert not seen, "there is room"
        await replica.append(
            page_pb2.PageInput(page_id="short", text="word"),
            page_pb2.PageInput(page_id="index", text=long, page_type=page_pb2.PAGE_TYPE_INDEX),
            page_pb2.PageInput(page_id="picture", modality=page_pb2.MODALITY_IMAGE, data=b"x" * 9_000),
        )
        for number in range(6):
            await replica.append(page_pb2.PageInput(page_id=f"p{number}", text=long))
        await replica.outbox.publish()
        await settled()
    [item] = seen
    page_ids = pages_to_compress(item.data)
    assert set(page_ids) <= {"long", "picture", *(f"p{number}" for number in range(6))}
    session = await replica.fold()
    left = {page.page_id for page in session.mapped_pages() if page.page_id not in session.working_set}
    assert left - {"short", "index"} <= set(page_ids)


async def test_a_medium_is_left_to_be_looked_at_however_small_the_session() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    media: list[page_pb2.PageInput] = [
        page_pb2.PageInput(page_id="picture", modality=page_pb2.MODALITY_IMAGE, data=b"x" * 9_000),
        page_pb2.PageInput(
            page_id="described", modality=page_pb2.MODALITY_VIDEO, media=page_pb2.MediaDescription(caption="A walk")
        ),
    ]
    async with consuming(replica, COMPRESS) as seen:
        await replica.append(*media, page_pb2.PageInput(page_id="words", text="word " * 120))
        await replica.outbox.publish()
        await settled()
    assert [pages_to_compress(item.data) for item in seen] == [["picture"]]


async def test_a_repeated_request_leaves_no_work_behind() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open(max_l0_tokens=512, reserved_tokens=10)
    pages = [page_pb2.PageInput(page_id=f"p{number}", text="word " * 120) for number in range(4)]
    request = pb.AppendPagesRequest(request_id="r", session_id="s1", pages=pages)
    async with consuming(replica, COMPRESS) as seen:
        for reader in (replica, Replica(replica.stores, "b")):
            await reader.page_table.map_pages(caller(), request)
            await reader.outbox.publish()
        await settled()
    assert len(seen) == 1


async def test_an_append_does_not_depend_on_the_queue() -> None:
    stores = await ready(Stores(queue=MemoryQueue(Retries(), items_max=0)))
    replica = Replica(stores)
    await replica.open()
    running = asyncio.ensure_future(replica.outbox.run())
    await replica.append(page_pb2.PageInput(page_id="p", text="word " * 120))
    await replica.outbox.publish()
    assert await replica.content("p") == b"word " * 120
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_write_back_that_was_lost_is_asked_for_again() -> None:
    asked: list[str] = []

    class Noting(MemoryQueue):
        async def publish(
            self, kind: str, key: SessionKey, work_id: str, data: bytes, *, timeout_seconds: float = 5.0
        ) -> None:
            asked.append(f"{kind} {work_id}")
            await super().publish(kind, key, work_id, data, timeout_seconds=timeout_seconds)

    stores = await ready(Stores(queue=Noting(Retries())))
    replica = Replica(stores)
    await replica.open()
    for seconds in (0, 0, 60, 200):
        stores.clock.advance(seconds)
        await replica.append(page_pb2.PageInput(text="x" * TAIL_BYTES_MAX))
        await replica.outbox.publish()
    assert asked == [f"{WRITEBACK} s1.0", f"{WRITEBACK} s1.0"]


async def test_work_for_a_session_that_is_gone_is_done() -> None:
    replica = Replica(await ready(Stores()))
    item = WorkItem(WRITEBACK, key("gone"), "gone.0", b"", delivery=1)
    await replica.page_table.work(item)
