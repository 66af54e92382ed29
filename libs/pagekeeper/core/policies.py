"""Replacement policies by name and version. The log names one, and a session is folded by it for as long as it lives.

A policy that was released is never changed and never taken away: its successor gets another name.
"""

from typing import Final

from pagekeeper.core import released_policies as released
from pagekeeper.core.errors import InvalidField, ReleaseTooOld
from pagekeeper.core.eviction import ReplacementPolicy
from pagekeeper.core.fold_rules import UNNAMED_FOLD_VERSION
from pagekeeper.core.reuse_counts import Learning

_LEARNING_1: Final = Learning(0.8, 0.9, second_uses_alone=False, kind_prior=1.0, size_prior=4.0)
_LEARNING_3: Final = Learning(0.7, 0.9, second_uses_alone=False, kind_prior=1.0, size_prior=8.0)
_LEARNING_4: Final = Learning(0.8, 0.88, second_uses_alone=True, kind_prior=0.1, size_prior=50.0)

POLICIES: Final = {
    policy.name: policy
    for policy in (
        ReplacementPolicy("lru/1", released.lru, _LEARNING_4, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("importance-lru/1", released.importance_lru, _LEARNING_4, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("reuse/1", released.reuse_1, _LEARNING_1, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("reuse/2", released.reuse_2, _LEARNING_1, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("reuse/3", released.reuse_3, _LEARNING_3, UNNAMED_FOLD_VERSION),
        ReplacementPolicy("reuse/4", released.reuse_4, _LEARNING_4, UNNAMED_FOLD_VERSION),
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
