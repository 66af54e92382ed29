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

SOON_REUSES: Final = 8
"""A page that was used a moment ago is used again at a rate of one over so many re-uses, which falls as others are."""
OFTEN_REUSES: Final = 16
"""A page that was used again so often has half as much again of that rate, and none has more than twice."""
DUE_WEIGHT: Final = 3.0
"""The same of a page of a loop that is due now, as a share: what comes round is surer than what was used last."""
RUN_SQUARED: Final = 256
"""New pages age what was used again before them by the square of how many they are, over this: a few say nothing of
it, and many without a use of it say that the work has moved on."""
RUN_ROOT_WEIGHT: Final = 2.0
"""They age each other by the root of how many they are, times this, until a page is used again."""
KIND_ODDS: Final = 2.0
"""Odds that a page is used again whose kind is half the time. By the cube of the kind's share: which kinds are, and
which are not, is plainer than the counts of a young session say."""
OVERDUE: Final = 0.15
"""Share of a gap by which a page may be late before it no longer counts as due."""
MESSAGE_PRIOR_REUSES: Final = 160
"""A message begins as if it had been used once in so many re-uses."""
OPENING_WEIGHT: Final = 4.0
OPENING_REFERENCES: Final = 16
"""How a session begins says who talks and what about: the first message is worth so much more than one from its
middle, the one after so many references half as much more."""
MESSAGE_ROOT_TOKENS: Final = 30
"""Root of the size at which a message is worth as much as a file of that size: about that of a usual file."""
MESSAGE_ROLES: Final = frozenset({MessageRole.USER, MessageRole.ASSISTANT})


class Candidate(NamedTuple):
    """A resident page as a policy sees it. `position` is its place in admission order.

    What follows `turn` is its history as `pagekeeper.memory.reuse` counts it; a page without one was used once, now.
    `known_...` and `idle_...` count the session's re-uses and references since the page's first and last use,
    `gap_references` those between its last two (or any page's), `first_reference` those up to its first, `kind_share`
    is how likely pages like it are used again, and `rhythm` how regularly this session's are. `is_message` when user or
    model said it in their turn, `telling_percent` how likely its words are asked for.
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
    idle_reuses: int = 0
    idle_references: int = 0
    gap_references: int = 0
    first_reference: int = 1
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
        kind_share=kinds.share(page.kind, page.first_size_tokens),
    )


def with_history(plain: Candidate, reuse: PageReuse, session: SessionReuse, *, kind_share: float) -> Candidate:
    """The page as one whose history is known."""
    # By position: `_replace` takes three times as long, and all residents are ranked in each eviction.
    return Candidate(
        *plain[:7],
        reuse.count,
        session.reuses - reuse.first_reuse,
        session.reuses - reuse.last_reuse,
        session.references - reuse.last_reference,
        reuse.gap_references or session.gap_references,
        reuse.first_reference,
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
    """First what is least likely used soon, for the room it takes.

    How soon is a mixture of two answers, by how much the session is a loop: what was used last, and what is due.
    """
    rate = _message_rate(candidate) if candidate.is_message else _rate(candidate)
    soon = (1 - candidate.rhythm) * rate + candidate.rhythm * _when_due(candidate, rate)
    worth = TYPE_WEIGHT[candidate.page_type] * (0.1 + candidate.importance) * (10 + candidate.telling_percent)
    return (soon * worth / _burden(candidate), candidate.position)


def _burden(candidate: Candidate) -> float:
    """What the room costs that a page takes: the root of its size, and a message's whole size.

    By tokens, what a fault brings is worth what it takes, and size would not count; by faults, a small page is as good
    as a large one. A message is asked for the one thing that it says, however long it is.
    """
    size_tokens = max(1, candidate.size_tokens)
    return size_tokens / MESSAGE_ROOT_TOKENS if candidate.is_message else sqrt(size_tokens)


def _message_rate(candidate: Candidate) -> float:
    """Expected uses per re-use. Nobody is done with a message: it may be asked for when it was idle for long."""
    again = 1.0 if candidate.reuses else candidate.kind_share
    opening = 1 + OPENING_WEIGHT * OPENING_REFERENCES / (OPENING_REFERENCES + candidate.first_reference)
    return again * opening * (1 + candidate.reuses) / (MESSAGE_PRIOR_REUSES + candidate.known_reuses)


def _rate(candidate: Candidate) -> float:
    """Expected uses per re-use: one over how long ago the last was, more for what is used often."""
    new_pages = candidate.idle_references - candidate.idle_reuses
    if candidate.reuses:
        run = new_pages * new_pages / RUN_SQUARED
    else:
        run = RUN_ROOT_WEIGHT * sqrt(new_pages) / (1 + candidate.idle_reuses)
    often = 1 + candidate.reuses / (OFTEN_REUSES + candidate.reuses)
    return often * _likely_again(candidate) / (SOON_REUSES + candidate.idle_reuses + run)


def _when_due(candidate: Candidate, rate: float) -> float:
    """One over the references until the page is due. When it is overdue, the loop is over for it: its own rate."""
    due_references = candidate.gap_references - candidate.idle_references
    if due_references < -OVERDUE * candidate.gap_references:
        return rate
    return DUE_WEIGHT * _likely_again(candidate) / (SOON_REUSES + max(0, due_references))


def _likely_again(candidate: Candidate) -> float:
    if candidate.reuses:
        return 1.0
    share, rest = candidate.kind_share, 1 - candidate.kind_share
    wanted = KIND_ODDS * share * share * share
    return wanted / (wanted + rest * rest * rest)


EVICTION_POLICIES: Final[dict[str, EvictionPolicy]] = {
    "lru/1": lru,
    "importance-lru/1": importance_lru,
    "reuse/3": reuse,
}


def eviction_policy(name: str) -> EvictionPolicy:
    """The policy of that name and version. Raises InvalidField when there is none."""
    policy = EVICTION_POLICIES.get(name)
    if policy is None:
        raise InvalidField("config.eviction_policy", f"must be one of {', '.join(EVICTION_POLICIES)}, not {name!r}")
    return policy
