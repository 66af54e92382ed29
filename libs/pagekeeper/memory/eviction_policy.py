"""The core's replacement policies, by the guide's class names.

A policy decides nothing here: it names the policy of `pagekeeper.core.policies` that a session is folded by.
"""

from typing import Final, Protocol, runtime_checkable

from pagekeeper.core.policies import chosen_policy

__all__ = ["EvictionPolicy", "ImportanceWeightedLRU", "LRUEvictionPolicy"]


@runtime_checkable
class EvictionPolicy(Protocol):
    """A policy of the core, by its name."""

    @property
    def name(self) -> str: ...


class ImportanceWeightedLRU:
    """Least recently used first; a page of more importance stays longer."""

    name: Final = "importance-lru/1"


class LRUEvictionPolicy:
    """Least recently used first."""

    name: Final = "lru/1"


def policy_name(policy: EvictionPolicy | str) -> str:
    """The core's policy that a session is to fold with. Raises InvalidField for one that no fold knows."""
    return chosen_policy(policy if isinstance(policy, str) else policy.name).name
