"""Write-back moves bytes from the log to the object store, and loses none on the way."""

import asyncio
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings

from pagekeeper.artifact_storage.objects import Ref
from pagekeeper.core.errors import LogUnavailable, SessionNotFound
from pagekeeper.core.ids import SessionKey
from pagekeeper.core.pages import Extent
from pagekeeper.page_table.write_back import SEGMENT_BYTES_MAX, SEGMENT_PARTS_MAX, segments
from pagekeeper.runtime.log import port as logs
from pagekeeper.runtime.log.port import APPEND_TIMEOUT_SECONDS
from pagekeeper.runtime.queue.port import WorkItem
from pagekeeper.runtime.work import WRITEBACK
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.fakes.faulty_bucket import Faults
from tests.fakes.faulty_log import Faults as LogFaults
from tests.fakes.faulty_log import FaultyLog
from tests.fakes.memory_log import MemoryLog
from tests.unit.page_table_scripts import Step, scripts, take
from tests.unit.stack import TENANT, Replica, Stores, caller, key, ready


@settings(max_examples=40)
@given(scripts)
def test_a_flush_leaves_nothing_dirty_and_loses_nothing(script: list[Step]) -> None:
    async def play() -> None:
        replica = Replica(await ready(Stores()))
        await replica.open(max_l0_tokens=600, reserved_tokens=10)
        for step in script:
            await take(replica, step)
        fold = await replica.fold()
        bytes_of = {
            (page.page_id, version.version, one.level): one.digest
            for page in fold.pages.values()
            for version in page.versions
            for one in version.representations
        }
        working_set = list(fold.working_set)
        await replica.flush()
        fold = await replica.fold()
        assert not list(segments(fold))
        assert list(fold.working_set) == working_set
        for (page_id, number, level), digest in bytes_of.items():
            page = fold.pages[page_id]
            if page.mapped:
                assert sha256(await replica.content(page_id, level=level, version=number)).digest() == digest
        again = await replica.flush()
        assert (again.placed, again.revision) == (0, fold.revision)

    asyncio.run(play())


async def test_segments_are_bounded_in_bytes_and_parts() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    for _ in range(14):
        await replica.append(*(page_pb2.PageInput(text="x" * 60_000) for _ in range(11)))
    for _ in range(9):
        await replica.append(*(page_pb2.PageInput(text="y") for _ in range(256)))
    planned = list(segments(await replica.fold()))
    assert all(sum(len(one.data) for one in segment) <= SEGMENT_BYTES_MAX for segment in planned)
    assert all(len(segment) <= SEGMENT_PARTS_MAX for segment in planned)
    flushed = await replica.flush()
    assert (flushed.placed, len(planned)) == (14 * 11 + 9 * 256, 4)
    assert not list(segments(await replica.fold()))


async def test_a_page_stays_dirty_when_its_segment_cannot_be_stored() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    await replica.append(page_pb2.PageInput(page_id="p", text="x"))
    replica.stores.bucket.faults = Faults(refused=1.0)
    before = await replica.state()
    with pytest.raises(Exception, match="object store"):
        await replica.flush()
    assert await replica.state() == before
    replica.stores.bucket.faults = Faults()
    await asyncio.gather(replica.flush(), replica.flush(), Replica(replica.stores, "b").flush())
    assert await replica.content("p") == b"x"


async def test_no_session_no_flush() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    with pytest.raises(SessionNotFound):
        await replica.page_table.flush_session(caller("foreign"), pb.FlushSessionRequest(session_id="s1"))


async def clean(replica: Replica) -> list[Ref]:
    """Where every clean representation of every version lies, and what it must hash to."""
    return [
        Ref(one.extent, one.digest)
        for page in (await replica.fold()).pages.values()
        for version in page.versions
        for one in version.representations
        if one.extent is not None
    ]


async def test_a_crash_between_the_bytes_and_the_placement_loses_nothing() -> None:
    stores = await ready(Stores())
    calm = Replica(stores, "calm")
    await calm.open()
    await calm.append(page_pb2.PageInput(page_id="p", text="x"))
    dying = Replica(stores.behind(FaultyLog(stores.log, Random(1), LogFaults(request_lost=1.0))), "dying")
    before = await calm.state()
    with pytest.raises(LogUnavailable):
        await dying.flush()
    assert await calm.state() == before
    [object_id] = stores.objects_made
    orphan = Ref(Extent(f"{TENANT}/s1/pages/{object_id}", 0, 1), sha256(b"x").digest())
    assert await calm.objects.get(TENANT, [orphan]) == [b"x"]
    assert (await calm.flush()).placed == 1
    assert not list(segments(await calm.fold()))
    assert orphan not in await clean(calm)
    assert await calm.content("p") == b"x"


@pytest.mark.parametrize("seed", range(12))
async def test_a_page_is_clean_only_after_its_bytes_are_durable(seed: int) -> None:
    """Two replicas flush the session at a time, over a log that loses, delays and repeats."""
    random = Random(seed)
    stores = await ready(Stores())
    calm = Replica(stores, "calm")
    await calm.open()
    faults = LogFaults(request_lost=0.2, request_late=0.2, request_repeated=0.2, answer_lost=0.2, read_stale=0.3)
    rough = [Replica(stores.behind(FaultyLog(stores.log, random, faults)), name) for name in "ab"]
    for turn in range(8):
        await calm.append(page_pb2.PageInput(page_id=f"p{turn}", text=f"text {turn}"))
        for outcome in await asyncio.gather(*(one.flush() for one in rough), return_exceptions=True):
            assert isinstance(outcome, pb.FlushSessionResponse | LogUnavailable), outcome
        if refs := await clean(calm):
            assert all(isinstance(found, bytes) for found in await calm.objects.get(TENANT, refs))
    await calm.flush()
    assert len(await clean(calm)) == 8
    assert not list(segments(await calm.fold()))


async def test_work_that_failed_at_its_snapshot_is_done_again_from_there() -> None:
    class RollupsAreLost(MemoryLog):
        lost = True

        async def rollup(
            self,
            key: SessionKey,
            *,
            expected_revision: int,
            operation_id: str,
            data: bytes,
            timeout_seconds: float = APPEND_TIMEOUT_SECONDS,
        ) -> int:
            if self.lost:
                raise logs.NoAnswer("lost on its way", maybe_applied=False)
            return await super().rollup(
                key,
                expected_revision=expected_revision,
                operation_id=operation_id,
                data=data,
                timeout_seconds=timeout_seconds,
            )

    log = RollupsAreLost()
    replica = Replica(await ready(Stores(log=log)))
    await replica.open()
    for number in range(4):
        await replica.append(page_pb2.PageInput(page_id=f"p{number}", text=f"text {number}"))
    item = WorkItem(WRITEBACK, key("s1"), "s1.0", b"", delivery=1)
    with pytest.raises(LogUnavailable):
        await replica.page_table.work(item)
    placed = await clean(replica)
    assert len(placed) == 4
    assert not (await replica.fold()).archive
    log.lost = False
    await replica.page_table.work(item)
    session = await replica.fold()
    assert (len(session.archive), await clean(replica)) == (1, placed)
    assert len(await log.read(key("s1"))) == 1
