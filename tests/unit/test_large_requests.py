"""What a large request costs is computed in the pool, and comes out as if it had been computed in place."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import TypeVar, TypeVarTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.hints import make_hint
from pagekeeper.core.pages import Modality
from pagekeeper.gateway import assembly, counting
from pagekeeper.gateway import contents as contents_of_pages
from pagekeeper.gateway.contents import Contents, content_cache
from pagekeeper.gateway.counting import counting_for, remembering
from pagekeeper.gateway.service import GatewayService
from pagekeeper.page_table import drafts, line_tokens
from pagekeeper.runtime.pool import HERE_BYTES_MAX
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.unit.faulting import FaultingReplica
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


def gateway(replica: FaultingReplica, pool: SeenPool) -> GatewayService:
    contents = Contents(content_cache(), replica.page_table, replica.artifacts, pool)
    ids = count()
    minted = lambda: f"minted{next(ids)}"  # noqa: E731 - a name of its own would say no more
    return GatewayService(replica.page_table, replica.working_set, replica.faults, contents, minted, pool)


@pytest.mark.parametrize("piece", HOSTILE.values(), ids=HOSTILE)
async def test_a_prompt_of_large_parts_is_the_prompt_that_the_loop_would_make(
    piece: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another model than the session's, so that lines are counted, too."""
    pool = SeenPool()
    replica = FaultingReplica(await ready(Stores()))
    large = piece * (HERE_BYTES_MAX // len(piece) + 1)
    await replica.open(max_l0_tokens=2_000_000)
    await replica.append(page_pb2.PageInput(text=large), page_pb2.PageInput(text="a harbour"))
    request = pb.AssemblePromptRequest(
        session_id="s1", user_input=large, system_prompt=large, model="gpt-4", budget_tokens=5_000_000
    )
    apart = await gateway(replica, pool).assemble_prompt(caller(), request)
    assert [name for _, name in pool.computed] == ["page_line", "counts_of", "counts_of", "assemble_apart"]
    remembering.cache_clear()
    counting_for.cache_clear()
    for module in (assembly, contents_of_pages, counting):
        monkeypatch.setattr(module, "HERE_BYTES_MAX", 1 << 30)
    pool.computed.clear()
    here = await gateway(replica, pool).assemble_prompt(caller(), request)
    assert not pool.computed
    assert here == apart


async def test_instructions_that_come_again_are_counted_once() -> None:
    pool = SeenPool()
    replica = FaultingReplica(await ready(Stores()))
    await replica.open()
    await replica.append(page_pb2.PageInput(text="a harbour"))
    asking = gateway(replica, pool)
    for words in ("where?", "when?"):
        request = pb.AssemblePromptRequest(
            session_id="s1", user_input=words, system_prompt="be kind; " * HERE_BYTES_MAX, budget_tokens=90_000
        )
        await asking.assemble_prompt(caller(), request)
    assert [name for _, name in pool.computed] == ["counts_of"]
