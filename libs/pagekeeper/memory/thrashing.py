"""Pages that came or went a moment ago, and how much it would cost to let them go now.

A page is protected for some turns after a fault, and after its eviction: evicted, faulted in and evicted again is what
thrashing is. When its protection ends the page may go, but a penalty stays and fades, so that among pages that may go
the one that was lately missed goes late.
"""

from dataclasses import dataclass, field
from typing import Final

from pagekeeper.memory.arguments import checked

FADING_WINDOWS: Final = 3
"""The penalty is gone when this many times the protection has passed."""
EVICTED_WEIGHT: Final = 0.5
"""What an eviction counts for beside a fault."""


@checked
@dataclass(slots=True)
class AntiThrashPolicy:
    eviction_cooldown_turns: int = 3
    fault_protection_turns: int = 2
    _evicted_turn: dict[str, int] = field(default_factory=dict, init=False)
    _faulted_turn: dict[str, int] = field(default_factory=dict, init=False)

    def record_fault(self, page_id: str, turn: int) -> None:
        self._faulted_turn[page_id] = turn

    def record_eviction(self, page_id: str, turn: int) -> None:
        self._evicted_turn[page_id] = turn

    def can_evict(self, page_id: str, current_turn: int) -> bool:
        """Whether the page is out of protection."""
        return not (
            _within(self._faulted_turn.get(page_id), current_turn, self.fault_protection_turns)
            or _within(self._evicted_turn.get(page_id), current_turn, self.eviction_cooldown_turns)
        )

    def get_eviction_penalty(self, page_id: str, current_turn: int) -> float:
        """From 0 for a page that nothing happened to, to 1 for one that was faulted in during this turn."""
        faulted = _fading(self._faulted_turn.get(page_id), current_turn, self.fault_protection_turns)
        evicted = _fading(self._evicted_turn.get(page_id), current_turn, self.eviction_cooldown_turns)
        return min(1.0, faulted + EVICTED_WEIGHT * evicted)

    def cleanup_old_history(self, current_turn: int, max_age: int = 20) -> None:
        """Forget what happened more than `max_age` turns ago."""
        self._faulted_turn = {page: turn for page, turn in self._faulted_turn.items() if current_turn - turn <= max_age}
        self._evicted_turn = {page: turn for page, turn in self._evicted_turn.items() if current_turn - turn <= max_age}


def _within(turn: int | None, current_turn: int, turns: int) -> bool:
    return turn is not None and current_turn - turn < turns


def _fading(turn: int | None, current_turn: int, turns: int) -> float:
    if turn is None or turns == 0:
        return 0.0
    return max(0.0, 1.0 - max(0, current_turn - turn) / (FADING_WINDOWS * turns))
