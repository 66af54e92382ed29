"""A preview is one content with its text: kept out of the log, checked, counted by its text, found by it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.lines import LineFacts, page_line
from pagekeeper.core.pages import MediaDescription, MessageRole, Modality, PageType, TrustClass
from pagekeeper.core.previews import PREVIEW_BYTES_MAX, PREVIEW_MIME_TYPES, Preview, joined, parted
from pagekeeper.v1 import event_pb2, page_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from tests.fakes.faulty_bucket import Faults
from tests.unit.stack import WORDS, Replica, Stores, caller, ready

JPEG = "image/jpeg"
SAID = "The spare key is under the flowerpot"
pictures = st.builds(Preview, st.sampled_from(PREVIEW_MIME_TYPES), st.binary(min_size=1, max_size=300))


async def with_film(modality: page_pb2.Modality.ValueType = page_pb2.MODALITY_VIDEO) -> Replica:
    replica = Replica(await ready(Stores()))
    await replica.open()
    media = page_pb2.MediaDescription(caption="A walk")
    await replica.append(page_pb2.PageInput(page_id="film", modality=modality, data=b"\xff" * 900, media=media))
    return replica


async def add(
    replica: Replica, content: bytes, mime_type: str = JPEG, request_id: str = "r"
) -> table_pb.AddRepresentationsResponse:
    stored = event_pb2.StoredRepresentation(
        level=1, inline=content, compressor="decoded/1", preview_mime_type=mime_type
    )
    added = event_pb2.AddedRepresentation(page_id="film", version=1, representation=stored)
    request = table_pb.AddRepresentationsRequest(request_id=request_id, session_id="s1", representations=[added])
    return await replica.page_table.add_representations(caller(), request)


async def found(replica: Replica, query: str) -> list[str]:
    request = pb.SearchPagesRequest(session_id="s1", query=query)
    return [hit.page_id for hit in (await replica.page_table.search_pages(caller(), request)).hits]


@given(st.text(max_size=300), st.none() | pictures)
def test_what_was_joined_is_parted_again(text: str, preview: Preview | None) -> None:
    content = joined(text, preview)
    assert parted(content, preview.mime_type if preview else "") == (text.encode(), preview)


@given(st.text(min_size=1, max_size=300), pictures, st.data())
def test_half_of_it_is_no_preview(text: str, preview: Preview, data: st.DataObject) -> None:
    content = joined(text, preview)
    kept = data.draw(st.integers(0, len(content) - len(preview.data)))
    with pytest.raises(ValueError, match="length of a text"):
        parted(content[:kept], preview.mime_type)


async def test_it_lies_in_the_object_store_and_its_text_is_counted() -> None:
    replica = await with_film()
    content = joined(SAID, Preview(JPEG, b"\xff\xd8 a picture"))
    [made] = (await add(replica, content)).made
    facts = LineFacts(
        "film", Modality.VIDEO, PageType.TRANSCRIPT, MessageRole.USER, TrustClass.USER, MediaDescription("A walk")
    )
    assert made.size_tokens == WORDS.count(page_line(facts, 1, SAID.encode()))
    entry = await replica.lookup("film")
    reduced = entry.page.representations[1]
    assert reduced.placement.HasField("extent")
    assert reduced.preview_mime_type == JPEG
    assert [one.level for one in entry.inline] == [0]
    assert await replica.content("film", level=1) == content
    assert len(content) == reduced.size_bytes


@pytest.mark.parametrize(
    ("content", "mime_type", "field"),
    [
        (joined("a", Preview("image/svg+xml", b"<svg/>")), "image/svg+xml", "preview_mime_type"),
        (b"text alone, as long as it is", JPEG, "inline"),
        (b"\x00\x00\x00\x02\xff\xfe picture", JPEG, "inline"),
        (joined("a", Preview(JPEG, bytes(PREVIEW_BYTES_MAX + 1))), JPEG, "inline"),
        (b"\xff\xfe no text", "", "inline"),
    ],
)
async def test_what_is_no_preview_is_refused(content: bytes, mime_type: str, field: str) -> None:
    replica = await with_film()
    before = await replica.fold()
    with pytest.raises(InvalidField) as refused:
        await add(replica, content, mime_type)
    assert refused.value.metadata["field"] == f"representations[0].representation.{field}"
    assert (await replica.fold()).revision == before.revision


async def test_a_recording_is_found_by_what_it_says_once_that_is_known() -> None:
    replica = await with_film()
    assert (await found(replica, "flowerpot"), await found(replica, "walk")) == ([], ["film"])
    await add(replica, joined(f"A walk\n{SAID}", Preview(JPEG, b"\xff\xd8")))
    assert (await found(replica, "flowerpot"), await found(replica, "walk")) == (["film"], ["film"])
    assert await found(Replica(replica.stores, "b"), "flowerpot") == ["film"]


async def test_a_recording_whose_text_is_gone_is_found_by_what_was_written() -> None:
    replica = await with_film()
    await add(replica, joined(SAID, Preview(JPEG, b"\xff\xd8")))
    replica.stores.bucket.faults = Faults(wrong=1.0)
    assert (await found(replica, "flowerpot"), await found(replica, "walk")) == ([], ["film"])


async def test_a_picture_that_was_described_is_found_without_reading_its_preview() -> None:
    replica = await with_film(page_pb2.MODALITY_IMAGE)
    await add(replica, joined("A walk", Preview(JPEG, b"\xff\xd8")))
    replica.stores.bucket.faults = Faults(refused=1.0)
    assert await found(replica, "walk") == ["film"]
