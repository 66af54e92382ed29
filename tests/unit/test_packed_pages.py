"""Packed pages: nothing is lost on the way, and nothing can be changed but in the session itself."""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core import events as ev
from pagekeeper.core.packed_pages import PackedPages, is_mapped
from pagekeeper.core.pages import (
    Extent,
    KeyValue,
    LinkKind,
    MediaDescription,
    MessageRole,
    Modality,
    PageLink,
    PageState,
    PageType,
    StoredRepresentation,
    TrustClass,
    Version,
)
from pagekeeper.core.previews import PREVIEW_MIME_TYPES
from pagekeeper.core.reuse_counts import PageReuse
from pagekeeper.core.session import Session
from pagekeeper.core.session_pages import SessionPages

INT32_MAX, INT64_MAX = 2**32 - 1, 2**64 - 1

FEW = settings(max_examples=50)
"""For laws that hold of a page whatever stands in most of its fields: a page takes long to draw."""

int32s = st.one_of(st.integers(0, 300), st.integers(0, INT32_MAX))
int64s = st.one_of(st.integers(0, 300), st.integers(0, INT64_MAX))
lengths = st.sampled_from([127, 128, 255, 256, 32_767, 32_768])
"""Of texts of two bytes a character: on both sides of what one byte and two bytes can count."""
texts = st.one_of(st.text(max_size=12), st.text(max_size=12), lengths.map("é".__mul__))
names = st.text(max_size=6)
floats = st.floats(allow_nan=False)
digests = st.binary(min_size=32, max_size=32)
places = st.none() | st.builds(Extent, names, int64s, int64s)
media = st.none() | st.builds(
    MediaDescription, texts, texts, int32s, int32s, floats, st.lists(texts, max_size=2).map(tuple)
)


@st.composite
def representations(draw: st.DrawFn) -> StoredRepresentation:
    """Mostly where as many bytes are as there should be."""
    one = StoredRepresentation(draw(int32s), draw(int32s), draw(int64s), draw(digests), draw(names))
    one = replace(one, preview_mime_type=draw(st.sampled_from(["", *PREVIEW_MIME_TYPES])))
    place = draw(places)
    if place is not None and draw(st.booleans()):
        place = replace(place, length=one.size_bytes)
    return replace(one, extent=place)


versions = st.builds(
    Version,
    version=int32s,
    revision=int64s,
    turn=int32s,
    created_unix_ms=int64s,
    mime_type=names,
    media=media,
    representations=st.lists(representations(), min_size=1, max_size=4).map(tuple),
    mapped_type=st.sampled_from(PageType),
    trust=st.sampled_from(TrustClass),
    speaker=names,
    said_unix_ms=int64s,
    said_behind=int64s,
)
pages = st.builds(
    PageState,
    page_id=st.text(min_size=1, max_size=8),
    versions=st.lists(versions, min_size=1, max_size=2).map(tuple),
    current_version=int32s,
    mapped=st.booleans(),
    pinned=st.booleans(),
    importance=floats,
    links=st.lists(st.builds(PageLink, st.sampled_from(LinkKind), names), max_size=2).map(tuple),
    fault_count=int32s,
    last_used_turn=int32s,
    last_fault_turn=int32s,
    modality=st.sampled_from(Modality),
    page_type=st.sampled_from(PageType),
    role=st.sampled_from(MessageRole),
    hint=texts,
    tool_name=names,
    tool_call_id=texts,
    metadata=st.lists(st.builds(KeyValue, names, texts), max_size=2).map(tuple),
    reuse=st.builds(PageReuse, *[int32s, *[int64s] * (len(PageReuse._fields) - 1)]),
    recall_likelihood_percent=int32s,
)


@given(st.lists(pages, min_size=1, max_size=3))
def test_what_is_unpacked_equals_what_was_packed(some: list[PageState]) -> None:
    """In one package, whose names grow meanwhile."""
    package = PackedPages()
    packed = [package.pack(page) for page in some]
    for page, data in zip(some, packed, strict=True):
        assert data is not None
        again = package.unpack(page.page_id, data)
        assert again == page
        assert repr(again) == repr(page), "equal values may be of another type, or a zero of another sign"
        assert is_mapped(data) == page.mapped


@FEW
@given(pages)
def test_a_page_is_lowered_alike_whether_its_levels_are_packed_or_not(page: PageState) -> None:
    with_packed_levels = PackedPages().with_packed_levels(page)
    for whole, slim in zip(page.versions, with_packed_levels.versions, strict=True):
        for one in (replace(whole.full, level=-1, size_tokens=INT32_MAX), *whole.representations):
            lower = [(r.level, r.size_tokens) for r in whole.representations]
            expected = next((r for r in lower if r[0] > one.level and r[1] < one.size_tokens), None)
            assert whole.shorter(one.level, one.size_tokens) == expected
            assert slim.shorter(one.level, one.size_tokens) == expected
        assert (slim.dirty, with_packed_levels.dirty) == (False, False)


@given(st.lists(pages, min_size=1, max_size=2))
def test_levels_that_one_session_packed_are_read_in_another(some: list[PageState]) -> None:
    """Packed levels name values by numbers of their own session's tables."""
    here, there = PackedPages(), PackedPages()
    for page in reversed(some):
        assert here.pack(page) is not None
    for page in some:
        packed = there.pack(here.with_packed_levels(page))
        assert packed is not None
        assert there.unpack(page.page_id, packed) == page


@given(representations(), st.binary(max_size=8), st.builds(Extent, names, int64s, int64s))
def test_placing_changes_nothing_but_where_the_bytes_are(
    one: StoredRepresentation, data: bytes, extent: Extent
) -> None:
    assert replace(one, inline=data, extent=None).placed(extent) == replace(one, extent=extent)


@FEW
@given(pages, st.binary(max_size=40))
def test_what_has_bytes_in_the_log_alone_is_not_packed(page: PageState, data: bytes) -> None:
    [first, *others] = page.versions
    dirty = StoredRepresentation(0, 1, len(data), sha256(data).digest(), inline=data)
    changed = first._replace(representations=(*first.representations, dirty))
    assert PackedPages().pack(page._replace(versions=(changed, *others))) is None


@FEW
@given(pages, st.binary(max_size=40).filter(lambda digest: len(digest) != 32))
def test_a_digest_of_another_length_stays_whole(page: PageState, digest: bytes) -> None:
    [first, *others] = page.versions
    odd = StoredRepresentation(0, 1, 1, digest, extent=Extent("t/segment", 0, 1))
    assert PackedPages().pack(page._replace(versions=(first._replace(representations=(odd,)), *others))) is None


def test_many_names_and_places_are_told_apart() -> None:
    package, page = PackedPages(), page_of("p", 1)
    kept = []
    for number in range(300):
        full = replace(page.current.full, compressor=f"c{number}", inline=None, extent=Extent(f"t/{number}", number, 1))
        one = page.with_representations(1, [full])._replace(tool_name=f"tool{number}")
        kept.append((one, package.pack(one)))
    assert all(packed is not None and package.unpack("p", packed) == one for one, packed in kept)


@FEW
@given(pages)
def test_a_page_that_was_read_cannot_be_changed(page: PageState) -> None:
    kept = SessionPages()
    kept.put(page)
    kept.settle([page.page_id], ())
    values: list[Any] = [
        kept[page.page_id],
        kept[page.page_id].current if page.current_version == 1 else page.versions[0],
    ]
    for value in [*values, page.reuse]:
        for name in value._fields:
            with pytest.raises(AttributeError):
                setattr(value, name, None)
    assert kept[page.page_id] == page


@FEW
@given(st.lists(st.tuples(pages, st.booleans()), max_size=4, unique_by=lambda one: one[0].page_id))
def test_pages_are_the_same_at_hand_and_packed(some: list[tuple[PageState, bool]]) -> None:
    """In the order in which they came first, whatever was packed and came back since."""
    kept, expected = SessionPages(), {page.page_id: page for page, _ in some}
    for page, resident in some:
        kept.put(page)
        kept.settle([page.page_id], {page.page_id} if resident else ())
    for _ in range(2):
        assert list(kept) == list(expected)
        assert list(kept.values()) == list(expected.values())
        assert [page.first_size_tokens for page in kept.values()] == [p.first_size_tokens for p in expected.values()]
        assert list(kept.mapped()) == [page for page in expected.values() if page.mapped]
        assert kept.mapped_total == sum(page.mapped for page in expected.values())
        assert len(kept) == len(expected)
        assert [page_id for page_id in expected if page_id in kept.at_hand] == [
            page.page_id for page, resident in some if resident
        ]
        some = [(page, not resident) for page, resident in some]
        kept.settle(expected, {page.page_id for page, resident in some if resident})


def page_of(page_id: str, size: int) -> PageState:
    session = Session()
    session.apply(1, transaction(mapped(page_id, size)))
    return session.pages[page_id]


def mapped(page_id: str, size: int) -> ev.PagesMapped:
    full = StoredRepresentation(0, size, size, bytes(32), inline=bytes(size))
    page = ev.MappedPage(
        page_id=page_id,
        version=1,
        modality=Modality.TEXT,
        page_type=PageType.TRANSCRIPT,
        role=MessageRole.USER,
        trust=TrustClass.USER,
        hint="",
        importance=0.5,
        pinned=False,
        full=full,
    )
    return ev.PagesMapped((page,))


def transaction(*events: ev.Event) -> ev.Transaction:
    return ev.Transaction("request", b"digest", 1, events)


def test_of_two_placements_and_of_two_representations_the_first_counts() -> None:
    """Whether they lie side by side in an event, or others between them."""
    for between in ((), ("other",)):
        session = Session()
        session.apply(1, transaction(mapped("p", 9), mapped("other", 9)))
        lower = [StoredRepresentation(1, tokens, 1, bytes(32), inline=b"x") for tokens in (3, 4)]
        order = ["p", *between, "p"]
        added = [ev.AddedRepresentation(page_id, 1, lower[at > 0]) for at, page_id in enumerate(order)]
        session.apply(2, transaction(ev.RepresentationsAdded(tuple(added))))
        assert [one.size_tokens for one in session.pages["p"].current.representations] == [9, 3]
        placed = [ev.PlacedRepresentation(page_id, 1, 0, Extent("t", at, 9)) for at, page_id in enumerate(order)]
        session.apply(3, transaction(ev.PagesPlaced(tuple(placed))))
        assert session.pages["p"].current.full.extent == Extent("t", 0, 9)
