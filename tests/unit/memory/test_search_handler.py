"""A search finds the pages that have its words, in their contents as in their hints, and nothing that is not there."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.errors import InvalidField
from pagekeeper.memory import (
    AvailablePageEntry,
    CompressionLevel,
    MemoryPage,
    Modality,
    PageSearchHandler,
    PageTable,
    PageType,
    SearchResult,
    SearchResultEntry,
    StorageTier,
)

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
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


def full_of(contents: dict[str, str]) -> PageSearchHandler:
    table = PageTable()
    handler = PageSearchHandler(page_table=table)
    for hour, (page_id, content) in enumerate(contents.items()):
        page = MemoryPage(page_id=page_id, content=content, created_at=NOON + timedelta(hours=hour))
        table.register(page)
        handler.add_page(page)
    return handler


def test_hints_are_found_by_their_words() -> None:
    handler = PageSearchHandler([offered(page_id, hint) for page_id, hint in HINTS.items()])
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


async def test_contents_are_found_whatever_happens_to_the_page() -> None:
    handler = full_of({"a": "The harbour master signed the contract.", "b": "Nothing of note."})
    assert handler.page_table is not None
    page = MemoryPage(page_id="a", content="The harbour master signed the contract.")
    handler.add_page(page.shortened(CompressionLevel.REFERENCE, "topics", 1))
    handler.page_table.update_location("a", StorageTier.L4)
    result = await handler.search("who signed contracts")
    assert [(entry.page_id, entry.tier) for entry in result.results] == [("a", StorageTier.L4)]
    assert "signed" in result.results[0].hint


async def test_what_the_table_gives_up_is_not_found() -> None:
    handler = full_of({"a": "harbour", "b": "harbour"})
    assert await found(handler, "harbour") == ["a", "b"]
    assert handler.page_table is not None
    handler.page_table.remove("a")
    assert await found(handler, "harbour") == ["b"]
    handler.remove_page("b")
    assert await found(handler, "harbour") == []


async def test_a_hint_that_changes_is_the_one_that_counts() -> None:
    handler = full_of({"a": ""})
    handler.set_hint("a", "about bicycles")
    assert await found(handler, "bicycle") == ["a"]
    handler.set_hint("a", "about ships")
    assert await found(handler, "bicycle") == []
    assert await found(handler, "ship") == ["a"]


async def test_names_in_ids_are_found_and_numbers_in_them_are_not() -> None:
    handler = full_of({"budget_7": "", "m_7": "seven"})
    assert await found(handler, "budget") == ["budget_7"]
    assert await found(handler, "7") == []


@given(
    st.lists(st.sampled_from(["harbour", "crane", "ship", "zzz"]), min_size=1, max_size=3),
    st.integers(1, 4),
)
async def test_relevance_falls_from_one_to_zero_within_the_limit(words: list[str], limit: int) -> None:
    handler = full_of({"a": "harbour crane", "b": "crane", "c": "ship ship harbour", "d": "tea"})
    result = await handler.search(" ".join(words), limit=limit)
    relevances = [entry.relevance for entry in result.results]
    assert relevances == sorted(relevances, reverse=True)
    assert all(0 < relevance <= 1 for relevance in relevances)
    assert len(relevances) <= limit


async def test_filters_leave_out_what_is_not_asked_for() -> None:
    table = PageTable()
    handler = PageSearchHandler(page_table=table)
    kinds = [
        (Modality.TEXT, PageType.TRANSCRIPT),
        (Modality.IMAGE, PageType.ARTIFACT),
        (Modality.TEXT, PageType.CLAIM),
    ]
    for hour, (modality, page_type) in enumerate(kinds):
        page = MemoryPage(
            page_id=f"m{hour}",
            modality=modality,
            page_type=page_type,
            caption="the harbour" if modality is Modality.IMAGE else None,
            content="the harbour" if modality is Modality.TEXT else None,
            created_at=NOON + timedelta(hours=hour),
        )
        table.register(page)
        handler.add_page(page)
    assert set(await found(handler, "harbour")) == {"m0", "m1", "m2"}
    assert await found(handler, "harbour", modality="image") == ["m1"]
    with pytest.raises(InvalidField, match="modality must be one of text, image"):
        handler.search("harbour", modality="smell")
    assert await found(handler, "harbour", page_types=[PageType.CLAIM]) == ["m2"]
    assert await found(handler, "harbour", created_to=NOON) == ["m0"]
    assert set(await found(handler, "harbour", created_from=NOON + timedelta(hours=1))) == {"m1", "m2"}


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


async def test_similar_pages_share_words() -> None:
    handler = full_of({"a": "the crane of the harbour", "b": "a crane", "c": "tea"})
    assert handler.similar("a", 5) == ["b"]
    assert handler.similar("ghost", 5) == []


@pytest.mark.parametrize("query", ['"', "* OR", "NEAR(a b)", "", "\x00", "(", "hint: x"])
async def test_no_query_is_syntax(query: str) -> None:
    await found(full_of({"a": "harbour"}), query)
