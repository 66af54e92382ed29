"""Sort keys of earlier policies: logs that name one are folded by it for ever.

`reuse/1` to `reuse/4` estimate the rate at which a page is used again and divide it by what its room costs. They are
explained in `docs/adr` 8, 14, 16 and 18. Nothing here may change: a session would wake up as something else.
"""

from functools import lru_cache
from math import sqrt

from pagekeeper.core.eviction import TYPE_WEIGHT, Candidate, SortKey


def lru(candidate: Candidate) -> SortKey:
    """Least recently used first."""
    return (candidate.last_used_turn, candidate.position)


def importance_lru(candidate: Candidate) -> SortKey:
    """Oldest first, where an important page ages more slowly."""
    age_turns = candidate.turn - candidate.last_used_turn + 1
    weight = TYPE_WEIGHT[candidate.page_type] * (0.1 + candidate.importance)
    return (-age_turns / weight, candidate.position)


def reuse_1(candidate: Candidate) -> SortKey:
    rate = _buy_till_you_die(candidate, prior_age=30)
    at_own_rate = rate * (1 + 0.5 * candidate.fault_count)
    soon = (1 - candidate.periodicity) * at_own_rate + candidate.periodicity * _due_1(candidate, rate)
    size_tokens = max(1, candidate.size_tokens)
    worth = TYPE_WEIGHT[candidate.page_type] * (0.1 + candidate.importance)
    return (soon * worth / sqrt(size_tokens * sqrt(size_tokens)), candidate.position)


def reuse_2(candidate: Candidate) -> SortKey:
    root = sqrt(max(1, candidate.size_tokens))
    if candidate.is_message:
        span = 120 + _age(candidate.known_reuses, candidate.known_references)
        rate = (1 + candidate.reuses) / span / (1 + _odds_against(candidate))
        at_own_rate, cost = rate * (1 + 0.5 * candidate.fault_count), root * sqrt(root) / 30
    else:
        rate = _buy_till_you_die(candidate, prior_age=30)
        alive = 1.0 if candidate.reuses else candidate.kind_share
        in_no_loop = (1 - candidate.periodicity) * (1 - candidate.periodicity)
        burst = in_no_loop * 4.0 * alive / (40 + candidate.idle_references)
        at_own_rate, cost = rate * (1 + 0.5 * candidate.fault_count) + burst, sqrt(root)
    soon = (1 - candidate.periodicity) * at_own_rate + candidate.periodicity * _due_1(candidate, rate)
    return (soon * _value(candidate) / cost, candidate.position)


def reuse_3(candidate: Candidate) -> SortKey:
    again = 1.0 if candidate.reuses else _steeper(candidate.kind_share, 2.0, 3)
    rate = _message_rate(candidate) if candidate.is_message else _rate_3(candidate, again)
    due_references = candidate.gap_references - candidate.idle_references
    overdue = due_references < -0.15 * candidate.gap_references
    due = rate if overdue else 3.0 * again / (8 + max(0, due_references))
    soon = (1 - candidate.periodicity) * rate + candidate.periodicity * due
    size_tokens = max(1, candidate.size_tokens)
    cost = size_tokens / 30 if candidate.is_message else sqrt(size_tokens)
    return (soon * _value(candidate) / cost, candidate.position)


def reuse_4(candidate: Candidate) -> SortKey:
    rate = _message_rate(candidate) if candidate.is_message else _rate_4(candidate)
    due_references = candidate.gap_references - candidate.idle_references
    if due_references < -0.2 * candidate.gap_references:
        due = rate
    else:
        again = 1.0 if candidate.reuses else _steeper(candidate.kind_share, 14.0, 2)
        due = 2.0 * again / (3 + max(0, due_references))
    loop = _steeper(candidate.periodicity, 5.0, 6)
    soon = (1 - loop) * rate + loop * due
    size_tokens = max(1, candidate.size_tokens)
    root = sqrt(size_tokens)
    cost = size_tokens / 30 if candidate.is_message else root * sqrt(root)
    return (soon * _value(candidate) / cost, candidate.position)


def _value(candidate: Candidate) -> float:
    return TYPE_WEIGHT[candidate.page_type] * (0.1 + candidate.importance) * (10 + candidate.recall_likelihood_percent)


def _age(reuses: int, references: int) -> float:
    """Re-uses, and a tenth for each first use of another page."""
    return reuses + 0.1 * (references - reuses)


def _odds_against(candidate: Candidate) -> float:
    """Odds that the page's last use was its last one."""
    if candidate.reuses:
        return 2.0 / (2.0 + candidate.reuses - 1)
    return (1 - candidate.kind_share) / candidate.kind_share


def _buy_till_you_die(candidate: Candidate, prior_age: int) -> float:
    """Expected uses by the model of Fader, Hardie and Lee (2005), where customers are pages."""
    span = prior_age + _age(candidate.known_reuses, candidate.known_references)
    stretch = span / (span - _age(candidate.idle_reuses, candidate.idle_references))
    odds_against = _odds_against(candidate) * _by_squaring(stretch, 1 + min(candidate.reuses, 64))
    return (1 + candidate.reuses) / span / (1 + odds_against)


def _due_1(candidate: Candidate, rate: float) -> float:
    due_references = candidate.gap_references - candidate.idle_references
    if due_references < -0.15 * candidate.gap_references:
        return rate
    return (1.0 if candidate.reuses else candidate.kind_share) / (max(1, due_references) + 1)


def _message_rate(candidate: Candidate) -> float:
    again = 1.0 if candidate.reuses else candidate.kind_share
    opening = 1 + 4.0 * 16 / (16 + candidate.first_reference)
    return again * opening * (1 + candidate.reuses) / (160 + candidate.known_reuses)


def _rate_3(candidate: Candidate, again: float) -> float:
    new_pages = candidate.idle_references - candidate.idle_reuses
    scan = new_pages * new_pages / 256 if candidate.reuses else 2.0 * sqrt(new_pages) / (1 + candidate.idle_reuses)
    often = 1 + candidate.reuses / (16 + candidate.reuses)
    return often * again / (8 + candidate.idle_reuses + scan)


def _rate_4(candidate: Candidate) -> float:
    new_pages = (candidate.idle_references - candidate.idle_reuses) / candidate.residents
    if not candidate.reuses:
        scan = 2.5 * sqrt(candidate.scan_references) / (1 + candidate.idle_reuses) + new_pages * new_pages
        return 1.5 * _steeper(candidate.kind_share, 2.5, 5) / (0.5 + candidate.idle_reuses + scan)
    often = 1 + 2.0 * candidate.reuses / (8 + candidate.reuses)
    return often / (1 + candidate.idle_reuses + _power(new_pages / 0.9, 6))


# All pages of an eviction share a periodicity, and most a kind.
@lru_cache(maxsize=1_024)
def _steeper(share: float, odds: float, power: int) -> float:
    """`odds * share^power` against `(1 - share)^power`, as a share."""
    wanted = odds * _power(share, power)
    return wanted / (wanted + _power(1 - share, power))


def _power(base: float, exponent: int) -> float:
    product = base
    for _ in range(exponent - 1):
        product *= base
    return product


def _by_squaring(base: float, exponent: int) -> float:
    power = 1.0
    while exponent:
        if exponent & 1:
            power *= base
        base *= base
        exponent >>= 1
    return power
