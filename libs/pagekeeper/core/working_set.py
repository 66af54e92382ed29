"""The working set: resident pages in admission order, and their tokens.

Invariant: `used_tokens` is the sum of the resident pages' sizes: it moves with each page that enters, leaves or changes
its level, in the three methods below and nowhere else. It is asked for several times an append, of thousands of pages.
A page is resident at most once. Choosing what leaves is `Session`'s business, with the policy of its configuration.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


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
    def __init__(self, residents: Iterable[Resident] = ()) -> None:
        self._residents = {r.page_id: r for r in residents}
        self._used_tokens = sum(r.size_tokens for r in self._residents.values())

    def __contains__(self, page_id: object) -> bool:
        return page_id in self._residents

    def __iter__(self) -> Iterator[Resident]:
        """In admission order."""
        return iter(self._residents.values())

    def __len__(self) -> int:
        return len(self._residents)

    def get(self, page_id: str) -> Resident | None:
        return self._residents.get(page_id)

    @property
    def used_tokens(self) -> int:
        return self._used_tokens

    def append(self, resident: Resident) -> None:
        """Admit at the end of the order; a copy that was resident before gives up its place."""
        self.remove(resident.page_id)
        self._residents[resident.page_id] = resident
        self._used_tokens += resident.size_tokens

    def replace(self, resident: Resident) -> None:
        """Change level or version in place. KeyError when it is not resident."""
        self._used_tokens += resident.size_tokens - self._residents[resident.page_id].size_tokens
        self._residents[resident.page_id] = resident

    def remove(self, page_id: str) -> Resident | None:
        resident = self._residents.pop(page_id, None)
        if resident is not None:
            self._used_tokens -= resident.size_tokens
        return resident
