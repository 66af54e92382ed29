"""Which resident page goes first.

A policy is a sort key: the page with the smallest key is given up first. Keys are built from the session's own facts
(turns and references, not clocks), so every replica orders alike. They add, multiply, divide and take square roots,
which every machine rounds alike; powers and logarithms it may not. A policy's name carries its version, because the log
names it: a session keeps deciding by the rules it was opened with.
"""

from collections.abc import Callable
from math import sqrt
from typing import Final, NamedTuple

from pagekeeper.memory.errors import InvalidField
from pagekeeper.memory.pages import TELLING_PERCENT, MessageRole, PageState, PageType
from pagekeeper.memory.reuse import KindCounts, PageReuse, SessionReuse
from pagekeeper.memory.working_set import Resident

TYPE_WEIGHT: Final = {
    PageType.TRANSCRIPT: 1.0,
    PageType.ARTIFACT: 1.0,
    PageType.SUMMARY: 1.5,
    PageType.PROCEDURE: 2.0,
    PageType.CLAIM: 4.0,
    PageType.INDEX: 4.0,
}
"""How much longer than a raw turn a page of this type is worth keeping."""

FAULT_WEIGHT: Final = 0.5
"""What one fault adds to a page's rate, as a share of it."""
NEW_PAGE_AGES: Final = 0.1
"""What a page's first use adds to the age of all others, where a re-use adds one: a sweep over pages that are read once
says little about the rest, and yet nothing may stay for ever in a session that re-uses nothing."""
RATE_PRIOR_AGE: Final = 30
"""Every page begins as if it had been used once in such an age."""
DEATH_PRIOR: Final = 2.0
"""After each use a page is done with, at odds of one to one at first and fewer with each use it comes back for."""
EXPONENT_MAX: Final = 64
RECENCY_WEIGHT: Final = 4.0
RECENCY_REFERENCES: Final = 40
"""What is worked on is used in bursts: a page that was used a moment ago has a rate of so much over so many references,
on top of its own, which falls as others are used instead."""
MESSAGE_PRIOR_AGE: Final = 120
"""As `RATE_PRIOR_AGE`, of a message: what was said stays true for longer than a file or an output stays in use."""
MESSAGE_ROOT_TOKENS: Final = 30
"""Root of the size at which a message is worth as much as a file of that size: about that of a usual file."""
MESSAGE_ROLES: Final = frozenset({MessageRole.USER, MessageRole.ASSISTANT})
OVERDUE: Final = 0.15
"""Share of a gap by which a page may be late before it no longer counts as due."""


class Candidate(NamedTuple):
    """A resident page as a policy sees it. `position` is its place in admission order.

    What follows `turn` is its history as `pagekeeper.memory.reuse` counts it; a page without one was used once, now.
    `known_...` and `idle_...` count the session's re-uses and references since the page's first and last use,
    `gap_references` those between its last two (or any page's), `kind_share` is how likely pages like it are used
    again, and `rhythm` how regularly this session's are. `is_message` when user or model said it in their turn,
    `telling_percent` how likely its words are asked for.
    """

    page_id: str
    page_type: PageType
    importance: float
    size_tokens: int
    last_used_turn: int
    position: int
    turn: int
    reuses: int = 0
    known_reuses: int = 0
    known_references: int = 0
    idle_reuses: int = 0
    idle_references: int = 0
    gap_references: int = 0
    fault_count: int = 0
    kind_share: float = 0.5
    rhythm: float = 0.0
    is_message: bool = False
    telling_percent: int = TELLING_PERCENT


def candidate(
    page: PageState, resident: Resident, position: int, turn: int, session: SessionReuse, kinds: KindCounts
) -> Candidate:
    """A resident page in `turn`."""
    return with_history(
        Candidate(
            page.page_id,
            page.page_type,
            page.importance,
            resident.size_tokens,
            page.last_used_turn,
            position,
            turn,
            telling_percent=page.telling_percent,
            is_message=page.page_type is PageType.TRANSCRIPT and page.role in MESSAGE_ROLES,
        ),
        page.reuse,
        session,
        fault_count=page.fault_count,
        kind_share=kinds.share(page.kind, page.first_size_tokens),
    )


def with_history(
    plain: Candidate, reuse: PageReuse, session: SessionReuse, *, fault_count: int, kind_share: float
) -> Candidate:
    """The page as one whose history is known."""
    # By position: `_replace` takes three times as long, and all residents are ranked in each eviction.
    return Candidate(
        *plain[:7],
        reuse.count,
        session.reuses - reuse.first_reuse,
        session.references - reuse.first_reference,
        session.reuses - reuse.last_reuse,
        session.references - reuse.last_reference,
        reuse.gap_references or session.gap_references,
        fault_count,
        kind_share,
        session.rhythm,
        plain.is_message,
        plain.telling_percent,
    )


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


def reuse(candidate: Candidate) -> SortKey:
    """First what is least likely used soon, for the room it takes and for what its fault costs.

    How soon is a mixture of two answers, by how much the session is a loop: at the page's own rate unless it was given
    up, and when it is due by the last gap. Pages that were faulted back before are worth more.
    """
    rate = _message_rate(candidate) if candidate.is_message else _rate(candidate)
    at_own_rate = rate * (1 + FAULT_WEIGHT * candidate.fault_count)
    if not candidate.is_message:
        at_own_rate += _burst(candidate)
    soon = (1 - candidate.rhythm) * at_own_rate + candidate.rhythm * _when_due(candidate, rate)
    worth = TYPE_WEIGHT[candidate.page_type] * (0.1 + candidate.importance) * (10 + candidate.telling_percent)
    return (soon * worth / _burden(candidate), candidate.position)


def _burden(candidate: Candidate) -> float:
    """What the room costs that a page takes: its size to the power of a quarter, of three quarters for a message.

    By tokens, what a fault brings is worth what it takes, and size would not count; by faults, a small page is as good
    as a large one. A message is asked for the one thing that it says, however long it is.
    """
    root = sqrt(max(1, candidate.size_tokens))
    return root * sqrt(root) / MESSAGE_ROOT_TOKENS if candidate.is_message else sqrt(root)


def _message_rate(candidate: Candidate) -> float:
    """Expected uses per unit of age. Nobody is done with a message: it may be asked for when it was idle for long."""
    span = MESSAGE_PRIOR_AGE + _age(candidate.known_reuses, candidate.known_references)
    return (1 + candidate.reuses) / span / (1 + _odds_against(candidate))


def _rate(candidate: Candidate) -> float:
    """Expected uses per unit of age, times the odds that the page has not been done with.

    Buy till you die (Fader, Hardie, Lee 2005), where customers are pages: rates differ between pages, each use may be
    the last, and a page that is idle for long by its own rate has probably had its last.
    """
    span = RATE_PRIOR_AGE + _age(candidate.known_reuses, candidate.known_references)
    stretch = span / (span - _age(candidate.idle_reuses, candidate.idle_references))
    odds_against = _odds_against(candidate) * _power(stretch, 1 + min(candidate.reuses, EXPONENT_MAX))
    return (1 + candidate.reuses) / span / (1 + odds_against)


def _odds_against(candidate: Candidate) -> float:
    """That the page's last use was its last, before it was idle."""
    if candidate.reuses:
        return DEATH_PRIOR / (DEATH_PRIOR + candidate.reuses - 1)
    return (1 - candidate.kind_share) / candidate.kind_share


def _burst(candidate: Candidate) -> float:
    """Expected uses because it was used a moment ago, which in a loop says the opposite."""
    in_no_loop = (1 - candidate.rhythm) * (1 - candidate.rhythm)
    return in_no_loop * RECENCY_WEIGHT * _alive(candidate) / (RECENCY_REFERENCES + candidate.idle_references)


def _alive(candidate: Candidate) -> float:
    return 1.0 if candidate.reuses else candidate.kind_share


def _when_due(candidate: Candidate, rate: float) -> float:
    """One over the references until the page is due. When it is overdue, the loop is over for it: its own rate."""
    due_references = candidate.gap_references - candidate.idle_references
    if due_references < -OVERDUE * candidate.gap_references:
        return rate
    return _alive(candidate) / (max(1, due_references) + 1)


def _age(reuses: int, references: int) -> float:
    return reuses + NEW_PAGE_AGES * (references - reuses)


def _power(base: float, exponent: int) -> float:
    """By multiplication alone: the library's differs between machines in the last bit."""
    power = 1.0
    while exponent:
        if exponent & 1:
            power *= base
        base *= base
        exponent >>= 1
    return power


EVICTION_POLICIES: Final[dict[str, EvictionPolicy]] = {
    "lru/1": lru,
    "importance-lru/1": importance_lru,
    "reuse/2": reuse,
}


def eviction_policy(name: str) -> EvictionPolicy:
    """The policy of that name and version. Raises InvalidField when there is none."""
    policy = EVICTION_POLICIES.get(name)
    if policy is None:
        raise InvalidField("config.eviction_policy", f"must be one of {', '.join(EVICTION_POLICIES)}, not {name!r}")
    return policy
