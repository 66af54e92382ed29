"""A search finds the pages whose hints have its words, and nothing that is not there."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.errors import InvalidField
from pagekeeper.memory import (
    AvailablePageEntry,
    CompressionLevel,
    Modality,
    PageSearchHandler,
    SearchResult,
    SearchResultEntry,
    StorageTier,
)

HINTS = {
    "m1": "discussion about authentication",
    "m2": "JWT token implementation",
    "m3": "architecture diagram",
    "m4": "discussion about lunch",
}


def offered(page_id: str, hint: str, modality: Modality = Modality.TEXT) -> AvailablePageEntry:
    return AvailablePageEntry(
        page_id=page_id,
        modality=modality,
        tier=StorageTier.L2,
        levels=[CompressionLevel.FULL, CompressionLevel.REDUCED],
        hint=hint,
    )


async def found(handler: PageSearchHandler, query: str, **options: Any) -> list[str]:  # noqa: ANN401 - options of each test
    result = await handler.search(query, **options)
    return [entry.page_id for entry in result.results]


def hinted(hints: dict[str, str]) -> PageSearchHandler:
    return PageSearchHandler([offered(page_id, hint) for page_id, hint in hints.items()])


def test_hints_are_found_by_their_words() -> None:
    handler = hinted(HINTS)
    result = handler.search("authentication")
    assert isinstance(result, SearchResult)
    assert result.total_available == 4
    assert result.results == [
        SearchResultEntry(
            page_id="m1",
            modality=Modality.TEXT,
            tier=StorageTier.L2,
            levels=[CompressionLevel.FULL, CompressionLevel.REDUCED],
            hint="discussion about authentication",
            relevance=1.0,
        )
    ]


async def test_the_pages_that_are_searched_are_those_of_now() -> None:
    handler = hinted({"a": "harbour", "b": "harbour"})
    assert await found(handler, "harbour") == ["a", "b"]
    moved = offered("b", "harbour").model_copy(update={"tier": StorageTier.L4})
    handler.available_pages[:] = [moved]
    result = await handler.search("harbour")
    assert [(entry.page_id, entry.tier) for entry in result.results] == [("b", StorageTier.L4)]
    handler.available_pages = [offered("b", "about ships"), offered("c", "harbour")]
    assert await found(handler, "harbour") == ["c"]
    assert await found(handler, "ship") == ["b"]


async def test_names_in_ids_are_found_and_numbers_in_them_are_not() -> None:
    handler = hinted({"budget_7": "", "m_7": "seven"})
    assert await found(handler, "budget") == ["budget_7"]
    assert await found(handler, "7") == []


@given(
    st.lists(st.sampled_from(["harbour", "crane", "ship", "zzz"]), min_size=1, max_size=3),
    st.integers(1, 4),
)
async def test_relevance_falls_from_one_to_zero_within_the_limit(words: list[str], limit: int) -> None:
    handler = hinted({"a": "harbour crane", "b": "crane", "c": "ship ship harbour", "d": "tea"})
    result = await handler.search(" ".join(words), limit=limit)
    relevances = [entry.relevance for entry in result.results]
    assert relevances == sorted(relevances, reverse=True)
    assert all(0 < relevance <= 1 for relevance in relevances)
    assert len(relevances) <= limit


async def test_a_modality_leaves_out_the_others() -> None:
    handler = PageSearchHandler([offered("m0", "the harbour"), offered("m1", "the harbour", Modality.IMAGE)])
    assert set(await found(handler, "harbour")) == {"m0", "m1"}
    assert await found(handler, "harbour", modality="image") == ["m1"]
    with pytest.raises(InvalidField, match="modality must be 'text', 'image'"):
        handler.search("harbour", modality="smell")


def answer(page_id: str) -> SearchResultEntry:
    return SearchResultEntry(page_id=page_id, modality=Modality.TEXT, tier=StorageTier.L2)


def test_a_search_function_of_ones_own_chooses_from_what_there_is() -> None:
    def choose(query: str, pages: list[AvailablePageEntry], limit: int) -> Sequence[SearchResultEntry]:
        assert (query, limit) == ("anything", 1)
        return [answer(page.page_id) for page in pages]

    handler = PageSearchHandler([offered("i1", "", Modality.IMAGE), offered("m1", "")], search_fn=choose)
    result = handler.search("anything", "text", 1)
    assert isinstance(result, SearchResult)
    assert ([entry.page_id for entry in result.results], result.total_available) == (["m1"], 1)


async def test_a_search_function_may_be_a_coroutine() -> None:
    async def choose(_query: str, pages: list[AvailablePageEntry], _limit: int) -> Sequence[SearchResultEntry]:
        return [answer(page.page_id) for page in pages]

    handler = PageSearchHandler([offered("m1", "")], search_fn=choose)
    assert await found(handler, "anything") == ["m1"]


@pytest.mark.parametrize("query", ['"', "* OR", "NEAR(a b)", "", "\x00", "(", "hint: x"])
async def test_no_query_is_syntax(query: str) -> None:
    await found(hinted({"a": "harbour"}), query)
