"""Which pages of a tier go first, as scores: the lowest goes first.

Invariant: no policy here offers a page that is pinned or protected from thrashing.

The guide's three policies weigh position, importance and history as it documents. The core's policies, which are sort
keys over turns, are had by their names: there a score is a page's rank, and only its order means something.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC
from typing import Final, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, SkipValidation

from pagekeeper.core.eviction import Candidate
from pagekeeper.core.policies import chosen_policy
from pagekeeper.memory.clock import utc_now
from pagekeeper.memory.models import MemoryPage, Modality, PageTableEntry, PageType, StorageTier
from pagekeeper.memory.uses import UseHistory

__all__ = [
    "EvictionCandidate",
    "EvictionContext",
    "EvictionPolicy",
    "ImportanceWeightedLRU",
    "ImportanceWeightedLRUConfig",
    "LRUEvictionPolicy",
    "ModalityAwareLRU",
    "ModalityAwareLRUConfig",
    "NamedEvictionPolicy",
]

DEFAULT_IMPORTANCE = 0.5
HOUR_SECONDS = 3_600
FREQUENCY_SCALE = 10.0


class Thrashing(Protocol):
    """Facts of recently admitted and evicted pages."""

    def can_evict(self, page_id: str, current_turn: int, /) -> bool: ...

    def get_eviction_penalty(self, page_id: str, current_turn: int, /) -> float: ...


class Entries(Protocol):
    """A page table, as far as a policy asks it."""

    def lookup(self, page_id: str, /) -> PageTableEntry | None: ...


class EvictionCandidate(BaseModel):
    page_id: str
    score: float


class EvictionContext(BaseModel):
    """The working set as a policy sees it.

    `l0_page_ids` are in admission order; `l0_pages` holds those of them that are known as pages, and
    `uses` when pages were used. What is not given is taken from the page table, or is a default.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    current_turn: int = 0
    l0_page_ids: list[str] = Field(default_factory=list)
    l0_pages: Mapping[str, MemoryPage] = Field(default_factory=dict)
    l1_pages: dict[str, MemoryPage] = Field(default_factory=dict)
    pinned_page_ids: set[str] = Field(default_factory=set)
    importance_overrides: dict[str, float] = Field(default_factory=dict)
    uses: UseHistory = Field(default_factory=UseHistory)
    anti_thrash: SkipValidation[Thrashing | None] = None
    page_table: SkipValidation[Entries | None] = None

    def tier_page_ids(self, tier: StorageTier) -> list[str]:
        """L0 in admission order, any other tier as the L1 cache has it."""
        return list(self.l0_page_ids) if tier == StorageTier.L0 else list(self.l1_pages)

    def page(self, page_id: str) -> MemoryPage | None:
        return self.l0_pages.get(page_id) or self.l1_pages.get(page_id)

    def entry(self, page_id: str) -> PageTableEntry | None:
        return None if self.page_table is None else self.page_table.lookup(page_id)

    def evictable(self, tier: StorageTier) -> list[str]:
        """The tier's pages that are neither pinned nor protected."""
        return [page_id for page_id in self.tier_page_ids(tier) if self._may_go(page_id)]

    def importance(self, page_id: str) -> float:
        page = self.page(page_id)
        own = DEFAULT_IMPORTANCE if page is None else page.importance
        return self.importance_overrides.get(page_id, own)

    def penalty(self, page_id: str) -> float:
        return 0.0 if self.anti_thrash is None else self.anti_thrash.get_eviction_penalty(page_id, self.current_turn)

    def _may_go(self, page_id: str) -> bool:
        known = self.page(page_id) or self.entry(page_id)
        if page_id in self.pinned_page_ids or (known is not None and known.pinned):
            return False
        return self.anti_thrash is None or self.anti_thrash.can_evict(page_id, self.current_turn)


@runtime_checkable
class EvictionPolicy(Protocol):
    """An order in which a tier's pages may go. Pages that are pinned or protected must not be in it."""

    def score_candidates(
        self, context: EvictionContext, from_tier: StorageTier, tokens_needed: int = 0
    ) -> list[EvictionCandidate]:
        """All pages of the tier that may go, the lowest score first, for who needs that many tokens."""
        ...


class ImportanceWeightedLRUConfig(BaseModel):
    """Weights of what speaks for keeping a page, from 0 to 1; those of a tier add up to 1."""

    l0_position_weight: float = 0.4
    l0_importance_weight: float = 0.4
    l0_thrash_weight: float = 0.2
    l1_recency_weight: float = 0.3
    l1_frequency_weight: float = 0.2
    l1_importance_weight: float = 0.3
    l1_thrash_weight: float = 0.2


class ImportanceWeightedLRU:
    """In L0 by position, in L1 by recency and frequency of access; in both by importance and the thrash penalty."""

    name: Final = "importance-lru/1"
    """The core's policy of this kind, which a session folds with."""

    def __init__(self, config: ImportanceWeightedLRUConfig | None = None) -> None:
        self.config = config or ImportanceWeightedLRUConfig()

    def score_candidates(
        self,
        context: EvictionContext,
        from_tier: StorageTier,
        tokens_needed: int = 0,  # noqa: ARG002 - of the protocol
    ) -> list[EvictionCandidate]:
        weigh = self._in_l0(context) if from_tier == StorageTier.L0 else self._in_l1(context)
        return _scored(context.evictable(from_tier), weigh)

    def _in_l0(self, context: EvictionContext) -> Callable[[str], float]:
        weights, position = self.config, _positions(context.l0_page_ids)
        return lambda page_id: (
            weights.l0_position_weight * position[page_id]
            + weights.l0_importance_weight * context.importance(page_id)
            + weights.l0_thrash_weight * context.penalty(page_id)
        )

    def _in_l1(self, context: EvictionContext) -> Callable[[str], float]:
        weights, recency = self.config, _recency(context.l1_pages)
        return lambda page_id: (
            weights.l1_recency_weight * recency(page_id)
            + weights.l1_frequency_weight * _frequency(context.l1_pages[page_id])
            + weights.l1_importance_weight * context.importance(page_id)
            + weights.l1_thrash_weight * context.penalty(page_id)
        )


class LRUEvictionPolicy:
    """In L0 by position, in L1 by recency of access, and by nothing else."""

    name: Final = "lru/1"
    """The core's policy of this kind, which a session folds with."""

    def score_candidates(
        self,
        context: EvictionContext,
        from_tier: StorageTier,
        tokens_needed: int = 0,  # noqa: ARG002 - of the protocol
    ) -> list[EvictionCandidate]:
        if from_tier == StorageTier.L0:
            return _scored(context.evictable(from_tier), _positions(context.l0_page_ids).__getitem__)
        return _scored(context.evictable(from_tier), _recency(context.l1_pages))


def _modality_weights() -> dict[Modality, float]:
    return {
        Modality.TEXT: 1.0,
        Modality.STRUCTURED: 0.9,
        Modality.IMAGE: 0.5,
        Modality.AUDIO: 0.4,
        Modality.VIDEO: 0.3,
    }


class ModalityAwareLRUConfig(BaseModel):
    """How much of its score a page keeps, from 0 to 1; a modality that is not named keeps all."""

    modality_weights: dict[Modality, float] = Field(default_factory=_modality_weights)


class ModalityAwareLRU:
    """Another policy's scores by modality, so that media go before text."""

    def __init__(self, config: ModalityAwareLRUConfig | None = None, base_policy: EvictionPolicy | None = None) -> None:
        self.config = config or ModalityAwareLRUConfig()
        self._weighed: EvictionPolicy = base_policy or ImportanceWeightedLRU()

    def score_candidates(
        self, context: EvictionContext, from_tier: StorageTier, tokens_needed: int = 0
    ) -> list[EvictionCandidate]:
        score = {
            one.page_id: one.score * self._weight(context.page(one.page_id) or context.entry(one.page_id))
            for one in self._weighed.score_candidates(context, from_tier, tokens_needed)
        }
        return _scored(score, score.__getitem__)

    def _weight(self, known: MemoryPage | PageTableEntry | None) -> float:
        return 1.0 if known is None else self.config.modality_weights.get(known.modality, 1.0)


def policy_name(policy: "EvictionPolicy | str") -> str:
    """The core's policy that a session is to fold with. Raises InvalidField for one that no fold knows."""
    name = policy if isinstance(policy, str) else getattr(policy, "name", type(policy).__name__)
    chosen_policy(name)
    return str(name)


class NamedEvictionPolicy:
    """A policy of the core, such as `importance-lru/1`. Raises InvalidField when there is none of that name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._key = chosen_policy(name).key

    def score_candidates(
        self,
        context: EvictionContext,
        from_tier: StorageTier,
        tokens_needed: int = 0,  # noqa: ARG002 - of the protocol
    ) -> list[EvictionCandidate]:
        position = {page_id: index for index, page_id in enumerate(context.tier_page_ids(from_tier))}
        candidates = [
            _core_candidate(context, page_id, position[page_id])._replace(residents=len(position))
            for page_id in context.evictable(from_tier)
        ]
        ranked = sorted(candidates, key=self._key)
        return [EvictionCandidate(page_id=one.page_id, score=rank / len(ranked)) for rank, one in enumerate(ranked)]


def _core_candidate(context: EvictionContext, page_id: str, position: int) -> Candidate:
    page, entry = context.page(page_id), context.entry(page_id)
    known = page or entry
    size_tokens = page.estimate_tokens() if page is not None else entry.size_tokens if entry is not None else None
    return context.uses.candidate(
        page_id,
        page_type=PageType.TRANSCRIPT if known is None else known.page_type,
        importance=context.importance(page_id),
        size_tokens=size_tokens or 0,
        position=position,
        turn=context.current_turn,
    )


def _scored(page_ids: Iterable[str], score: Callable[[str], float]) -> list[EvictionCandidate]:
    """Lowest first; equals stay in order."""
    candidates = [EvictionCandidate(page_id=page_id, score=score(page_id)) for page_id in page_ids]
    return sorted(candidates, key=lambda candidate: candidate.score)


def _positions(page_ids: list[str]) -> dict[str, float]:
    """From 0 for the page admitted first, to less than 1."""
    return {page_id: index / len(page_ids) for index, page_id in enumerate(page_ids)}


def _recency(pages: Mapping[str, MemoryPage]) -> Callable[[str], float]:
    """From 1 for a page accessed just now towards 0, a half after an hour."""
    now = utc_now()

    def recency(page_id: str) -> float:
        accessed = pages[page_id].last_accessed
        age = now - (accessed if accessed.tzinfo else accessed.replace(tzinfo=UTC))
        return 1.0 / (1.0 + max(0.0, age.total_seconds()) / HOUR_SECONDS)

    return recency


def _frequency(page: MemoryPage) -> float:
    return min(1.0, math.log1p(page.access_count) / FREQUENCY_SCALE)
