"""Ids that a session makes are the ordinals of its pages: decided with the append, and never decided again."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.errors import InvalidField, PagekeeperError
from pagekeeper.core.fold_rules import FOLD_VERSION
from pagekeeper.core.ids import ordinal_page_id
from pagekeeper.core.lines import LineFacts, page_line
from pagekeeper.core.pages import MessageRole, Modality, PageType, TrustClass
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.model.drafts import Draft, full_tokens, new_page
from tests.unit.stack import Replica, Stores, caller, following, ready

ANY = Draft(MessageRole.ASSISTANT, 7)
NAMES = [f"p{ordinal}" for ordinal in range(1, 16)] + ["mine", "p01", "p"]
"""Ids that callers choose: those that a session would come to, and others."""

batches = st.lists(st.sampled_from(["", "", "", *NAMES]), min_size=1, max_size=6)
steps = st.lists(st.one_of(batches, st.sampled_from(["drop", "snapshot", "restore"])), max_size=14)


def ids_as_defined(known: Sequence[str], batch: Sequence[str]) -> list[str]:
    """The definition, as slow as it is plain: the least ordinal above the number of pages that nobody has taken."""
    ids, made = list(known), []
    for name in batch:
        ordinal = len(ids) + 1
        while f"p{ordinal}" in ids or f"p{ordinal}" in batch:
            ordinal += 1
        made.append(name or f"p{ordinal}")
        if made[-1] not in ids:
            ids.append(made[-1])
    return made


class Played:
    """A session without a service around it."""

    def __init__(self) -> None:
        self.session = Session()
        self.apply(decisions.open_session(self.session, "s", ev.SessionConfig(), ()))

    def apply(self, event: ev.Event) -> None:
        number = self.session.revision + 1
        self.session.apply(number, ev.Transaction(f"r{number}", bytes(32), number, (event,), FOLD_VERSION))

    def append(self, batch: Sequence[str]) -> list[str] | None:
        """The ids of what was mapped; None when the batch was refused."""
        pages = [new_page(name, ANY) for name in batch]
        try:
            mapped = decisions.map_pages(self.session, pages, full_tokens)
        except PagekeeperError:
            return None
        assert decisions.map_pages(self.session, pages, full_tokens) == mapped, "decided again, it is the same"
        self.apply(mapped)
        return [page.page_id for page in mapped.pages]

    def take(self, step: str) -> None:
        known = list(self.session.pages)
        if step == "drop" and known and self.session.page(known[0]) is not None:
            self.apply(decisions.unmap(self.session, known[:1]))
        elif step == "restore":
            self.apply(decisions.restore(Played().session, "c"))
        elif step == "snapshot":
            self.session = codec.decode_state(codec.encode_state(self.session), self.session.revision)


@given(steps)
def test_an_id_is_the_least_free_ordinal_above_the_number_of_pages_that_ever_were(some: list[list[str] | str]) -> None:
    played = Played()
    for step in some:
        known = list(played.session.pages)
        if isinstance(step, str):
            played.take(step)
            assert list(played.session.pages) == known
            continue
        ids = played.append(step)
        if ids is None:
            named = [name for name in step if name]
            there = {page.page_id for page in played.session.pages.mapped()}
            assert len(set(named)) < len(named) or set(named) & there, "nothing else is a reason to refuse"
            continue
        assert ids == ids_as_defined(known, step)
        assert list(played.session.pages) == [*known, *(page_id for page_id in ids if page_id not in known)]
        made_up = [page_id for page_id, name in zip(ids, step, strict=True) if not name]
        found = played.session.pages.first_mapped_at(played.session.revision, len(made_up), set(step))
        assert found == made_up


@given(st.lists(st.integers(1, 6), max_size=8))
def test_pages_that_nobody_names_are_counted_from_one(sizes: list[int]) -> None:
    played = Played()
    ids = [page_id for size in sizes for page_id in played.append([""] * size) or ()]
    assert ids == [f"p{ordinal}" for ordinal in range(1, sum(sizes) + 1)]


@settings(max_examples=25)
@given(steps=st.lists(st.tuples(st.sampled_from("ab"), batches), min_size=1, max_size=10), spoiled=st.booleans())
def test_two_writers_at_once_never_give_an_id_twice(steps: list[tuple[str, list[str]]], *, spoiled: bool) -> None:
    """Both decide on the state that they know; who loses the race decides again, with other ids."""

    async def play() -> None:
        stores = await ready(Stores())
        replicas = {name: Replica(stores, name) for name in "ab"}
        await replicas["a"].open()
        requests: list[tuple[str, pb.AppendPagesRequest]] = []
        for number, (name, batch) in enumerate(steps):
            pages = [
                page_pb2.PageInput(page_id=page_id, text=f"{number} {place}") for place, page_id in enumerate(batch)
            ]
            requests.append((name, pb.AppendPagesRequest(request_id=f"r{number}", session_id="s1", pages=pages)))
        async with following(*replicas.values()):
            answers = await asyncio.gather(
                *(replicas[name].page_table.map_pages(caller(), request) for name, request in requests),
                return_exceptions=True,
            )
            if spoiled:
                await replicas["a"].snapshot()
        given_ids = [page.page_id for one in answers if isinstance(one, pb.AppendPagesResponse) for page in one.pages]
        assert len(set(given_ids)) == len(given_ids)
        assert set(given_ids) == set((await replicas["a"].fold()).pages)
        for (_, request), answer in zip(requests, answers, strict=True):
            if not isinstance(answer, pb.AppendPagesResponse):
                assert isinstance(answer, PagekeeperError)
                continue
            for name in (*replicas, "cold"):
                again = await Replica(stores, name).page_table.map_pages(caller(), request)
                assert again.pages == answer.pages, "a retry is told the ids that the log has"
            for sent, page in zip(request.pages, answer.pages, strict=True):
                assert page.page_id == (sent.page_id or page.page_id)
                assert await replicas["b"].content(page.page_id) == sent.text.encode()

    asyncio.run(play())


async def test_a_fork_counts_on_from_where_it_left_its_parent() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    first = await replica.append(*[page_pb2.PageInput(text=f"{number}") for number in range(3)])
    await replica.append(page_pb2.PageInput(text="the parent's alone"))
    fork = pb.ForkSessionRequest(request_id="f", session_id="s1", new_session_id="s2", at_revision=first.revision)
    await replica.page_table.fork_session(caller(), fork)
    request = pb.AppendPagesRequest(
        request_id="r", session_id="s2", pages=[page_pb2.PageInput(text="one"), page_pb2.PageInput(text="two")]
    )
    answer = await replica.page_table.map_pages(caller(), request)
    assert [page.page_id for page in answer.pages] == ["p4", "p5"]
    assert await replica.content("p4", "s2") == b"one"
    assert await replica.content("p4", "s1") == b"the parent's alone"
    again = await Replica(replica.stores, "b").page_table.map_pages(caller(), request)
    assert again.pages == answer.pages


def test_a_retry_is_not_told_of_an_inherited_page_of_the_same_revision() -> None:
    """Revisions of a fork's own log and of its parent's are numbers of two counts."""
    played = Played()
    played.append(["", ""])
    fork = codec.decode_state(codec.encode_state(played.session), 0)
    mapped = decisions.map_pages(fork, [new_page("", ANY)], full_tokens)
    fork.apply(played.session.revision, ev.Transaction("r", bytes(32), 1, (mapped,)))
    assert fork.pages.first_mapped_at(played.session.revision, 1) == ["p3"]


async def test_a_batch_may_refer_to_its_own_earlier_pages_by_the_ids_that_it_chose() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    derived = page_pb2.PageLink(kind=page_pb2.LINK_KIND_DERIVED_FROM, target_page_id="source")
    answer = await replica.append(
        page_pb2.PageInput(text="before"),
        page_pb2.PageInput(page_id="source", text="{}", role=page_pb2.MESSAGE_ROLE_TOOL),
        page_pb2.PageInput(text="made from it", role=page_pb2.MESSAGE_ROLE_ASSISTANT, links=[derived]),
    )
    assert [page.page_id for page in answer.pages] == ["p1", "source", "p3"]
    page = (await replica.page_table.get_page(caller(), pb.GetPageRequest(session_id="s1", page_id="p3"))).page
    assert [link.target_page_id for link in page.links] == ["source"]
    assert page.trust == TrustClass.TOOL.value


async def test_a_line_is_counted_with_the_id_that_it_shows() -> None:
    count = tokenizer(EncodingName.O200K_BASE).count
    replica = Replica(await ready(Stores()), tokenizer_of=lambda _: tokenizer(EncodingName.O200K_BASE))
    await replica.open(max_l0_tokens=100_000)
    answer = await replica.append(*[page_pb2.PageInput(text=f"message {number}") for number in range(120)])
    for number, page in enumerate(answer.pages):
        facts = LineFacts(page.page_id, Modality.TEXT, PageType.TRANSCRIPT, MessageRole.USER, TrustClass.USER, None)
        assert page.size_tokens == count(page_line(facts, 0, f"message {number}".encode()))


def test_a_header_with_an_ordinal_takes_six_tokens() -> None:
    count = tokenizer(EncodingName.O200K_BASE).count
    for ordinal in (1, 17, 999):
        facts = LineFacts(
            ordinal_page_id(ordinal), Modality.TEXT, PageType.TRANSCRIPT, MessageRole.USER, TrustClass.USER, None
        )
        assert count(page_line(facts, 0, b"x").removesuffix('x"\n')) == 6


async def test_a_version_of_no_page_is_refused() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    with pytest.raises(InvalidField, match="page that gets a new version"):
        await replica.append(page_pb2.PageInput(text="of what?", new_version=True))
    page = new_page("", ANY, new_version=True)
    with pytest.raises(PagekeeperError):
        decisions.map_pages(Played().session, [replace(page, new_version=True)], full_tokens)
