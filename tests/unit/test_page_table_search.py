"""Search finds what the session holds now, wherever its bytes lie and whichever replica is asked."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.embedding import WordsAlone
from pagekeeper.core.errors import SessionNotFound, StoreUnavailable
from pagekeeper.core.ids import session_key
from pagekeeper.page_table.indexes import SLICE_BYTES_MAX, Indexed, Indexes
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.fakes.faulty_bucket import Faults
from tests.unit.page_table_scripts import Step, scripts, take
from tests.unit.stack import Replica, Stores, caller, following, ready


async def search(replica: Replica, query: str, **wanted: object) -> pb.SearchPagesResponse:
    request = pb.SearchPagesRequest(session_id="s1", query=query, **wanted)  # type: ignore[arg-type]  # fields by name
    return await replica.page_table.search_pages(caller(), request)


async def found(replica: Replica, query: str, **wanted: object) -> list[str]:
    return [hit.page_id for hit in (await search(replica, query, limit=100, **wanted)).hits]


async def opened() -> Replica:
    replica = Replica(await ready(Stores()))
    await replica.open()
    return replica


@settings(max_examples=25)
@given(scripts)
def test_an_index_that_was_kept_up_finds_what_a_new_one_finds(script: list[Step]) -> None:
    async def play() -> None:
        stores = await ready(Stores())
        writer, reader = Replica(stores), Replica(stores, "b")
        async with following(writer, reader):
            await writer.open(max_l0_tokens=600, reserved_tokens=10)
            for step in script:
                await take(writer, step)
                for replica in (writer, reader):
                    mapped = {page.page_id for page in (await writer.fold()).mapped_pages()}
                    assert (await search(replica, "p0")).searched_pages == len(mapped)
            late = Replica(stores, "c")
            for query in ("p0 p1 p2 p3 p4 p5", "derived", "hint"):
                assert await found(writer, query) == await found(reader, query) == await found(late, query)

    asyncio.run(play())


async def test_others_are_served_while_a_large_session_is_indexed() -> None:
    replica = await opened()
    pages, page_bytes = 30, 50_000
    for number in range(pages):
        await replica.append(page_pb2.PageInput(page_id=f"p{number}", text="word " * (page_bytes // 5)))
    served = 0

    async def others() -> None:
        nonlocal served
        while True:
            served += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(others())
    assert len(await found(replica, "word")) == pages
    task.cancel()
    assert served >= pages * page_bytes // (SLICE_BYTES_MAX + page_bytes)


@given(st.booleans(), st.booleans())
def test_content_and_hint_are_found_wherever_the_bytes_lie(flushed: bool, rolled_up: bool) -> None:  # noqa: FBT001
    async def play() -> None:
        replica = await opened()
        await replica.append(
            page_pb2.PageInput(page_id="small", text="the deadline is Friday", hint="planning"),
            page_pb2.PageInput(page_id="large", text="filler " * 20_000 + "needle", hint="haystack"),
        )
        if flushed:
            await replica.flush()
        if rolled_up:
            await replica.snapshot()
        for reader in (replica, Replica(replica.stores, "b")):
            assert await found(reader, "deadline") == ["small"]
            assert await found(reader, "needle") == ["large"]
            assert await found(reader, "haystack") == ["large"]

    asyncio.run(play())


async def test_a_medium_is_found_by_its_description() -> None:
    replica = await opened()
    media = page_pb2.MediaDescription(caption="a lighthouse", transcript="waves", scenes=["gulls over cliffs"])
    video = page_pb2.PageInput(page_id="v", modality=page_pb2.MODALITY_VIDEO, data=b"\xff" * 100_000, media=media)
    await replica.append(video)
    for query in ("lighthouse", "waves", "gulls"):
        assert await found(replica, query) == ["v"]


async def test_only_the_current_version_and_hint_of_what_is_mapped_are_found() -> None:
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="p", text="apples", hint="fruit"))
    await found(replica, "apples")
    await replica.append(page_pb2.PageInput(page_id="p", text="pears", hint="fruit", new_version=True))
    assert (await found(replica, "apples"), await found(replica, "pears")) == ([], ["p"])
    request = pb.AnnotatePageRequest(request_id="a", session_id="s1", page_id="p", hint="orchard")
    await replica.page_table.annotate_page(caller(), request)
    assert (await found(replica, "fruit"), await found(replica, "orchard")) == ([], ["p"])
    await replica.page_table.unmap_pages(caller(), pb.DropPagesRequest(request_id="d", session_id="s1", page_ids=["p"]))
    assert await found(replica, "pears") == []


async def test_filters_narrow_and_are_counted() -> None:
    replica = await opened()
    await replica.append(
        page_pb2.PageInput(page_id="u1", text="word"),
        page_pb2.PageInput(
            page_id="claim", text="word", role=page_pb2.MESSAGE_ROLE_ASSISTANT, page_type=page_pb2.PAGE_TYPE_CLAIM
        ),
        page_pb2.PageInput(page_id="json", text='{"word": 1}', modality=page_pb2.MODALITY_STRUCTURED),
    )
    assert await found(replica, "word", page_types=[page_pb2.PAGE_TYPE_CLAIM]) == ["claim"]
    assert await found(replica, "word", modality=page_pb2.MODALITY_STRUCTURED) == ["json"]
    assert set(await found(replica, "word", from_turn=1, to_turn=1)) == {"u1", "claim"}
    assert await found(replica, "word", exclude_resident=True) == []
    response = await search(replica, "word", from_turn=2)
    assert (response.searched_pages, [hit.page_id for hit in response.hits]) == (1, ["json"])


async def test_a_query_is_words_whatever_it_holds() -> None:
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="p", text="alpha beta"))
    for query in ('"', "alpha AND (", "NEAR(", "a*^:", "'; DROP TABLE pages"):
        await search(replica, query)
    assert await found(replica, 'alpha" OR "') == ["p"]


async def test_a_page_whose_bytes_are_wrong_is_found_by_its_hint_alone() -> None:
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="p", text="needle " * 20_000, hint="haystack"))
    replica.stores.bucket.faults = Faults(wrong=1.0)
    assert (await found(replica, "needle"), await found(replica, "haystack")) == ([], ["p"])


async def test_a_store_that_is_away_fails_the_search_that_needs_it() -> None:
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="large", text="needle " * 20_000))
    replica.stores.bucket.faults = Faults(refused=1.0)
    with pytest.raises(StoreUnavailable):
        await found(replica, "needle")
    replica.stores.bucket.faults = Faults()
    assert await found(replica, "needle") == ["large"]


async def test_another_tenant_finds_nothing_to_search() -> None:
    replica = await opened()
    request = pb.SearchPagesRequest(session_id="s1", query="x")
    with pytest.raises(SessionNotFound):
        await replica.page_table.search_pages(caller("foreign"), request)


async def visited(replica: Replica, indexes: Indexes, session_id: str) -> Indexed:
    key = session_key(caller().tenant, session_id)
    async with indexes.current(caller(), key, await replica.sessions.read(key)) as indexed:
        return indexed


async def test_the_indexes_of_many_short_sessions_are_kept() -> None:
    replica = Replica(await ready(Stores()))
    indexes = Indexes(replica.artifacts, WordsAlone(), 64 * 1024**2)
    names = [f"s{number}" for number in range(300)]
    for name in names:
        await replica.open(session_id=name)
        await replica.append(page_pb2.PageInput(page_id="p", text="heron"), session_id=name)
    first = [await visited(replica, indexes, name) for name in names]
    again = [await visited(replica, indexes, name) for name in names]
    assert all(one is other for one, other in zip(first, again, strict=True))


async def test_indexes_take_no_more_memory_than_they_may_and_the_last_is_kept() -> None:
    replica = Replica(await ready(Stores()))
    for name, pages in (("short", 1), ("long", 40), ("other", 1)):
        await replica.open(session_id=name)
        for number in range(pages):
            await replica.append(page_pb2.PageInput(page_id=f"p{number}", text="heron " * 500), session_id=name)
    bytes_max = 3 * (await visited(replica, Indexes(replica.artifacts, WordsAlone(), 1), "short")).size_bytes
    indexes = Indexes(replica.artifacts, WordsAlone(), bytes_max)
    kept = await visited(replica, indexes, "short")
    assert await visited(replica, indexes, "other") is not kept
    assert await visited(replica, indexes, "short") is kept
    large = await visited(replica, indexes, "long")
    assert large.size_bytes > bytes_max
    assert await visited(replica, indexes, "long") is large
    assert await visited(replica, indexes, "short") is not kept
