"""Which pages are not evicted: those that were pinned, and those that are worth it by what they are.

A page is pinned by its id here, by its own `pinned`, or automatically. Automatic pins are worked out from the resident
pages whenever they are asked for, so there is no list of them to go stale.
"""

from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from pydantic import AliasChoices, Field

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import MemoryPage, MessageRole, PageType
from pagekeeper.memory.models.strict import StrictModel

STANDING_TYPES: Final = frozenset({"system_prompt", "plan", "goal", "preferences", "tool_schema"})
"""Values of `metadata["type"]` of pages that a conversation stands on."""
AUTO_PIN_SHARE: Final = 0.5
"""Of the budget, at most this part is kept by claims and last turns: what is pinned must leave room for what comes."""


class PinCandidate(NamedTuple):
    """A resident page, its size, and how many turns ago it came in."""

    page: MemoryPage
    size_tokens: int
    age_turns: int


@checked
class PinnedSet(StrictModel):
    """`pinned` by request, `auto_pinned` by the application's own rules; `released` are not pinned automatically.

    The system prompt and what `STANDING_TYPES` names are always pinned automatically. Claims and the pages of the last
    turns are so within bounds: `max_auto_pins` pages, and `AUTO_PIN_SHARE` of the budget.
    """

    pinned: set[str] = Field(default_factory=set)
    auto_pinned: set[str] = Field(default_factory=set)
    released: set[str] = Field(default_factory=set)
    auto_pin_last_n_turns: int = Field(
        default=3, ge=0, validation_alias=AliasChoices("auto_pin_last_n_turns", "pin_last_n_turns")
    )
    auto_pin_system_prompt: bool = True
    auto_pin_claims: bool = True
    max_auto_pins: int = Field(default=10, ge=0)

    def pin(self, page_id: str) -> None:
        self.pinned.add(page_id)
        self.released.discard(page_id)

    def auto_pin(self, page_id: str) -> None:
        """Pin until `clear_auto_pins`."""
        self.auto_pinned.add(page_id)
        self.released.discard(page_id)

    def unpin(self, page_id: str) -> None:
        """Take back every pin of the page, and pin it no more automatically."""
        self.pinned.discard(page_id)
        self.auto_pinned.discard(page_id)
        self.released.add(page_id)

    def clear_auto_pins(self) -> None:
        self.auto_pinned.clear()

    def is_pinned(self, page_id: str) -> bool:
        return page_id in self.pinned or page_id in self.auto_pinned

    def get_all_pinned(self) -> set[str]:
        return self.pinned | self.auto_pinned

    def get_all(self) -> set[str]:
        return self.get_all_pinned()

    def count(self) -> int:
        return len(self.get_all_pinned())

    def automatic(self, residents: Iterable[PinCandidate], budget_tokens: int, *, turns_are_counted: bool) -> set[str]:
        """Ids of residents that are pinned by what they are; by their turn only where turns are counted."""
        candidates = [one for one in residents if one.page.page_id not in self.released]
        due = {one.page.page_id for one in candidates if self._is_standing(one.page)}
        room_tokens = int(AUTO_PIN_SHARE * budget_tokens)
        bounded = 0
        for one in self._bounded(candidates, turns_are_counted=turns_are_counted):
            if bounded == self.max_auto_pins:
                break
            if one.page.page_id not in due and one.size_tokens <= room_tokens:
                due.add(one.page.page_id)
                room_tokens -= one.size_tokens
                bounded += 1
        return due

    def _is_standing(self, page: MemoryPage) -> bool:
        if page.metadata.get("type") in STANDING_TYPES:
            return True
        return self.auto_pin_system_prompt and page.metadata.get("role") == MessageRole.SYSTEM

    def _bounded(self, candidates: list[PinCandidate], *, turns_are_counted: bool) -> Iterator[PinCandidate]:
        """Claims, the most important first, then the pages of the last turns, the latest first."""
        if self.auto_pin_claims:
            claims = [one for one in candidates if one.page.page_type == PageType.CLAIM]
            yield from sorted(claims, key=lambda one: -one.page.importance)
        if turns_are_counted:
            yield from (one for one in reversed(candidates) if one.age_turns < self.auto_pin_last_n_turns)
