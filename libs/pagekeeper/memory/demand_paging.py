"""Which pages a user's message calls for, before a model sees it.

A message that recalls something (`DEFAULT_RECALL_SIGNALS`) brings what the whole session says of its words, with what
stands next to it, then the last summary, claims and the other summaries. Any other message brings the pages that have
its words, when it has a topic at all. The search is the core's, over every page, whether it has a hint or not.

The pre-pass only names pages. It neither faults nor knows the turn's budget: what is brought ahead, with
`PageFaultHandler.prefetch`, spends none of the model's faults and gives none back.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from typing import Final

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import PageType
from pagekeeper.memory.page_table import PageTable
from pagekeeper.memory.search_handler import PageSearchHandler

__all__ = ["DEFAULT_RECALL_SIGNALS", "DemandPagingMode", "DemandPagingPrePass"]

DEFAULT_RECALL_SIGNALS: Final = [
    r"\b(as (we|you|i) (said|discussed|agreed|decided|mentioned)|as before)\b",
    r"\b(earlier|previously|remember when|do you remember)\b",
    r"\b(what|when|where|why|which|how|who) (did|had|have|were|was) (we|you|i)\b",
    r"\bthat (decision|choice|plan|approach|idea) (about|for|on|regarding|with)\b",
    r"\b(go(ing)? back to|revisit|return(ing)? to)\b",
    r"\b(remind me|refresh my memory)\b",
    r"\b(you|we|i) (said|mentioned|suggested|recommended|told|agreed|decided)\b",
]
"""Patterns without regard to case."""
MAX_PREFETCH_PAGES: Final = 5
_TOPIC_CHARS_MIN: Final = 4
_WORD: Final = re.compile(r"[^\W_]+")


class DemandPagingMode(StrEnum):
    """The source of missing pages: the model with its tools, the runtime before the model is asked, or both."""

    MODEL = "model"
    RUNTIME = "runtime"
    HYBRID = "hybrid"

    @property
    def prefetches(self) -> bool:
        return self is not DemandPagingMode.MODEL


@checked
class DemandPagingPrePass:
    """Knows no session: what a message is looked up in is given with it. Given signals replace the defaults."""

    def __init__(
        self,
        recall_signals: Sequence[str] | None = None,
        max_prefetch_pages: int = MAX_PREFETCH_PAGES,
        mode: DemandPagingMode = DemandPagingMode.HYBRID,
    ) -> None:
        self._max_prefetch_pages = max_prefetch_pages
        self.mode = mode
        signals = DEFAULT_RECALL_SIGNALS if recall_signals is None else recall_signals
        self._recall_patterns = [re.compile(signal, re.IGNORECASE) for signal in signals]

    def has_recall_signal(self, message: str) -> bool:
        return any(pattern.search(message) for pattern in self._recall_patterns)

    def extract_topics(self, message: str) -> list[str]:
        """The words that may be a topic, in lower case: those of four letters or digits and more.

        Scripts other than Latin say as much in fewer.
        """
        words = _WORD.findall(message.lower())
        return [word for word in words if len(word) >= _TOPIC_CHARS_MIN or not word.isascii()]

    def get_prefetch_candidates(
        self,
        message: str,
        page_table: PageTable,
        page_hints: Mapping[str, str],
        working_set_ids: Collection[str],
        search: PageSearchHandler | None = None,
    ) -> list[str]:
        """At most `max_prefetch_pages` pages of the table that are not in the working set, the most wanted first.

        `search` is asked when given, and knows contents; otherwise the table's pages are searched by `page_hints`.
        """
        if not self.mode.prefetches or not message.strip() or not self._max_prefetch_pages:
            return []
        handler = search or PageSearchHandler(page_table=page_table, page_hints=page_hints)
        limit = self._max_prefetch_pages + len(working_set_ids)
        if self.has_recall_signal(message):
            summaries = [entry.page_id for entry in reversed(page_table.get_by_type(PageType.SUMMARY))]
            claims = [entry.page_id for entry in page_table.get_by_type(PageType.CLAIM)]
            wanted = [*handler.recall(message, limit), *summaries[:1], *claims, *summaries[1:]]
        elif self.extract_topics(message):
            wanted = handler.rank(message, limit)
        else:
            return []
        absent = [page_id for page_id in dict.fromkeys(wanted) if page_id in page_table.entries]
        return [page_id for page_id in absent if page_id not in working_set_ids][: self._max_prefetch_pages]
