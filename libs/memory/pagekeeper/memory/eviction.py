"""Which resident page goes first.

A policy is a sort key: the page with the smallest key is given up first. Keys are built from the session's own facts
(turns, not clocks), so every replica orders alike. A policy's name carries its version, because the log names it: a
session keeps deciding by the rules it was opened with.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from pagekeeper.memory.errors import InvalidField
from pagekeeper.memory.pages import PageType

TYPE_WEIGHT: Final = {
    PageType.TRANSCRIPT: 1.0,
    PageType.ARTIFACT: 1.0,
    PageType.SUMMARY: 1.5,
    PageType.PROCEDURE: 2.0,
    PageType.CLAIM: 4.0,
    PageType.INDEX: 4.0,
}
"""How much longer than a raw turn a page of this type is worth keeping."""


class Candidate(NamedTuple):
    """A resident page as a policy sees it. `position` is its place in admission order."""

    page_id: str
    page_type: PageType
    importance: float
    size_tokens: int
    last_used_turn: int
    position: int
    turn: int


SortKey = tuple[float, ...]
EvictionPolicy = Callable[[Candidate], SortKey]


def lru(candidate: Candidate) -> SortKey:
    """Least recently used first."""
    return (candidate.last_used_turn, candidate.position)


def importance_lru(candidate: Candidate) -> SortKey:
    """Oldest first, where an important page ages more slowly."""
    age_turns = candidate.turn - candidate.last_used_turn + 1
    weight = TYPE_WEIGHT[candidate.page_type] * (0.1 + candidate.importance)
    return (-age_turns / weight, candidate.position)


EVICTION_POLICIES: Final[dict[str, EvictionPolicy]] = {"lru/1": lru, "importance-lru/1": importance_lru}


def eviction_policy(name: str) -> EvictionPolicy:
    """The policy of that name and version. Raises InvalidField when there is none."""
    policy = EVICTION_POLICIES.get(name)
    if policy is None:
        raise InvalidField("config.eviction_policy", f"must be one of {', '.join(EVICTION_POLICIES)}, not {name!r}")
    return policy
