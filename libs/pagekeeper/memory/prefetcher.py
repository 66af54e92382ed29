"""Pages worth having before anybody asks, by what has been asked for so far.

What is guessed: the last segment's summary, the claims that are read most, what was read before tools that are being
used were called, what was read after the page that was read last, and what is most like it. Guesses are counted, and so
are those that came true: a guess is a hit when its page is accessed afterwards.

Counts are bounded: of more than `PAGES_MAX` pages or `TOOLS_MAX` tools, those seen least recently are forgotten.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from pydantic import Field

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import PageType, PrefetcherStats
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.page_table import PageTable

__all__ = ["SimplePrefetcher", "ToolUsagePattern"]

PAGES_MAX: Final = 10_000
TOOLS_MAX: Final = 256
FOLLOWERS_MAX: Final = 32
PREREQUISITES_MAX: Final = 3
SEQUENCE_MAX: Final = 2
SIMILAR_MAX: Final = 2

Similar = Callable[[str, int], Sequence[str]]
"""The ids of at most so many pages that are like a page, such as `PageSearchHandler.similar`."""


@checked
class ToolUsagePattern(StrictModel):
    """How a tool is used; `prereq_pages` were read before its calls, one mention for each time."""

    tool_name: str
    call_count: int = 0
    last_turn: int = 0
    prereq_pages: list[str] = Field(default_factory=list)


@checked
class SimplePrefetcher:
    """`similar`, when given, finds pages like the one that was read last."""

    def __init__(
        self, max_claims_to_prefetch: int = 3, max_recent_tools: int = 3, *, similar: Similar | None = None
    ) -> None:
        self.max_claims_to_prefetch = max_claims_to_prefetch
        self.max_recent_tools = max_recent_tools
        self._similar = similar
        self._accesses: OrderedDict[str, int] = OrderedDict()
        self._followers: OrderedDict[str, Counter[str]] = OrderedDict()
        self._tools: OrderedDict[str, ToolUsagePattern] = OrderedDict()
        self._last_page_id: str | None = None
        self._last_segment_summary_id: str | None = None
        self._pending: set[str] = set()
        self._guessed = self._came_true = 0

    def record_page_access(self, page_id: str) -> None:
        self._accesses[page_id] = self._accesses.pop(page_id, 0) + 1
        if self._last_page_id is not None and self._last_page_id != page_id:
            followers = self._followers.setdefault(self._last_page_id, Counter())
            followers[page_id] += 1
            self._followers.move_to_end(self._last_page_id)
            if len(followers) > FOLLOWERS_MAX:
                del followers[min(followers, key=lambda follower: followers[follower])]
        self._last_page_id = page_id
        if page_id in self._pending:
            self._pending.discard(page_id)
            self._came_true += 1
        for counted in (self._accesses, self._followers):
            if len(counted) > PAGES_MAX:
                counted.popitem(last=False)

    def record_tool_call(self, tool_name: str, turn: int, pages_accessed_before: Iterable[str] = ()) -> None:
        """A call in `turn`, before which those pages were read."""
        pattern = self._tools.setdefault(tool_name, ToolUsagePattern(tool_name=tool_name))
        pattern.call_count += 1
        pattern.last_turn = turn
        pattern.prereq_pages = [*pattern.prereq_pages, *pages_accessed_before][-PAGES_MAX:]
        self._tools.move_to_end(tool_name)
        if len(self._tools) > TOOLS_MAX:
            self._tools.popitem(last=False)

    def record_prefetched(self, page_ids: Iterable[str]) -> None:
        """Note pages that were brought on a guess; from now on an access to one is a hit."""
        fresh = set(page_ids) - self._pending
        self._guessed += len(fresh)
        self._pending |= fresh

    @property
    def hit_rate(self) -> float:
        """The share of prefetched pages that were accessed afterwards, from 0 to 1; 0 before the first prefetch."""
        return self._came_true / self._guessed if self._guessed else 0.0

    def set_last_segment_summary(self, page_id: str) -> None:
        self._last_segment_summary_id = page_id

    def get_likely_tools(self, recent_turns: int | None = None) -> list[str]:
        """Tools by when they were called last, then by how often; with `recent_turns`, only of as many turns."""
        tools = sorted(self._tools.values(), key=lambda tool: (tool.last_turn, tool.call_count), reverse=True)
        if recent_turns is not None and tools:
            tools = [tool for tool in tools if tool.last_turn > tools[0].last_turn - recent_turns]
        return [tool.tool_name for tool in tools[: self.max_recent_tools]]

    def get_tool_prereq_pages(self, tool_name: str) -> list[str]:
        """List the pages that were read most before the tool's calls."""
        pattern = self._tools.get(tool_name)
        return [] if pattern is None else _commonest(Counter(pattern.prereq_pages), PREREQUISITES_MAX)

    def get_next_pages(self, page_id: str, limit: int = SEQUENCE_MAX) -> list[str]:
        """List the pages that were read most right after the page."""
        return _commonest(self._followers.get(page_id, Counter()), limit)

    def get_top_claims(self, page_table: PageTable | None = None, limit: int | None = None) -> list[str]:
        """The pages accessed most; with a page table, only those that it has as claims."""
        most = Counter(self._accesses)
        if page_table is not None:
            claims = {entry.page_id for entry in page_table.get_by_type(PageType.CLAIM)}
            most = Counter({page_id: count for page_id, count in most.items() if page_id in claims})
        return _commonest(most, self.max_claims_to_prefetch if limit is None else limit)

    async def prefetch_on_turn_start(self, session_id: str, page_table: PageTable | None = None) -> list[str]:  # noqa: ARG002 - the guide's signature; a prefetcher is one session's
        """The pages to bring for a turn, the surest first."""
        guesses = [] if self._last_segment_summary_id is None else [self._last_segment_summary_id]
        guesses += self.get_top_claims(page_table)
        for tool_name in self.get_likely_tools():
            guesses += self.get_tool_prereq_pages(tool_name)
        if self._last_page_id is not None:
            guesses += self.get_next_pages(self._last_page_id)
            if self._similar is not None:
                guesses += self._similar(self._last_page_id, SIMILAR_MAX)
        return list(dict.fromkeys(guesses))

    def clear(self) -> None:
        """Forget everything that was recorded."""
        for recorded in (self._accesses, self._followers, self._tools, self._pending):
            recorded.clear()
        self._last_page_id = self._last_segment_summary_id = None
        self._guessed = self._came_true = 0

    def get_stats(self) -> PrefetcherStats:
        return PrefetcherStats(
            tools_tracked=len(self._tools),
            pages_tracked=len(self._accesses),
            total_accesses=sum(self._accesses.values()),
            pages_prefetched=self._guessed,
            hit_rate=self.hit_rate,
        )


def _commonest(counts: Counter[str], limit: int) -> list[str]:
    """Ties in the order in which they were counted first."""
    return [page_id for page_id, _ in counts.most_common(limit)]
