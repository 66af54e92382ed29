"""Lower levels are added beside the full one, once, and told alike to whoever asks again."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.errors import PageNotFound, SessionClosed
from pagekeeper.fault_handler.summarising import NoSummariser
from pagekeeper.runtime.queue.port import WorkItem
from pagekeeper.runtime.work import COMPRESS, compress_data, pages_to_compress
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.unit.faulting import FaultingReplica, said, serving
from tests.unit.films import film
from tests.unit.stack import Stores, caller, key, ready

PROSE = " ".join(
    f"In week {number} the team of Alice moved {number * 7} servers to Oslo. Nothing broke, and nobody was woken. "
    f"The budget of 2026 still has {900 - number} thousand left for it."
    for number in range(30)
)


@pytest.fixture
async def replica() -> AsyncIterator[FaultingReplica]:
    one = FaultingReplica(await ready(Stores()))
    async with serving(one):
        await one.open()
        await one.append(page_pb2.PageInput(page_id="prose", text=PROSE), said("short", 4))
        yield one


def compress(*page_ids: str, request_id: str = "compress") -> pb.CompressPagesRequest:
    return pb.CompressPagesRequest(request_id=request_id, session_id="s1", page_ids=page_ids)


def work(work_id: str, *page_ids: str) -> WorkItem:
    data = compress_data(page_ids)
    return WorkItem(COMPRESS, key("s1"), work_id, data, 1)


async def test_each_level_is_shorter_and_the_full_one_stays(replica: FaultingReplica) -> None:
    answer = await replica.faults.compress(caller(), compress("prose", "short"))
    assert {made.page_id for made in answer.made} == {"prose"}
    assert answer.revision == (await replica.fold()).revision
    page = (await replica.lookup("prose")).page
    sizes = [representation.size_tokens for representation in page.representations]
    assert len(sizes) == 1 + len(answer.made)
    assert sizes == sorted(sizes, reverse=True)
    assert await replica.content("prose") == PROSE.encode()
    for made in answer.made:
        assert (await replica.fault("prose", made.level)).content.text


async def test_a_repeated_request_is_answered_alike(replica: FaultingReplica) -> None:
    first = await replica.faults.compress(caller(), compress("prose"))
    await replica.append(said("p1", 20))
    assert await replica.faults.compress(caller(), compress("prose")) == first
    other = await replica.faults.compress(caller(), compress("prose", request_id="another"))
    assert not other.made
    assert other.revision == (await replica.fold()).revision


async def test_a_repetition_after_another_version_makes_that_versions_levels(replica: FaultingReplica) -> None:
    await replica.faults.compress(caller(), compress("prose"))
    again = page_pb2.PageInput(page_id="prose", text=f"{PROSE} And then it was over.", new_version=True)
    await replica.append(again)
    await replica.faults.compress(caller(), compress("prose"))
    page = (await replica.lookup("prose")).page
    assert page.version == 2
    assert len(page.representations) > 1


async def test_what_search_is_about_is_never_compressed(replica: FaultingReplica) -> None:
    index = page_pb2.PageInput(page_id="index", text=PROSE, page_type=page_pb2.PAGE_TYPE_INDEX)
    await replica.append(index)
    assert not (await replica.faults.compress(caller(), compress("index"))).made


class Shouter(NoSummariser):
    """A summariser with a voice of its own."""

    async def rewrite(self, source: Source, made: Sequence[Compressed]) -> list[Compressed]:
        return [replace(one, text=f"{source.page_id.upper()} {one.level}", compressor="model:shout") for one in made]


async def test_a_summariser_is_asked_in_the_background_alone() -> None:
    replica = FaultingReplica(await ready(Stores()))
    replica.summariser = Shouter()
    replica.compose(replica.page_table, replica.working_set, replica.artifacts)
    async with serving(replica):
        await replica.open()
        await replica.append(*(page_pb2.PageInput(page_id=name, text=PROSE) for name in ("called", "worked")))
        await replica.faults.compress(caller(), compress("called"))
        await replica.faults.work_compress(work("w1", "called", "worked"))
        assert await replica.content("worked", level=1) == b"WORKED 1"
        assert await replica.content("worked") == PROSE.encode()
        assert b"Alice" in await replica.content("called", level=1)


class Listener(NoSummariser):
    """A summariser that only listens."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    async def rewrite(self, source: Source, made: Sequence[Compressed]) -> list[Compressed]:
        self.heard.append(source.readable)
        return list(made)

    async def transcript(self, page_id: str, mime_type: str, data: bytes) -> str:
        return f"{page_id}: {mime_type} of {len(data)} bytes."


async def test_a_summariser_is_told_what_a_recording_says_itself() -> None:
    replica = FaultingReplica(await ready(Stores()))
    replica.summariser = listener = Listener()
    replica.compose(replica.page_table, replica.working_set, replica.artifacts)
    walk = page_pb2.PageInput(
        page_id="walk",
        modality=page_pb2.MODALITY_VIDEO,
        data=film(10, 200, said=["Mind the third step."]),
        media=page_pb2.MediaDescription(caption="A walk"),
    )
    nap = page_pb2.PageInput(page_id="nap", modality=page_pb2.MODALITY_AUDIO, data=b"zzz", mime_type="audio/wav")
    async with serving(replica):
        await replica.open()
        await replica.append(walk, nap)
        await replica.faults.work_compress(work("w1", "walk", "nap"))
        heard, slept = listener.heard
        assert heard.startswith("A walk\n")
        assert "Mind the third step." in heard, "its own subtitles, not what a model hears"
        assert slept == "nap: audio/wav of 3 bytes."
        assert (await replica.fault("nap", 1)).content.text == slept
        faulted = await replica.fault("walk", 1)
        assert faulted.content.text == heard
        assert faulted.content.preview.mime_type == "image/jpeg"


async def test_a_session_that_is_not_small_has_levels_of_every_page() -> None:
    replica = FaultingReplica(await ready(Stores()))
    lowered: set[str] = set()
    all_of_them = asyncio.Event()

    async def work_compress(item: WorkItem) -> None:
        await replica.faults.work_compress(item)
        lowered.update(pages_to_compress(item.data))
        if len(lowered) == 60:
            all_of_them.set()

    async with serving(replica):
        await replica.open(max_l0_tokens=4_000)
        consumer = asyncio.ensure_future(replica.stores.queue.consume(COMPRESS, work_compress, concurrency=1))
        for number in range(60):
            await replica.append(page_pb2.PageInput(page_id=f"p{number}", text=f"{number}: {PROSE[:300]}"))
            await replica.outbox.publish()
            if number == 9:
                assert not lowered, "it is small"
        await all_of_them.wait()
        consumer.cancel()
        assert all(page.current.at(1) for page in (await replica.fold()).mapped_pages())


async def test_a_refusal_says_why(replica: FaultingReplica) -> None:
    with pytest.raises(PageNotFound):
        await replica.faults.compress(caller(), compress("nothing"))
    await replica.page_table.close_session(caller(), pb.CloseSessionRequest(request_id="close", session_id="s1"))
    with pytest.raises(SessionClosed):
        await replica.faults.compress(caller(), compress("prose"))


async def test_work_may_come_twice_and_late(replica: FaultingReplica) -> None:
    await replica.faults.work_compress(work("w1", "prose"))
    state = await replica.state()
    await replica.faults.work_compress(work("w1", "prose"))
    assert await replica.state() == state
    drop = pb.DropPagesRequest(request_id="drop", session_id="s1", page_ids=["prose"])
    await replica.page_table.unmap_pages(caller(), drop)
    await replica.faults.work_compress(work("w2", "prose"))
    await replica.page_table.delete_session(caller(), pb.DeleteSessionRequest(request_id="delete", session_id="s1"))
    await replica.faults.work_compress(work("w3", "prose"))
