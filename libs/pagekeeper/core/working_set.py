"""The working set: resident pages in admission order, their tokens, and which of the tokens are held.

Invariant: `used_tokens` is the sum of the resident pages' sizes, `pinned_tokens` of the pinned ones' and
`protected_tokens` of those that are pinned or held until a later turn. Each sum moves with a page that enters, leaves
or changes its level or its hold, in `_count` and `begin_turn` and nowhere else: the sums are asked for several times an
append, of thousands of pages. A page is resident at most once. Choosing what leaves is `Session`'s business, with the
policy of its configuration.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple


class Hold(NamedTuple):
    """Why a resident page may not leave: a pin, or that the turn `until_turn` has not begun."""

    pinned: bool
    until_turn: int


NO_HOLD: Final = Hold(pinned=False, until_turn=0)


@dataclass(frozen=True, slots=True)
class Resident:
    """A page in the prompt, at a level. `size_tokens` is its whole line."""

    page_id: str
    version: int
    level: int
    size_tokens: int
    faulted: bool
    admitted_turn: int

    def at(self, level: int, size_tokens: int) -> "Resident":
        return Resident(self.page_id, self.version, level, size_tokens, self.faulted, self.admitted_turn)


class WorkingSet:
    """At first nothing holds the `residents`; `turn` is the session's turn."""

    def __init__(self, residents: Iterable[Resident] = (), turn: int = 0) -> None:
        self._residents: dict[str, Resident] = {}
        self._holds: dict[str, Hold] = {}
        self._turn = turn
        self._used_tokens = 0
        self._pinned_tokens = 0
        self._free_pages = 0
        self._until: dict[int, tuple[int, int]] = {}
        """Of the turns to come: how many unpinned pages are held until then, and their tokens."""
        for resident in residents:
            self.append(resident)

    def __contains__(self, page_id: object) -> bool:
        return page_id in self._residents

    def __iter__(self) -> Iterator[Resident]:
        """In admission order."""
        return iter(self._residents.values())

    def __reversed__(self) -> Iterator[Resident]:
        """The page that was admitted last first."""
        return reversed(self._residents.values())

    def __len__(self) -> int:
        return len(self._residents)

    def get(self, page_id: str) -> Resident | None:
        return self._residents.get(page_id)

    @property
    def used_tokens(self) -> int:
        return self._used_tokens

    @property
    def pinned_tokens(self) -> int:
        return self._pinned_tokens

    @property
    def protected_tokens(self) -> int:
        """Over at most as many turns as a page can be held for."""
        return self._pinned_tokens + sum(tokens for _, tokens in self._until.values())

    @property
    def all_protected(self) -> bool:
        """Whether each resident page is pinned or held."""
        return not self._free_pages

    def append(self, resident: Resident, hold: Hold = NO_HOLD) -> None:
        """Admit at the end of the order; a copy that was resident before gives up its place."""
        self.remove(resident.page_id)
        self._residents[resident.page_id] = resident
        self._holds[resident.page_id] = hold
        self._count(hold, 1, resident.size_tokens)

    def replace(self, resident: Resident) -> None:
        """Change level or version in place. KeyError when it is not resident."""
        size_before = self._residents[resident.page_id].size_tokens
        self._residents[resident.page_id] = resident
        self._count(self._holds[resident.page_id], 0, resident.size_tokens - size_before)

    def remove(self, page_id: str) -> Resident | None:
        resident = self._residents.pop(page_id, None)
        if resident is not None:
            self._count(self._holds.pop(page_id), -1, -resident.size_tokens)
        return resident

    def hold(self, page_id: str, hold: Hold) -> None:
        """Have a resident page held so from now on; nothing when it is not resident."""
        before = self._holds.get(page_id)
        if before is None or before == hold:
            return
        size = self._residents[page_id].size_tokens
        self._count(before, -1, -size)
        self._holds[page_id] = hold
        self._count(hold, 1, size)

    def begin_turn(self, turn: int) -> None:
        """Let go of what is held until this turn. Turns never go back."""
        self._turn = turn
        for until in [until for until in self._until if until <= turn]:
            self._free_pages += self._until.pop(until)[0]

    def _count(self, hold: Hold, pages: int, tokens: int) -> None:
        self._used_tokens += tokens
        if hold.pinned:
            self._pinned_tokens += tokens
        elif hold.until_turn > self._turn:
            held_pages, held_tokens = self._until.get(hold.until_turn, (0, 0))
            self._until[hold.until_turn] = held_pages + pages, held_tokens + tokens
        else:
            self._free_pages += pages
