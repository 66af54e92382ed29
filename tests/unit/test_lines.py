"""A line shows the same facts wherever they are taken from: the page to map, the folded page, the API's message."""

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core import events as ev
from pagekeeper.core.lines import LineFacts, facts_of_mapped, facts_of_version, line_tokens
from pagekeeper.core.packing import SAID_UNIX_MS_MAX, ContextPrefix, render_line
from pagekeeper.core.pages import (
    MediaDescription,
    MessageRole,
    Modality,
    PageType,
    StoredRepresentation,
    TrustClass,
)
from pagekeeper.core.session import Session
from pagekeeper.runtime.codec import MessageReader
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from pagekeeper.runtime.views import page_message
from pagekeeper.v1 import page_pb2
from tests.unit.hostile_text import hostile_texts

captions = hostile_texts.map(lambda text: text.encode("utf-8", "replace").decode())
mapped_pages = st.builds(
    ev.MappedPage,
    page_id=st.sampled_from(["p1", "named"]),
    version=st.just(1),
    modality=st.sampled_from(Modality),
    page_type=st.sampled_from(PageType),
    role=st.sampled_from(MessageRole),
    trust=st.sampled_from(TrustClass),
    hint=st.just(""),
    importance=st.just(0.5),
    pinned=st.booleans(),
    full=st.just(StoredRepresentation(0, 7, 1, bytes(32), inline=b"x")),
    media=st.none() | st.builds(MediaDescription, caption=captions, width=st.integers(0, 9)),
    tool_call_id=captions,
    speaker=captions,
    said_unix_ms=st.integers(0, SAID_UNIX_MS_MAX),
)


@given(mapped_pages, st.sampled_from(TrustClass), st.sampled_from(PageType))
def test_a_line_shows_the_same_facts_wherever_they_are_kept(
    mapped: ev.MappedPage, trust: TrustClass, annotated: PageType
) -> None:
    session = Session()
    session.apply(1, ev.Transaction("a", bytes(32), 1, (ev.SessionOpened(ev.SessionConfig()),)))
    session.apply(2, ev.Transaction("b", bytes(32), 1, (ev.PagesMapped((mapped._replace(trust=trust),)),)))
    annotation = ev.PageAnnotation(mapped.page_id, page_type=annotated)
    session.apply(3, ev.Transaction("c", bytes(32), 1, (ev.PagesAnnotated((annotation,)),)))
    page = session.pages[mapped.page_id]
    facts = facts_of_mapped(mapped, trust)
    assert facts == facts_of_version(page, page.current)
    assert facts == MessageReader(LineFacts, page_pb2.Page).decode(page_message(session, page))
    known = mapped._asdict() | {"trust": trust}
    assert facts._asdict() == {name: known["page_type" if name == "mapped_type" else name] for name in facts._fields}


def test_a_line_that_may_have_been_counted_otherwise_is_counted_again() -> None:
    count = tokenizer(EncodingName.O200K_BASE).count
    plain = render_line(ContextPrefix.USER, "m1", 0, "a plain page\nof two lines")
    assert line_tokens(plain, 7, count) == 7
    for text in ("<think>", "[TOOL_CALLS]", "echo '\\e[0m'", "\x1b[31mred", "a\u3164b", "\u200fשלום"):
        line = render_line(ContextPrefix.TOOL, "m1", 0, text)
        assert line_tokens(line, 7, count) == count(line)
