"""Pages worth having before anybody asks, by what has been asked for so far.

What is guessed: the last segment's summary, the claims that are read most, what was read before tools that are being
used were called, what was read after the page that was read last, and what is most like it. Guesses are counted, and so
are those that came true: a guess is a hit when its page is accessed afterwards.

Counts are bounded: of more than `PAGES_MAX` pages or `TOOLS_MAX` tools, those seen least recently are forgotten.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from pagekeeper.core.lru import Lru
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import PageType, PrefetcherStats
from pagekeeper.memory.page_table import PageTable

__all__ = ["SimplePrefetcher"]

PAGES_MAX: Final = 10_000
TOOLS_MAX: Final = 256
COUNTED_MAX: Final = 32
"""Pages that are counted of those before a tool's calls, and of those after a page."""
PREREQUISITES_MAX: Final = 3
SEQUENCE_MAX: Final = 2
SIMILAR_MAX: Final = 2

Similar = Callable[[str, int], Sequence[str]]
"""The ids of at most so many pages that are like a page."""


@checked
class SimplePrefetcher:
    """`similar`, when given, finds pages like the one that was read last."""

    def __init__(
        self, max_claims_to_prefetch: int = 3, max_recent_tools: int = 3, *, similar: Similar | None = None
    ) -> None:
        self.max_claims_to_prefetch = max_claims_to_prefetch
        self.max_recent_tools = max_recent_tools
        self._similar = similar
        self._accesses: Lru[str, int] = Lru(count_max=PAGES_MAX)
        self._followers: Lru[str, Counter[str]] = Lru(count_max=PAGES_MAX)
        self._tools: Lru[str, Counter[str]] = Lru(count_max=TOOLS_MAX)
        """What was read before a tool's calls, and how often; the tool that was called last at the end."""
        self._last_page_id: str | None = None
        self._last_segment_summary_id: str | None = None
        self._pending: set[str] = set()
        self._guessed = self._came_true = 0

    def record_page_access(self, page_id: str) -> None:
        self._accesses.put(page_id, 1 + (self._accesses.peek(page_id) or 0))
        if self._last_page_id not in (None, page_id):
            last_page_id = str(self._last_page_id)
            self._followers.put(last_page_id, _counted(self._followers.peek(last_page_id), [page_id]))
        self._last_page_id = page_id
        if page_id in self._pending:
            self._pending.discard(page_id)
            self._came_true += 1

    def record_tool_call(self, tool_name: str, turn: int, pages_accessed_before: Iterable[str] = ()) -> None:  # noqa: ARG002 - the guide's signature; calls come in the order of their turns
        """A call, before which those pages were read."""
        self._tools.put(tool_name, _counted(self._tools.peek(tool_name), pages_accessed_before))

    def record_prefetched(self, page_ids: Iterable[str]) -> None:
        """Note pages that were brought on a guess; from now on an access to one is a hit."""
        fresh = set(page_ids) - self._pending
        self._guessed += len(fresh)
        self._pending |= fresh

    def set_last_segment_summary(self, page_id: str) -> None:
        self._last_segment_summary_id = page_id

    async def prefetch_on_turn_start(self, session_id: str, page_table: PageTable | None = None) -> list[str]:  # noqa: ARG002 - the guide's signature; a prefetcher is one session's
        """The pages to bring for a turn, the surest first.

        The pages accessed most are claims when a page table says which pages are; without one, any page may be.
        """
        guesses = [] if self._last_segment_summary_id is None else [self._last_segment_summary_id]
        claims = None if page_table is None else {entry.page_id for entry in page_table.get_by_type(PageType.CLAIM)}
        accessed = Counter({page: n for page, n in self._accesses.items() if claims is None or page in claims})
        guesses += _commonest(accessed, self.max_claims_to_prefetch)
        for prerequisites in list(self._tools.values())[::-1][: self.max_recent_tools]:
            guesses += _commonest(prerequisites, PREREQUISITES_MAX)
        if self._last_page_id is not None:
            guesses += _commonest(self._followers.peek(self._last_page_id) or Counter(), SEQUENCE_MAX)
            if self._similar is not None:
                guesses += self._similar(self._last_page_id, SIMILAR_MAX)
        return list(dict.fromkeys(guesses))

    def get_stats(self) -> PrefetcherStats:
        return PrefetcherStats(
            tools_tracked=len(self._tools),
            pages_tracked=len(self._accesses),
            total_accesses=sum(self._accesses.values()),
            pages_prefetched=self._guessed,
            hit_rate=self._came_true / self._guessed if self._guessed else 0.0,
        )


def _counted(known: Counter[str] | None, page_ids: Iterable[str]) -> Counter[str]:
    """Count these too; of more than `COUNTED_MAX`, those that came least often are forgotten."""
    counts = Counter() if known is None else known
    counts.update(page_ids)
    while len(counts) > COUNTED_MAX:
        del counts[min(counts, key=lambda page_id: counts[page_id])]
    return counts


def _commonest(counts: Counter[str], limit: int) -> list[str]:
    """Ties in the order in which they were counted first."""
    return [page_id for page_id, _ in counts.most_common(limit)]
