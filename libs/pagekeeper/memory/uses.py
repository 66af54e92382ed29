"""When and how often pages were used, as the core's policies ask for it.

What is known of a page outlives its time in the working set: a page that comes back is no stranger.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.eviction import MESSAGE_ROLES, Candidate, with_history
from pagekeeper.core.policies import POLICIES
from pagekeeper.core.reuse_counts import KindCounts, PageReuse, SessionReuse
from pagekeeper.memory.models import MemoryPage, PageType


@dataclass(slots=True)
class _Use:
    """Of one page; `first_size_tokens` is its size when it was used first."""

    kind: Hashable
    first_size_tokens: int
    reuse: PageReuse
    last_used_turn: int


LEARNING: Final = POLICIES["reuse/4"].learning
MESSAGE_KINDS: Final = frozenset((role.value, None) for role in MESSAGE_ROLES)
"""Kinds of what user and model say in their turns."""


class UseHistory:
    def __init__(self) -> None:
        self._pages: dict[str, _Use] = {}
        self._session = SessionReuse()
        self._kinds = KindCounts()

    def record_use(self, page_id: str, page: MemoryPage | None, turn: int) -> None:
        """A page, of which only the id may be known, is used in that turn."""
        known = self._pages.get(page_id)
        if known is None:
            kind, size_tokens = _kind(page), 0 if page is None else page.estimate_tokens()
            known = self._pages[page_id] = _Use(kind, size_tokens, self._session.first(LEARNING), turn)
            self._kinds.add(kind, size_tokens, known.reuse)
            return
        if not known.reuse.count:
            self._kinds.reused(known.kind, known.first_size_tokens)
        known.reuse = self._session.again(known.reuse, LEARNING)
        known.last_used_turn = turn

    def clear(self) -> None:
        self._pages.clear()
        self._session, self._kinds = SessionReuse(), KindCounts()

    def candidate(
        self, page_id: str, page_type: PageType, importance: float, size_tokens: int, position: int, turn: int
    ) -> Candidate:
        """The page as the core's policies see it; one that was never used, as used once and now."""
        known = self._pages.get(page_id)
        last_used_turn = turn if known is None else known.last_used_turn
        plain = Candidate(page_id, page_type, importance, size_tokens, last_used_turn, position, turn)
        if known is None:
            return plain
        kind_share = self._kinds.share(known.kind, known.first_size_tokens, LEARNING)
        plain = plain._replace(is_message=page_type is PageType.TRANSCRIPT and known.kind in MESSAGE_KINDS)
        return with_history(plain, known.reuse, self._session, kind_share=kind_share)


def _kind(page: MemoryPage | None) -> Hashable:
    """As the core has it: who says it, and the tool that made it."""
    return None if page is None else (page.metadata.get("role"), page.metadata.get("tool_name"))
