"""search_pages over manifest entries: the pages that have the words of a query in their hint or id.

A view over `pagekeeper.core.search`. A search function of the application replaces the core's search. The search of a
`MemoryManager` knows contents as well.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final

from pydantic import NonNegativeInt, PositiveInt

from pagekeeper.core.pages import Modality
from pagekeeper.core.recall import recall
from pagekeeper.core.search import SearchFilter, SessionIndex
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.manifest import AvailablePageEntry, levels_from
from pagekeeper.memory.models import SearchResult, SearchResultEntry
from pagekeeper.memory.page_table import PageTable

__all__ = ["PageSearchHandler"]

SearchFunction = Callable[
    [str, list[AvailablePageEntry], int], Sequence[SearchResultEntry] | Awaitable[Sequence[SearchResultEntry]]
]
"""A query, the pages to choose from, and how many results at most; the best first."""
_NAME_IN_ID: Final = re.compile(r"[^\W\d_]{3,}")


@checked
class PageSearchHandler:
    """Searches `available_pages`, and the pages of `page_table` by their `page_hints`. Not safe for two threads."""

    def __init__(
        self,
        available_pages: Iterable[AvailablePageEntry] = (),
        page_table: PageTable | None = None,
        *,
        search_fn: SearchFunction | None = None,
        page_hints: Mapping[str, str] | None = None,
    ) -> None:
        self.available_pages = list(available_pages)
        self._page_table = page_table
        self._page_hints = dict(page_hints or {})
        self._search_fn = search_fn
        self._indexed: dict[str, AvailablePageEntry] = {}
        self._index = SessionIndex()

    def __repr__(self) -> str:
        return f"PageSearchHandler({len(self._entries()):,} pages)"

    def search(
        self, query: str, modality: Modality | str | None = None, limit: PositiveInt = 5
    ) -> "SearchResult | Awaitable[SearchResult]":
        """The pages that have any of the query's words, the best first.

        The answer may be awaited; it must be when the search function is a coroutine.
        """
        if self._search_fn is not None:
            pages = [page for page in self._entries().values() if modality is None or page.modality == modality]
            return _answered(self._search_fn(query, pages, limit), limit, len(pages))
        where = SearchFilter(modality=None if modality is None else Modality(modality))
        found = self._current_index().search(query, limit=limit, where=where)
        results = [_result(self._indexed[hit.page_id], hit.relevance) for hit in found]
        return SearchResult(results=results, total_available=len(self._indexed))

    def rank(self, query: str, limit: NonNegativeInt) -> list[str]:
        """Ids of the pages that have any of the query's words, the best first."""
        return [hit.page_id for hit in self._current_index().rank(query, limit=limit)]

    def recall(self, message: str, limit: NonNegativeInt) -> list[str]:
        """Ids of the pages that a message asks for, with their neighbours in the conversation, the best first."""
        return [hit.page_id for hit in recall(self._current_index(), message, limit=limit)]

    def _entries(self) -> dict[str, AvailablePageEntry]:
        """Every page to search: as it is offered, otherwise as the page table has it."""
        offered = {entry.page_id: entry for entry in self.available_pages}
        known = {} if self._page_table is None else self._page_table.entries
        tabled = {
            entry.page_id: AvailablePageEntry(
                page_id=entry.page_id,
                modality=entry.modality,
                tier=entry.tier,
                levels=levels_from(entry.compression_level),
                hint=self._page_hints.get(entry.page_id, ""),
            )
            for entry in known.values()
            if entry.page_id not in offered
        }
        return offered | tabled

    def _current_index(self) -> SessionIndex:
        """The core's index of the pages as they are now."""
        entries = self._entries()
        if entries != self._indexed:
            self._index.close()
            self._index, self._indexed = SessionIndex(), entries
            for page_id, entry in entries.items():
                hint = f"{entry.hint} {' '.join(_NAME_IN_ID.findall(page_id))}"
                self._index.add(page_id, "", hint, modality=entry.modality)
        return self._index


def _result(entry: AvailablePageEntry, relevance: float) -> SearchResultEntry:
    return SearchResultEntry(
        page_id=entry.page_id,
        modality=entry.modality,
        tier=entry.tier,
        levels=entry.levels,
        hint=entry.hint,
        relevance=relevance,
    )


def _answered(
    answer: Sequence[SearchResultEntry] | Awaitable[Sequence[SearchResultEntry]], limit: int, searched: int
) -> SearchResult | Awaitable[SearchResult]:
    async def when_it_comes(coming: Awaitable[Sequence[SearchResultEntry]]) -> SearchResult:
        return SearchResult(results=list(await coming)[:limit], total_available=searched)

    if inspect.isawaitable(answer):
        return when_it_comes(answer)
    return SearchResult(results=list(answer)[:limit], total_available=searched)
