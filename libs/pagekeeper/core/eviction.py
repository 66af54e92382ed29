"""Which resident page goes first.

A policy is a sort key: the page with the smallest key is given up first. Keys are built from the session's own facts
(turns and references, not clocks), so every replica orders alike. They add, multiply, divide and take square roots,
which every machine rounds alike; powers and logarithms it may not. A policy's name carries its version, because the log
names it: a session keeps deciding by the rules it was opened with.
"""

from collections.abc import Callable
from functools import lru_cache
from math import sqrt
from typing import Final, NamedTuple

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.pages import TELLING_PERCENT, MessageRole, PageState, PageType
from pagekeeper.core.reuse import KindCounts, PageReuse, SessionReuse
from pagekeeper.core.working_set import Resident

TYPE_WEIGHT: Final = {
    PageType.TRANSCRIPT: 1.0,
    PageType.ARTIFACT: 1.0,
    PageType.SUMMARY: 1.5,
    PageType.PROCEDURE: 2.0,
    PageType.CLAIM: 4.0,
    PageType.INDEX: 4.0,
}
"""How much longer than a raw turn a page of this type is worth keeping."""

OFTEN_REUSES: Final = 8
OFTEN_WEIGHT: Final = 2.0
"""A page that was used again 8 times is twice as likely wanted as one that was once, and none is thrice."""
RUN_SHARE: Final = 0.9
"""New pages age what was used before them by the sixth power of how many they are, as a multiple of this share of what
is resident: a few say nothing of it, and as many as there is room for say that the work has moved on."""
NEW_WEIGHT: Final = 1.5
NEW_REUSES: Final = 0.5
"""A page that was not used again yet, and will be, is used sooner than others, and loses that sooner."""
RUN_ROOT_WEIGHT: Final = 2.5
"""New pages age by the root of how long the run is that brings them, times this, until a page is used again: all of a
run alike, since the first of a loop is wanted first. By the square of how many times what is resident came since, they
age each other, so that nothing stays for ever."""
KIND_ODDS: Final = 2.5
KIND_POWER: Final = 5
"""Odds that a page is used again whose kind is half the time. By a power of the kind's share: which kinds are, and
which are not, is plainer than the counts of a young session say."""
DUE_REFERENCES: Final = 3
DUE_WEIGHT: Final = 2.0
DUE_KIND_ODDS: Final = 14.0
DUE_KIND_POWER: Final = 2
"""The same of a page that is due: in a loop all come round, and only what nobody asks for does not."""
RHYTHM_ODDS: Final = 5.0
RHYTHM_POWER: Final = 6
"""How sure it is that the session is a loop whose pages come back when they are due half the time."""
OVERDUE: Final = 0.2
"""Share of a gap by which a page may be late before it no longer counts as due."""
MESSAGE_PRIOR_REUSES: Final = 160
"""A message begins as if it had been used once in so many re-uses."""
OPENING_WEIGHT: Final = 4.0
OPENING_REFERENCES: Final = 16
"""How a session begins says who talks and what about: the first message is worth so much more than one from its
middle, the one after so many references half as much more."""
MESSAGE_BURDEN: Final = 30
"""What a message's size is divided by, so that it can be held against that of a file, to its power."""
MESSAGE_ROLES: Final = frozenset({MessageRole.USER, MessageRole.ASSISTANT})


class Candidate(NamedTuple):
    """A resident page as a policy sees it. `position` is its place in admission order.

    What follows `turn` is its history as `pagekeeper.core.reuse` counts it; a page without one was used once, now.
    `known_...` and `idle_...` count the session's re-uses and references since the page's first and last use,
    `gap_references` those between its last two (or another page's first two), `first_reference` those up to its first,
    `run_references` those since any page was used again. `residents` is how many pages are, `kind_share` how likely
    pages like it are used again, and `rhythm` how regularly this session's are. `is_message` when user or
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
    run_references: int = 0
    residents: int = 1


def candidate(
    page: PageState,
    resident: Resident,
    position: int,
    turn: int,
    session: SessionReuse,
    kinds: KindCounts,
    residents: int,
) -> Candidate:
    """A resident page in `turn`, one of so many."""
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
            residents=residents,
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
        session.references - session.last_reuse_reference,
        plain.residents,
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
    loop = _sure(candidate.rhythm, RHYTHM_ODDS, RHYTHM_POWER)
    soon = (1 - loop) * rate + loop * _when_due(candidate, rate)
    worth = TYPE_WEIGHT[candidate.page_type] * (0.1 + candidate.importance) * (10 + candidate.telling_percent)
    return (soon * worth / _burden(candidate), candidate.position)


def _burden(candidate: Candidate) -> float:
    """What the room costs that a page takes: its size to the power of three fourths, and a message's whole size.

    By tokens, what a fault brings is worth what it takes, and size would not count; by faults, a small page is as good
    as a large one. A message is asked for the one thing that it says, however long it is.
    """
    size_tokens = max(1, candidate.size_tokens)
    if candidate.is_message:
        return size_tokens / MESSAGE_BURDEN
    root = sqrt(size_tokens)
    return root * sqrt(root)


def _message_rate(candidate: Candidate) -> float:
    """Expected uses per re-use. Nobody is done with a message: it may be asked for when it was idle for long."""
    again = 1.0 if candidate.reuses else candidate.kind_share
    opening = 1 + OPENING_WEIGHT * OPENING_REFERENCES / (OPENING_REFERENCES + candidate.first_reference)
    return again * opening * (1 + candidate.reuses) / (MESSAGE_PRIOR_REUSES + candidate.known_reuses)


def _rate(candidate: Candidate) -> float:
    """Expected uses per re-use: one over how long ago the last was, more for what is used often."""
    new_pages = (candidate.idle_references - candidate.idle_reuses) / candidate.residents
    if not candidate.reuses:
        run = RUN_ROOT_WEIGHT * sqrt(candidate.run_references) / (1 + candidate.idle_reuses) + new_pages * new_pages
        again = _sure(candidate.kind_share, KIND_ODDS, KIND_POWER)
        return NEW_WEIGHT * again / (NEW_REUSES + candidate.idle_reuses + run)
    run = _power(new_pages / RUN_SHARE, 6)
    often = 1 + OFTEN_WEIGHT * candidate.reuses / (OFTEN_REUSES + candidate.reuses)
    return often / (1 + candidate.idle_reuses + run)


def _when_due(candidate: Candidate, rate: float) -> float:
    """One over the references until the page is due. When it is overdue, the loop is over for it: its own rate."""
    due_references = candidate.gap_references - candidate.idle_references
    if due_references < -OVERDUE * candidate.gap_references:
        return rate
    again = 1.0 if candidate.reuses else _sure(candidate.kind_share, DUE_KIND_ODDS, DUE_KIND_POWER)
    return DUE_WEIGHT * again / (DUE_REFERENCES + max(0, due_references))


# All pages of an eviction share a rhythm, and most a kind.
@lru_cache(maxsize=1_024)
def _sure(share: float, odds: float, power: int) -> float:
    """A share as a likelihood that is plainer than it: `odds` to one for a half, steeper the higher the power."""
    wanted = odds * _power(share, power)
    return wanted / (wanted + _power(1 - share, power))


def _power(base: float, exponent: int) -> float:
    product = base
    for _ in range(exponent - 1):
        product *= base
    return product


EVICTION_POLICIES: Final[dict[str, EvictionPolicy]] = {
    "lru/1": lru,
    "importance-lru/1": importance_lru,
    "reuse/4": reuse,
}


def eviction_policy(name: str) -> EvictionPolicy:
    """The policy of that name and version. Raises InvalidField when there is none."""
    policy = EVICTION_POLICIES.get(name)
    if policy is None:
        raise InvalidField("config.eviction_policy", f"must be one of {', '.join(EVICTION_POLICIES)}, not {name!r}")
    return policy
