"""What is appended is there, once, whole and as it was; what is refused left no trace."""

import asyncio
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.errors import (
    ContentTooLarge,
    InvalidField,
    PageExists,
    PagekeeperError,
    PageNotFound,
    PinBudgetExceeded,
    RequestIdReused,
    RevisionConflict,
    SessionClosed,
    SessionNotFound,
    StoreUnavailable,
)
from pagekeeper.core.lines import LineFacts, page_line
from pagekeeper.core.offering import LastMessage, Offering, SaidPlaces
from pagekeeper.core.pages import MessageRole, Modality, PageType, TrustClass
from pagekeeper.core.session import Session
from pagekeeper.page_table.spilling import INLINE_BYTES_MAX, RECORD_INLINE_BYTES_MAX, to_spill
from pagekeeper.v1 import event_pb2, page_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from tests.fakes.faulty_bucket import Faults
from tests.unit.hostile_text import hostile_texts
from tests.unit.stack import WORDS, Replica, Stores, caller, ready

ASSISTANT = page_pb2.MESSAGE_ROLE_ASSISTANT
TOOL = page_pb2.MESSAGE_ROLE_TOOL


async def opened() -> Replica:
    replica = Replica(await ready(Stores()))
    await replica.open()
    return replica


def as_said(session: Session) -> list[str]:
    places = SaidPlaces()
    places.keep_up(session, None)
    return [resident.page_id for resident in places.in_order(session)]


async def opened_as_shipped() -> Replica:
    """By the policy, and so by the fold rules, that sessions have when nobody says otherwise."""
    replica = Replica(await ready(Stores()))
    request = pb.OpenSessionRequest(request_id="open", session_id="s1")
    await replica.page_table.open_session(caller(), request)
    return replica


def texts(max_size: int) -> st.SearchStrategy[str]:
    """Texts short and long: a long one is a short one many times."""
    sendable = hostile_texts.map(lambda text: text.encode("utf-8", "replace").decode())
    return st.builds(lambda text, times: (text * times)[:max_size] or "x", sendable, st.integers(1, 4_000))


@settings(max_examples=40)
@given(st.lists(texts(200_000), min_size=1, max_size=6))
def test_what_was_appended_is_looked_up_byte_for_byte(contents: list[str]) -> None:
    async def play() -> None:
        replica = await opened()
        response = await replica.append(*(page_pb2.PageInput(text=text) for text in contents))
        for when in ("in the log", "in the object store", "on another replica"):
            if when == "in the object store":
                await replica.flush()
                assert not (await replica.lookup(response.pages[0].page_id)).inline
            reader = Replica(replica.stores, "b") if when == "on another replica" else replica
            for page, text in zip(response.pages, contents, strict=True):
                assert await reader.content(page.page_id) == text.encode(), when

    asyncio.run(play())


async def test_an_empty_result_of_a_tool_is_a_page_with_a_line() -> None:
    replica = await opened()
    answered = page_pb2.PageInput(role=TOOL, tool_name="search", tool_call_id="call_1", text="")
    response = await replica.append(page_pb2.PageInput(text="Any news?"), answered)
    page = response.pages[1]
    assert page.resident
    facts = LineFacts(page.page_id, Modality.TEXT, PageType.TRANSCRIPT, MessageRole.TOOL, TrustClass.TOOL, None)
    facts = facts._replace(speaker="search", tool_call_id="call_1")
    assert page.size_tokens == WORDS.count(page_line(facts, 0, b"")) > 0
    assert await replica.content(page.page_id) == b""
    await replica.flush()
    assert await replica.content(page.page_id) == b""
    assert await Replica(replica.stores, "b").content(page.page_id) == b""


@given(st.lists(st.integers(0, 4 * INLINE_BYTES_MAX), max_size=256))
def test_what_travels_in_a_record_fits_it(sizes_bytes: list[int]) -> None:
    spilled = to_spill(sizes_bytes)
    inline = [size for index, size in enumerate(sizes_bytes) if index not in spilled]
    assert sum(inline) <= RECORD_INLINE_BYTES_MAX
    assert all(size <= INLINE_BYTES_MAX for size in inline)
    small = [size for size in sizes_bytes if size <= INLINE_BYTES_MAX]
    if sum(small) <= RECORD_INLINE_BYTES_MAX:
        assert sorted(inline) == sorted(small)


async def test_a_full_batch_of_large_pages_is_one_record() -> None:
    replica = await opened()
    response = await replica.append(*(page_pb2.PageInput(text="x" * 60_000) for _ in range(60)))
    assert len({page.page_id for page in response.pages}) == 60
    assert await replica.content(response.pages[59].page_id) == b"x" * 60_000


async def test_facts_that_fit_no_record_are_refused_for_good() -> None:
    """Contents go to the object store when they are too many; what is said of them cannot."""
    replica = await opened()
    metadata = {f"key{number}": "x" * 1_000 for number in range(32)}
    before = await replica.state()
    with pytest.raises(ContentTooLarge):
        await replica.append(*(page_pb2.PageInput(text="x", metadata=metadata) for _ in range(64)))
    assert await replica.state() == before


async def test_a_retry_is_answered_alike_and_appends_nothing() -> None:
    replica = await opened()
    request = pb.AppendPagesRequest(
        request_id="again",
        session_id="s1",
        pages=[
            page_pb2.PageInput(text="one"),
            page_pb2.PageInput(page_id="named", text="two", role=ASSISTANT),
            page_pb2.PageInput(page_id="named", text="three", role=ASSISTANT, new_version=True),
        ],
    )
    first = await replica.page_table.map_pages(caller(), request)
    assert [page.version for page in first.pages] == [1, 1, 2]
    for reader in (replica, Replica(replica.stores, "b")):
        revision = (await reader.fold()).revision
        again = await reader.page_table.map_pages(caller(), request)
        assert (again.revision, again.pages, again.turn) == (first.revision, first.pages, first.turn)
        assert (await reader.fold()).revision == revision
    await replica.append(page_pb2.PageInput(page_id="named", text="four", role=ASSISTANT, new_version=True))
    await replica.snapshot()
    again = await Replica(replica.stores, "c").page_table.map_pages(caller(), request)
    assert [page.version for page in again.pages] == [1, 1, 2]


async def test_a_retry_at_another_time_on_another_replica_folds_what_lies_in_the_log() -> None:
    """The second replica has not heard of the first one's append, and its clock has moved on."""
    replica = await opened()
    other = Replica(replica.stores, "b")
    await other.fold()
    request = pb.AppendPagesRequest(request_id="r", session_id="s1", pages=[page_pb2.PageInput(text="one")])
    first = await replica.page_table.map_pages(caller(), request)
    replica.stores.clock.advance(7)
    assert await other.page_table.map_pages(caller(), request) == first
    assert await other.state() == await replica.state()


async def test_a_spilled_retry_stores_nothing_again() -> None:
    replica = await opened()
    large = page_pb2.PageInput(page_id="large", text="x" * 100_000)
    request = pb.AppendPagesRequest(request_id="again", session_id="s1", pages=[large])
    await replica.page_table.map_pages(caller(), request)
    next_id = next(replica.stores.ids)
    await replica.page_table.map_pages(caller(), request)
    assert next(replica.stores.ids) == next_id + 1


async def test_another_body_under_the_same_request_id_is_refused() -> None:
    replica = await opened()
    request = pb.AppendPagesRequest(request_id="r", session_id="s1", pages=[page_pb2.PageInput(text="one")])
    await replica.page_table.map_pages(caller(), request)
    request.pages[0].text = "two"
    with pytest.raises(RequestIdReused):
        await replica.page_table.map_pages(caller(), request)
    drop = pb.DropPagesRequest(request_id="r", session_id="s1", page_ids=["p"])
    with pytest.raises(RequestIdReused):
        await replica.page_table.unmap_pages(caller(), drop)


@pytest.mark.parametrize(
    ("spoiler", "refusal"),
    [
        (page_pb2.PageInput(page_id="taken", text="again"), PageExists),
        (page_pb2.PageInput(page_id="first", text="twice in one batch"), PageExists),
        (page_pb2.PageInput(page_id="nobody", text="of nothing", new_version=True), PageNotFound),
        (
            page_pb2.PageInput(
                text="to nothing", links=[page_pb2.PageLink(kind=page_pb2.LINK_KIND_REFERS_TO, target_page_id="no")]
            ),
            PageNotFound,
        ),
        (page_pb2.PageInput(text="x", links=[page_pb2.PageLink(target_page_id="taken")]), InvalidField),
        (page_pb2.PageInput(text="word " * 100_000, pinned=True), PinBudgetExceeded),
        (page_pb2.PageInput(page_id="no id", text="x"), InvalidField),
        (page_pb2.PageInput(page_id="taken", text="x", role=TOOL, new_version=True), InvalidField),
    ],
)
async def test_a_batch_is_mapped_whole_or_not_at_all(
    spoiler: page_pb2.PageInput, refusal: type[PagekeeperError]
) -> None:
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="taken", text="here"))
    before = await replica.state()
    with pytest.raises(refusal):
        await replica.append(page_pb2.PageInput(page_id="first", text="fine"), spoiler)
    assert await replica.state() == before
    with pytest.raises(PageNotFound):
        await replica.lookup("first")


async def test_a_session_that_moved_on_refuses_a_stale_writer() -> None:
    replica = await opened()
    revision = (await replica.append(page_pb2.PageInput(text="one"))).revision
    request = pb.AppendPagesRequest(
        request_id="r", session_id="s1", expected_revision=revision, pages=[page_pb2.PageInput(text="two")]
    )
    await replica.append(page_pb2.PageInput(text="meanwhile"))
    with pytest.raises(RevisionConflict):
        await replica.page_table.map_pages(caller(), request)


async def test_no_session_no_append() -> None:
    replica = await opened()
    with pytest.raises(SessionNotFound):
        await replica.append(page_pb2.PageInput(text="x"), session_id="other")
    request = pb.AppendPagesRequest(request_id="r", session_id="s1", pages=[page_pb2.PageInput(text="x" * 100_000)])
    with pytest.raises(SessionNotFound):
        await replica.page_table.map_pages(caller("foreign"), request)
    await replica.page_table.close_session(caller(), pb.CloseSessionRequest(request_id="c", session_id="s1"))
    with pytest.raises(SessionClosed):
        await replica.append(page_pb2.PageInput(text="x"))


async def test_nothing_is_mapped_when_its_bytes_cannot_be_stored() -> None:
    replica = await opened()
    replica.stores.bucket.faults = Faults(refused=1.0)
    with pytest.raises(StoreUnavailable):
        await replica.append(page_pb2.PageInput(page_id="large", text="x" * 100_000))
    with pytest.raises(PageNotFound):
        await replica.lookup("large")


async def test_tokens_are_those_of_the_line_that_will_be_printed() -> None:
    """A page made from what a tool said says so in its line, which only the session can know."""
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="tool", text='{"a": 1}', role=TOOL))
    derived = page_pb2.PageLink(kind=page_pb2.LINK_KIND_DERIVED_FROM, target_page_id="tool")
    mention = page_pb2.PageLink(kind=page_pb2.LINK_KIND_REFERS_TO, target_page_id="tool")
    response = await replica.append(
        page_pb2.PageInput(page_id="made", text="from it", role=ASSISTANT, links=[derived]),
        page_pb2.PageInput(page_id="mentions", text="it", role=ASSISTANT, links=[mention]),
    )
    for page, trust in zip(response.pages, (TrustClass.TOOL, TrustClass.MODEL), strict=True):
        entry = await replica.lookup(page.page_id)
        assert entry.page.trust == trust.value
        facts = LineFacts(page.page_id, Modality.TEXT, PageType.TRANSCRIPT, MessageRole.ASSISTANT, trust, None)
        assert page.size_tokens == WORDS.count(page_line(facts, 0, await replica.content(page.page_id)))


async def test_a_medium_is_counted_by_its_description() -> None:
    replica = await opened()
    picture = page_pb2.PageInput(
        page_id="picture",
        modality=page_pb2.MODALITY_IMAGE,
        data=b"\x89PNG\xff" * 1000,
        media=page_pb2.MediaDescription(caption="a cat", width=3, height=4),
    )
    bare = page_pb2.PageInput(page_id="bare", modality=page_pb2.MODALITY_AUDIO, data=b"\xff\x00")
    response = await replica.append(picture, bare)
    assert [page.size_tokens < 20 for page in response.pages] == [True, True]
    assert await replica.content("picture") == picture.data
    assert (await replica.lookup("bare")).page.HasField("media")


async def test_an_earlier_version_is_looked_up_by_its_number() -> None:
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="p", text="first", hint="one", pinned=True))
    await replica.append(page_pb2.PageInput(page_id="p", text="second", hint="two", new_version=True))
    assert (await replica.lookup("p")).page.version == 2
    assert await replica.content("p", version=1) == b"first"
    assert await replica.content("p", version=2) == b"second"
    assert (await replica.lookup("p")).page.pinned, "a new version of a pinned page is pinned"
    with pytest.raises(PageNotFound):
        await replica.lookup("p", version=3)


async def test_representations_are_counted_checked_and_added_once() -> None:
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="p", text="a rather long text"))
    content = b"a text"

    def request(request_id: str, digest: bytes = b"", level: int = 1) -> table_pb.AddRepresentationsRequest:
        stored = event_pb2.StoredRepresentation(level=level, inline=content, digest=digest, compressor="short/1")
        added = event_pb2.AddedRepresentation(page_id="p", version=1, representation=stored)
        return table_pb.AddRepresentationsRequest(request_id=request_id, session_id="s1", representations=[added])

    first = await replica.page_table.add_representations(caller(), request("a"))
    assert [(made.level, made.size_tokens) for made in first.made] == [(1, 6)]
    assert await replica.page_table.add_representations(caller(), request("a")) == first
    assert await replica.content("p", level=1) == content
    other = await replica.page_table.add_representations(caller(), request("b"))
    assert (other.revision, list(other.made)) == (first.revision, [])
    with pytest.raises(InvalidField):
        await replica.page_table.add_representations(caller(), request("c", digest=sha256(b"other").digest()))
    with pytest.raises(InvalidField):
        await replica.page_table.add_representations(caller(), request("d", level=0))


async def test_a_large_representation_lies_in_the_object_store() -> None:
    replica = await opened()
    await replica.append(page_pb2.PageInput(page_id="p", text="x " * 100_000))
    stored = event_pb2.StoredRepresentation(level=1, inline=b"y " * 50_000, compressor="short/1")
    added = event_pb2.AddedRepresentation(page_id="p", version=1, representation=stored)
    request = table_pb.AddRepresentationsRequest(request_id="r", session_id="s1", representations=[added])
    await replica.page_table.add_representations(caller(), request)
    assert not (await replica.lookup("p")).inline
    assert await replica.content("p", level=1) == b"y " * 50_000


async def test_what_nobody_said_is_filled_in_and_what_is_known_is_not_said_again() -> None:
    replica = await opened()
    response = await replica.append(page_pb2.PageInput(text="We decided on Friday."))
    page = (await replica.lookup(response.pages[0].page_id)).page
    assert (page.hint, page.mime_type, page.importance) == ("We decided on Friday.", "text/plain", 0.5)
    annotate = pb.AnnotatePageRequest(
        request_id="a", session_id="s1", page_id=page.page_id, hint="Friday", metadata={"topic": "deadline"}
    )
    first = await replica.page_table.annotate_page(caller(), annotate)
    annotate.request_id = "b"
    assert await replica.page_table.annotate_page(caller(), annotate) == first
    asked = pb.GetPageRequest(session_id="s1", page_id=page.page_id)
    page = (await replica.page_table.get_page(caller(), asked)).page
    assert (page.hint, dict(page.metadata)) == ("Friday", {"topic": "deadline"})


async def test_a_dropped_page_is_gone_and_its_id_is_free() -> None:
    replica = await opened_as_shipped()
    await replica.append(page_pb2.PageInput(page_id="p", text="x"), page_pb2.PageInput(page_id="q", text="y"))
    drop = pb.DropPagesRequest(request_id="d", session_id="s1", page_ids=["p"])
    await replica.page_table.unmap_pages(caller(), drop)
    with pytest.raises(PageNotFound):
        await replica.lookup("p")
    with pytest.raises(PageNotFound):
        await replica.append(page_pb2.PageInput(page_id="p", text="z", new_version=True))
    with pytest.raises(InvalidField, match="must keep the modality"):
        await replica.append(page_pb2.PageInput(page_id="p", text="z", role=TOOL))
    again = page_pb2.PageInput(page_id="p", text="z", speaker="Bob")
    request = pb.AppendPagesRequest(request_id="again", session_id="s1", pages=[again, page_pb2.PageInput(text="w")])
    response = await replica.page_table.map_pages(caller(), request)
    assert [(page.page_id, page.version) for page in response.pages] == [("p", 2), ("p3", 1)]
    assert await replica.page_table.map_pages(caller(), request) == response
    page = (await replica.lookup("p")).page
    assert (page.speaker, page.turn) == ("Bob", 3)
    with pytest.raises(PageExists):
        await replica.append(page_pb2.PageInput(page_id="p", text="x"))
    for reader in (replica, Replica(replica.stores, "cold")):
        session = await reader.fold()
        assert as_said(session) == ["q", "p", "p3"]


async def test_reminders_give_way_and_the_first_instructions_stay() -> None:
    """However many messages the application adds between the turns."""
    replica = await opened_as_shipped()
    await replica.append(page_pb2.PageInput(page_id="rules", role=page_pb2.MESSAGE_ROLE_SYSTEM, text="You are kind."))
    reminder = "It is noon. Obey the house rules at all times. " * 900
    for number in range(30):
        await replica.append(
            page_pb2.PageInput(text=f"question {number}"),
            page_pb2.PageInput(page_id=f"r{number}", role=page_pb2.MESSAGE_ROLE_SYSTEM, text=reminder),
        )
    session = await replica.fold()
    resident = {one.page_id for one in session.working_set}
    assert {"rules", "r29"} <= resident
    assert "r0" not in resident
    assert [session.is_pinned(session.pages[name]) for name in ("rules", "r29")] == [True, False]
    with pytest.raises(PinBudgetExceeded):
        await replica.append(page_pb2.PageInput(text="word " * 100_000, pinned=True))


async def test_a_version_stays_where_its_page_was_said_and_begins_no_turn() -> None:
    replica = await opened_as_shipped()
    await replica.append(page_pb2.PageInput(page_id="u1", text="Capital of Australia?"))
    await replica.append(page_pb2.PageInput(page_id="a1", text="Canberra.", role=ASSISTANT))
    await replica.append(page_pb2.PageInput(page_id="u2", text="Are you sure?"))
    edited = page_pb2.PageInput(page_id="u1", text="Capital of Australia, please?", new_version=True)
    response = await replica.append(edited)
    assert (response.turn, response.pages[0].version) == (1, 2)
    session = await replica.fold()
    assert session.turn == 2
    assert as_said(session) == ["u1", "a1", "u2"]
    assert last_message(session) == LastMessage("u2", answered=False)
    corrected = page_pb2.PageInput(page_id="u2", text="Are you quite sure?", new_version=True)
    await replica.append(corrected)
    session = await replica.fold()
    assert session.turn == 2
    assert last_message(session) == LastMessage("u2", answered=False), "the question of this turn may be corrected"


def last_message(session: Session) -> LastMessage | None:
    offering = Offering()
    offering.keep_up(session)
    return offering.last_message
