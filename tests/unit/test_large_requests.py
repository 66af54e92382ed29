"""What a large request costs is computed in the pool, and comes out as if it had been computed in place."""

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.hints import make_hint
from pagekeeper.core.pages import Modality
from pagekeeper.page_table import drafts, line_tokens
from pagekeeper.runtime.pool import HERE_BYTES_MAX
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.unit.stack import WORDS, Replica, SeenPool, Stores, caller, ready

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
HOSTILE = {
    "nul": "\0",
    "one line": "x",
    "no white space": "aB3-",
    "marks": "\u0301",
    "emoji": "\U0001f600",
    "structure": "U (msg_001): ",
}


async def replicas() -> tuple[Replica, Replica, SeenPool]:
    """One that computes in a pool, and one beside it."""
    pool = SeenPool()
    stores = await ready(Stores())
    one = Replica(stores, "a", pool=pool)
    await one.open()
    return one, Replica(stores, "b"), pool


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
async def test_a_large_page_is_hinted_and_counted_away_from_the_loop(
    piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, _, pool = await replicas()
    monkeypatch.setattr(drafts, "make_hint", never)
    monkeypatch.setattr(line_tokens, "count_line", never)
    monkeypatch.setattr(drafts, "hints_of", lambda pages: [f"hint of {len(pages[0][0])}"])
    monkeypatch.setattr(line_tokens, "count_lines", lambda _tokenizer, lines: [7 for _ in lines])
    text = piece * (HERE_BYTES_MAX // len(piece) + 1)
    response = await replica.append(page_pb2.PageInput(text=text))
    assert [page.size_tokens for page in response.pages] == [7]
    assert (await replica.lookup("p1")).page.hint == f"hint of {len(text)}"
    assert [tenant for tenant, _ in pool.computed] == ["acme", "acme"]


def never(*_: object) -> object:
    raise AssertionError("computed on the loop")


async def test_a_small_page_is_computed_in_place() -> None:
    replica, _, pool = await replicas()
    await replica.append(page_pb2.PageInput(text="x" * HERE_BYTES_MAX))
    assert not pool.computed


async def test_many_small_pages_are_a_large_request() -> None:
    replica, _, pool = await replicas()
    await replica.append(*[page_pb2.PageInput(text="word " * 100) for _ in range(64)])
    assert pool.computed == [("acme", "hints_of"), ("acme", "count_lines")]


texts = st.lists(st.sampled_from(list(HOSTILE.values())), min_size=1, max_size=4).map("".join)


@given(st.lists(texts, min_size=1, max_size=3))
def test_hints_and_tokens_are_those_of_a_small_request(pieces: list[str]) -> None:
    async def compare() -> None:
        replica, _, _ = await replicas()
        pages = [page_pb2.PageInput(text=piece * (HERE_BYTES_MAX // len(piece))) for piece in pieces]
        together = (await replica.append(*pages, pages[0])).pages
        for page, answered in zip(pages, together, strict=False):
            assert (await replica.lookup(answered.page_id)).page.hint == make_hint(page.text, Modality.TEXT)
            alone = (await replica.append(page)).pages[0]
            # An id of more digits is no more words.
            assert alone.size_tokens == answered.size_tokens

    asyncio.run(compare())


async def test_a_page_that_another_replica_appends_meanwhile_takes_its_ordinal_and_nothing_else() -> None:
    """The line shows the ordinal, so the lines are counted for the ordinal that the page gets in the end."""
    replica, other, _ = await replicas()
    lines: list[str] = []

    class Racing(SeenPool):
        async def run(self, tenant: str, function: Callable[[*Ts], T], *args: *Ts) -> T:
            if function.__name__ == "count_lines" and len(lines) < 3:
                lines.append(function.__name__)
                await other.append(page_pb2.PageInput(text="first"))
            return await super().run(tenant, function, *args)

    racing = Replica(replica.stores, "c", pool=Racing())
    response = await racing.append(page_pb2.PageInput(text="x " * HERE_BYTES_MAX))
    assert [page.page_id for page in response.pages] == ["p4"]
    assert len(lines) == 3
    line = f'U (p4): "{"x " * HERE_BYTES_MAX}"\n'
    assert response.pages[0].size_tokens == WORDS.count(line)


async def test_a_refusal_comes_before_anything_is_counted() -> None:
    replica, _, pool = await replicas()
    request = pb.AppendPagesRequest(
        request_id="r1", session_id="none", pages=[page_pb2.PageInput(text="x" * (HERE_BYTES_MAX + 1))]
    )
    with pytest.raises(Exception, match="does not exist"):
        await replica.page_table.map_pages(caller(), request)
    assert ("acme", "count_lines") not in pool.computed
