"""search_pages over manifest entries: the pages that have the words of a query in their hint or id.

A view over `pagekeeper.core.search`. A search function of the application replaces the core's search. The search of a
`MemoryManager` knows contents as well.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Final

from pydantic import PositiveInt

from pagekeeper.core.pages import Modality
from pagekeeper.core.search import SearchFilter, SessionIndex
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.manifest import AvailablePageEntry
from pagekeeper.memory.models import SearchResult, SearchResultEntry

__all__ = ["PageSearchHandler"]

SearchFunction = Callable[
    [str, list[AvailablePageEntry], int], Sequence[SearchResultEntry] | Awaitable[Sequence[SearchResultEntry]]
]
"""A query, the pages to choose from, and how many results at most; the best first."""
_NAME_IN_ID: Final = re.compile(r"[^\W\d_]{3,}")


@checked
class PageSearchHandler:
    """Searches `available_pages`, as they are when it is asked. Not safe for two threads."""

    def __init__(
        self,
        available_pages: Iterable[AvailablePageEntry] = (),
        *,
        search_fn: SearchFunction | None = None,
    ) -> None:
        self.available_pages = list(available_pages)
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
        results = [SearchResultEntry(**dict(self._indexed[hit.page_id]), relevance=hit.relevance) for hit in found]
        return SearchResult(results=results, total_available=len(self._indexed))

    def _entries(self) -> dict[str, AvailablePageEntry]:
        return {entry.page_id: entry for entry in self.available_pages}

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


def _answered(
    answer: Sequence[SearchResultEntry] | Awaitable[Sequence[SearchResultEntry]], limit: int, searched: int
) -> SearchResult | Awaitable[SearchResult]:
    async def when_it_comes(coming: Awaitable[Sequence[SearchResultEntry]]) -> SearchResult:
        return SearchResult(results=list(await coming)[:limit], total_available=searched)

    if inspect.isawaitable(answer):
        return when_it_comes(answer)
    return SearchResult(results=list(answer)[:limit], total_available=searched)
