"""Pages that a program's own eviction keeps: pinned ones, and those that came back or left a few turns ago.

No session reads these objects. A session has its own pins, and protects pages by the settings that give the defaults
here.
"""

from typing import Final, NamedTuple

from pydantic import NonNegativeInt

from pagekeeper.core.events import SessionConfig
from pagekeeper.memory.arguments import checked

__all__ = ["AntiThrashPolicy", "PinnedSet"]

SETTINGS: Final = SessionConfig()


class Protection(NamedTuple):
    """The turns from `since_turn` to the one before `until_turn`."""

    since_turn: int
    until_turn: int


@checked
class PinnedSet:
    """Ids of pages, pinned by request or automatically.

    Automatic pins are the caller's, for pages of the last `pin_last_n_turns` turns: the set itself knows no turns. Of
    more than `max_auto_pins` the oldest is taken back.
    """

    def __init__(
        self, max_auto_pins: NonNegativeInt = 10, pin_last_n_turns: NonNegativeInt = SETTINGS.pin_last_turns
    ) -> None:
        self.max_auto_pins = max_auto_pins
        self.pin_last_n_turns = pin_last_n_turns
        self._pinned: set[str] = set()
        self._auto_pinned: dict[str, None] = {}

    def __repr__(self) -> str:
        return f"PinnedSet({len(self._pinned):,} pages, and {len(self._auto_pinned):,} automatically)"

    def pin(self, page_id: str) -> None:
        self._pinned.add(page_id)

    def auto_pin(self, page_id: str) -> None:
        """Pin until `clear_auto_pins`, as the newest automatic pin."""
        self._auto_pinned.pop(page_id, None)
        self._auto_pinned[page_id] = None
        if len(self._auto_pinned) > self.max_auto_pins:
            del self._auto_pinned[next(iter(self._auto_pinned))]

    def unpin(self, page_id: str) -> None:
        """Take back both kinds of pin."""
        self._pinned.discard(page_id)
        self._auto_pinned.pop(page_id, None)

    def clear_auto_pins(self) -> None:
        self._auto_pinned.clear()

    def is_pinned(self, page_id: str) -> bool:
        return page_id in self._pinned or page_id in self._auto_pinned

    def get_all(self) -> set[str]:
        return self._pinned.union(self._auto_pinned)


@checked
class AntiThrashPolicy:
    """Turns for which a page is protected: after it was faulted in, and after it was evicted. Turns never go back."""

    def __init__(
        self,
        eviction_cooldown_turns: NonNegativeInt = SETTINGS.eviction_cooldown_turns,
        fault_protection_turns: NonNegativeInt = SETTINGS.fault_protection_turns,
    ) -> None:
        self.eviction_cooldown_turns = eviction_cooldown_turns
        self.fault_protection_turns = fault_protection_turns
        self._protected: dict[str, Protection] = {}

    def __repr__(self) -> str:
        turns = f"{self.fault_protection_turns} turns after a fault, {self.eviction_cooldown_turns} after an eviction"
        return f"AntiThrashPolicy({turns}, {len(self._protected):,} pages)"

    def record_fault(self, page_id: str, turn: int) -> None:
        self._protect(page_id, turn, self.fault_protection_turns)

    def record_eviction(self, page_id: str, turn: int) -> None:
        self._protect(page_id, turn, self.eviction_cooldown_turns)

    def can_evict(self, page_id: str, current_turn: int) -> bool:
        """Whether the page is not protected any more."""
        return current_turn >= self._protected.get(page_id, Protection(current_turn, current_turn)).until_turn

    def get_eviction_penalty(self, page_id: str, current_turn: int) -> float:
        """The share of its protected turns that is left: 1 in the first turn, 0 when the page may go."""
        if self.can_evict(page_id, current_turn):
            return 0.0
        since_turn, until_turn = self._protected[page_id]
        return min(1.0, (until_turn - current_turn) / (until_turn - since_turn))

    def _protect(self, page_id: str, turn: int, turns: int) -> None:
        """Protect from `turn` on, unless the page is protected for longer; forget pages whose protection is over."""
        self._protected = {known: held for known, held in self._protected.items() if held.until_turn > turn}
        if turn + turns > self._protected.get(page_id, Protection(turn, turn)).until_turn:
            self._protected[page_id] = Protection(turn, turn + turns)
