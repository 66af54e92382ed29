"""Replacement policies by name and version. The log names one, and a session is folded by it for as long as it lives.

A policy that was released is never changed and never taken away: its successor gets another name.
"""

from functools import lru_cache
from math import sqrt
from typing import Final

from pagekeeper.core import released_policies as released
from pagekeeper.core.errors import InvalidField, ReleaseTooOld
from pagekeeper.core.eviction import TYPE_WEIGHT, Candidate, ReplacementPolicy, SortKey
from pagekeeper.core.fold_rules import UNNAMED_FOLD_VERSION
from pagekeeper.core.reuse_counts import Learning

REUSE_ODDS_POWER: Final = 4
"""Reuse odds of a page that was used once: share^4 / (share^4 + (1 - share)^4), of the share of its kind's pages that
are used again."""
PERIODICITY_POWER: Final = 8
"""Weight of the predicted next use: p^8 / (p^8 + (1 - p)^8), of the session's periodicity p. Recency has the rest."""
PERIODICITY_KEPT: Final = 0.9
"""Periodicity is a moving average of how alike the gaps between uses are. Each use of any page leaves 9/10 of it."""
SCAN_WEIGHT: Final = 2.0
"""A scan of n new pages ages the pages that it brought by 2 sqrt(n), less with each re-use since."""
RECALL_LIKELIHOOD_FLOOR: Final = 10
"""Percent added to the likelihood that a page's words are asked for: what says nothing may be asked for too."""
SIZE_PRIOR: Final = 50.0
"""The share of a kind's pages of one size that are used again counts as much as that of the kind at 50 pages seen."""
BATCH_VALUE_RATIO: Final = 1.5
"""A batch of evictions ends at a page in use: one used again and worth 1.5 times the last page that had to go."""


def reuse_5(candidate: Candidate) -> SortKey:
    """Least expected uses soon for its size first: recency or predicted next use, by how periodic the session is."""
    periodic = _odds(candidate.periodicity, PERIODICITY_POWER)
    reuse_odds = 1.0 if candidate.reuses else _odds(candidate.kind_share, REUSE_ODDS_POWER)
    recency = _message_value(candidate) if candidate.is_message else _recency(candidate, reuse_odds)
    next_use = sqrt(reuse_odds) / (1 + max(0, candidate.gap_references - candidate.idle_references))
    soon = (1 - periodic) * recency + periodic * next_use
    weight = TYPE_WEIGHT[candidate.page_type] * (0.1 + candidate.importance)
    likelihood = RECALL_LIKELIHOOD_FLOOR + candidate.recall_likelihood_percent
    return (soon * weight * likelihood / max(1, candidate.size_tokens), candidate.position)


def _recency(candidate: Candidate, reuse_odds: float) -> float:
    """Reuse odds over the page's age: the re-uses since its last use, and what new pages add to them.

    n new pages age an idle page by (n / residents)^2: as many as there is room for say that the work has moved on.
    """
    new_pages = (candidate.idle_references - candidate.idle_reuses) / candidate.residents
    age = 1 + candidate.idle_reuses + new_pages * new_pages
    if not candidate.reuses:
        age += SCAN_WEIGHT * sqrt(candidate.scan_references) / (1 + candidate.idle_reuses)
    return reuse_odds / age


def _message_value(candidate: Candidate) -> float:
    """Uses per re-use since the message was said, idle or not: what was said may be asked for at any time.

    The n-th reference of a session counts 1 / sqrt(n): what is said first is asked for most.
    """
    reuse_odds = 1.0 if candidate.reuses else candidate.kind_share
    uses = reuse_odds * (1 + candidate.reuses) / (1 + candidate.known_reuses)
    return uses / sqrt(candidate.first_reference)


# All pages of an eviction share a periodicity, and most a kind.
@lru_cache(maxsize=1_024)
def _odds(share: float, power: int) -> float:
    """share^power against (1 - share)^power, as a share. `power` is a power of two."""
    rest = 1 - share
    while power > 1:
        share, rest, power = share * share, rest * rest, power // 2
    return share / (share + rest)


_LEARNING_1: Final = Learning(0.8, 0.9, second_uses_alone=False, kind_prior=1.0, size_prior=4.0)
_LEARNING_3: Final = Learning(0.7, 0.9, second_uses_alone=False, kind_prior=1.0, size_prior=8.0)
_LEARNING_4: Final = Learning(0.8, 0.88, second_uses_alone=True, kind_prior=0.1, size_prior=50.0)
_LEARNING_5: Final = Learning(
    PERIODICITY_KEPT, PERIODICITY_KEPT, second_uses_alone=True, kind_prior=0.01, size_prior=SIZE_PRIOR, by_likeness=True
)

POLICIES: Final = {
    policy.name: policy
    for policy in (
        ReplacementPolicy("lru/1", released.lru, _LEARNING_4, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("importance-lru/1", released.importance_lru, _LEARNING_4, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("reuse/1", released.reuse_1, _LEARNING_1, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("reuse/2", released.reuse_2, _LEARNING_1, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("reuse/3", released.reuse_3, _LEARNING_3, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("reuse/4", released.reuse_4, _LEARNING_4, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("reuse/5", reuse_5, _LEARNING_5, 7, BATCH_VALUE_RATIO),
    )
}


def chosen_policy(name: str) -> ReplacementPolicy:
    """The policy that a caller asks for. Raises InvalidField when there is none of that name."""
    policy = POLICIES.get(name)
    if policy is None:
        raise InvalidField("config.eviction_policy", f"must be one of {', '.join(POLICIES)}, not {name!r}")
    return policy


def logged_policy(name: str) -> ReplacementPolicy:
    """The policy that a log names. Raises ReleaseTooOld when this release does not know it."""
    policy = POLICIES.get(name)
    if policy is None:
        raise ReleaseTooOld(f"policy {name}", f"the policies {', '.join(POLICIES)}")
    return policy
