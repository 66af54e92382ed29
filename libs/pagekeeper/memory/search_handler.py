"""search_pages: the pages that have the words of a query in their content, hint or id.

A view over `pagekeeper.core.search`. A page is searched by its content once `add_page` was given the page, and by hint
and id in any case. A search function of the application replaces the core's search.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from pydantic import NonNegativeInt, PositiveInt

from pagekeeper.core.pages import MessageRole, Modality, PageType
from pagekeeper.core.recall import recall
from pagekeeper.core.search import Found, SearchFilter, SessionIndex
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.manifest import AvailablePageEntry, levels_from
from pagekeeper.memory.models import MemoryPage, SearchResult, SearchResultEntry
from pagekeeper.memory.page_table import PageTable
from pagekeeper.memory.page_view import page_type_of, readable_text, role_of

__all__ = ["PageSearchHandler", "SearchFunction"]

SearchFunction = Callable[
    [str, list[AvailablePageEntry], int], Sequence[SearchResultEntry] | Awaitable[Sequence[SearchResultEntry]]
]
"""A query, the pages to choose from, and how many results at most; the best first."""
_NAME_IN_ID: Final = re.compile(r"[^\W\d_]{3,}")
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_END_OF_TIME: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Words:
    """An indexed page's facts. `created_unix_ms` is 0 for a page whose content was not added."""

    text: str
    hint: str
    modality: Modality
    page_type: PageType
    role: MessageRole
    created_unix_ms: int


@checked
class PageSearchHandler:
    """Searches `available_pages` and the pages of `page_table`. One thread at a time may use a handler."""

    def __init__(
        self,
        available_pages: Iterable[AvailablePageEntry] = (),
        page_table: PageTable | None = None,
        *,
        search_fn: SearchFunction | None = None,
        page_hints: Mapping[str, str] | None = None,
    ) -> None:
        self.available_pages = list(available_pages)
        self.page_table = page_table
        self.page_hints = dict(page_hints or {})
        self._search_fn = search_fn
        self._contents: dict[str, _Words] = {}
        self._index = SessionIndex()
        self._indexed: dict[str, _Words] = {}

    def __repr__(self) -> str:
        return f"PageSearchHandler({len(self._page_ids()):,} pages, {len(self._contents):,} with content)"

    def configure(self, page_table: PageTable, search_fn: SearchFunction | None = None) -> None:
        """Set the page table and the search function after the handler was made."""
        self.page_table = page_table
        self._search_fn = search_fn

    def set_hint(self, page_id: str, hint: str) -> None:
        self.page_hints[page_id] = hint

    def add_page(self, page: MemoryPage) -> None:
        """Make the page's full content searchable; it stays so when the page is shortened or evicted."""
        full = page.full
        self._contents[page.page_id] = _Words(
            readable_text(full),
            "",
            full.modality,
            page_type_of(full),
            role_of(full) or MessageRole.USER,
            _unix_ms(full.created_at),
        )

    def remove_page(self, page_id: str) -> None:
        """Forget content and hint of the page. Its id is searched while the table or the available pages list it."""
        self._contents.pop(page_id, None)
        self.page_hints.pop(page_id, None)

    def search(
        self,
        query: str,
        modality: Modality | str | None = None,
        limit: PositiveInt = 5,
        *,
        page_types: Iterable[PageType] = (),
        created_from: datetime = _EPOCH,
        created_to: datetime = _END_OF_TIME,
    ) -> "SearchResult | Awaitable[SearchResult]":
        """The pages that have any of the query's words, the best first.

        `created_from` and `created_to` bound `MemoryPage.created_at`, both ends included; a page whose content was not
        added counts as created at the epoch. The answer may be awaited; it must be when the search function is a
        coroutine.
        """
        if self._search_fn is not None:
            pages = [self._entry(page_id) for page_id in self._page_ids()]
            chosen = [entry for entry in pages if modality is None or entry.modality == modality]
            return _answered(self._search_fn(query, chosen, limit), limit, len(chosen))
        where = SearchFilter(
            modality=None if modality is None else Modality(modality),
            page_types=tuple(page_types),
            from_turn=_unix_ms(created_from),
            to_turn=_unix_ms(created_to),
        )
        found = self._current_index().search(query, limit=limit, where=where)
        return SearchResult(
            results=[self._result(hit) for hit in found],
            total_available=len(self._indexed),
        )

    def rank(self, query: str, limit: NonNegativeInt) -> list[str]:
        """Ids of the pages that have any of the query's words, the best first."""
        return [hit.page_id for hit in self._current_index().rank(query, limit=limit)]

    def recall(self, message: str, limit: NonNegativeInt) -> list[str]:
        """Ids of the pages that a message asks for, with their neighbours in the conversation, the best first."""
        return [hit.page_id for hit in recall(self._current_index(), message, limit=limit)]

    def similar(self, page_id: str, limit: NonNegativeInt) -> list[str]:
        """Ids of the pages that share most words with a page; none for an unknown page."""
        index, words = self._current_index(), self._indexed.get(page_id)
        if words is None:
            return []
        hits = index.rank(f"{words.hint} {words.text}", limit=limit + 1)
        return [hit.page_id for hit in hits if hit.page_id != page_id][:limit]

    def _page_ids(self) -> list[str]:
        """Every page to search, each once."""
        known = {} if self.page_table is None else self.page_table.entries
        return list(dict.fromkeys([*(entry.page_id for entry in self.available_pages), *known]))

    def _entry(self, page_id: str) -> AvailablePageEntry:
        """The entry of a page: the offered one, otherwise one made from the page table. Raises KeyError."""
        hint = self.page_hints.get(page_id)
        for entry in self.available_pages:
            if entry.page_id == page_id:
                return entry if hint is None else entry.model_copy(update={"hint": hint})
        known = None if self.page_table is None else self.page_table.entries.get(page_id)
        if known is None:
            raise KeyError(page_id)
        return AvailablePageEntry(
            page_id=page_id,
            modality=known.modality,
            tier=known.tier,
            levels=levels_from(known.compression_level),
            hint=hint or "",
        )

    def _result(self, hit: Found) -> SearchResultEntry:
        entry = self._entry(hit.page_id)
        return SearchResultEntry(
            page_id=hit.page_id,
            modality=entry.modality,
            tier=entry.tier,
            levels=entry.levels,
            hint=hit.snippet if hit.page_id in self._contents else entry.hint,
            relevance=hit.relevance,
        )

    def _current_index(self) -> SessionIndex:
        """The index, brought up to date with the pages, hints and contents of this moment."""
        current = self._current_words()
        for page_id in [page_id for page_id in self._indexed if page_id not in current]:
            self._index.remove(page_id)
        for page_id, words in current.items():
            if self._indexed.get(page_id) != words:
                self._index.replace(
                    page_id,
                    words.text,
                    f"{words.hint} {' '.join(_NAME_IN_ID.findall(page_id))}",
                    modality=words.modality,
                    page_type=words.page_type,
                    role=words.role,
                    turn=words.created_unix_ms,
                )
        self._indexed = current
        return self._index

    def _current_words(self) -> dict[str, _Words]:
        hints = {entry.page_id: entry.hint for entry in self.available_pages} | self.page_hints
        offered = {entry.page_id: (entry.modality, PageType.TRANSCRIPT) for entry in self.available_pages}
        tabled = {} if self.page_table is None else self.page_table.entries
        kinds = {page_id: (entry.modality, entry.page_type) for page_id, entry in tabled.items()} | offered
        words: dict[str, _Words] = {}
        for page_id, (modality, page_type) in kinds.items():
            content, hint = self._contents.get(page_id), hints.get(page_id, "")
            if content is None:
                words[page_id] = _Words("", hint, modality, page_type, MessageRole.USER, 0)
            else:
                words[page_id] = content if content.hint == hint else replace(content, hint=hint)
        return words


def _answered(
    answer: Sequence[SearchResultEntry] | Awaitable[Sequence[SearchResultEntry]], limit: int, searched: int
) -> SearchResult | Awaitable[SearchResult]:
    async def when_it_comes(coming: Awaitable[Sequence[SearchResultEntry]]) -> SearchResult:
        return SearchResult(results=list(await coming)[:limit], total_available=searched)

    if inspect.isawaitable(answer):
        return when_it_comes(answer)
    return SearchResult(results=list(answer)[:limit], total_available=searched)


def _unix_ms(at: datetime) -> int:
    """A time without zone is UTC."""
    return max(0, int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000))
