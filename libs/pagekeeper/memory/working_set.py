"""Which pages are in context (L0) or at hand (L1), what they cost, and which may go.

Invariant: the tokens used are the sum of the resident pages' sizes, whatever is added twice, replaced, moved or taken
away. The sizes are the core working set's, and the budget asks it; a page counts for what it was admitted at until it
is replaced. A page that does not fit is refused and stays where it was.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from pydantic import Field

from pagekeeper.core.events import SessionConfig
from pagekeeper.core.session_settings import with_reserve
from pagekeeper.core.working_set import Resident, WorkingSet
from pagekeeper.memory.eviction_policy import Entries, EvictionContext, EvictionPolicy, ImportanceWeightedLRU
from pagekeeper.memory.models import MemoryPage, Modality, StorageTier, TokenBudget, WorkingSetStats
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.pinning import PinCandidate, PinnedSet
from pagekeeper.memory.thrashing import AntiThrashPolicy
from pagekeeper.memory.uses import UseHistory

__all__ = ["AntiThrashPolicy", "PinnedSet", "WorkingSetConfig", "WorkingSetManager"]

CLEANUP_TURNS: Final = 10
"""How often what happened long ago is forgotten."""


class WorkingSetConfig(StrictModel):
    """`reserved_tokens` of `max_l0_tokens` are no room for pages. Eviction begins above `eviction_threshold` of the
    rest and ends at `target_utilization` of it.
    """

    max_l0_tokens: int = Field(default=128_000, ge=0)
    max_l1_pages: int = Field(default=100, ge=0)
    eviction_threshold: float = Field(default=0.85, ge=0.0, le=1.0)
    target_utilization: float = Field(default=0.50, ge=0.0, le=1.0)
    reserved_tokens: int = Field(default=4_000, ge=0)


def session_config(config: WorkingSetConfig) -> SessionConfig:
    """A session's settings of the same names; all others are a stack's defaults."""
    made = SessionConfig(
        max_l0_tokens=config.max_l0_tokens,
        reserved_tokens=config.reserved_tokens,
        eviction_threshold=config.eviction_threshold,
        target_utilization=config.target_utilization,
    )
    return made if "reserved_tokens" in config.model_fields_set else with_reserve(made)


class WorkingSetManager:
    """L0 in admission order, within a token budget, and L1, within a number of pages.

    Without a `budget` the configuration's is made. A given one decides on tokens; ValueError when its total is not the
    configuration's.
    """

    def __init__(
        self,
        config: WorkingSetConfig | None = None,
        budget: TokenBudget | None = None,
        *,
        pinned_set: PinnedSet | None = None,
        anti_thrash: AntiThrashPolicy | None = None,
        eviction_policy: EvictionPolicy | None = None,
    ) -> None:
        if config is not None and budget is not None and config.max_l0_tokens != budget.total_limit:
            raise ValueError(f"the configuration has {config.max_l0_tokens} tokens, the budget {budget.total_limit}")
        self.config = config or WorkingSetConfig()
        self.pinned_set = pinned_set or PinnedSet()
        self.anti_thrash = anti_thrash or AntiThrashPolicy()
        self.importance_overrides: dict[str, float] = {}
        self.l1_cache: dict[str, MemoryPage] = {}
        self.current_turn = 0
        self._policy: EvictionPolicy = eviction_policy or ImportanceWeightedLRU()
        self._l0 = WorkingSet()
        self._pages: dict[str, MemoryPage] = {}
        self._uses = UseHistory()
        self._budget = budget or TokenBudget(
            total_limit=self.config.max_l0_tokens, reserved=self.config.reserved_tokens
        )
        self._budget.follow(self)

    def __len__(self) -> int:
        return len(self._l0) + len(self.l1_cache)

    @property
    def budget(self) -> TokenBudget:
        """The tokens that L0 may take and those that it takes; the object follows every change."""
        return self._budget

    @budget.setter
    def budget(self, budget: TokenBudget) -> None:
        self._budget.unfollow(self)
        self._budget = budget
        self._budget.follow(self)

    @property
    def l0_pages(self) -> list[str]:
        """The ids of the pages in L0, in admission order."""
        return [resident.page_id for resident in self._l0]

    @l0_pages.setter
    def l0_pages(self, page_ids: Iterable[str]) -> None:
        """Have exactly these, in this order. Those that are not in L0 yet take no tokens, being known by id alone."""
        known = {resident.page_id: resident for resident in self._l0}
        self._l0 = WorkingSet(known.get(page_id) or self._resident(page_id, 0) for page_id in page_ids)
        self._pages = {page_id: page for page_id, page in self._pages.items() if page_id in self._l0}

    @property
    def l0_count(self) -> int:
        return len(self._l0)

    @property
    def l1_count(self) -> int:
        return len(self.l1_cache)

    @property
    def tokens_used(self) -> int:
        return self._l0.used_tokens

    @property
    def tokens_available(self) -> int:
        return self._budget.available

    @property
    def utilization(self) -> float:
        """From 0 to 1."""
        return self._budget.utilization

    def tokens_by_modality(self) -> dict[Modality, int]:
        tokens = dict.fromkeys(Modality, 0)
        for resident in self._l0:
            page = self._pages.get(resident.page_id)
            tokens[Modality.TEXT if page is None else page.modality] += resident.size_tokens
        return tokens

    def needs_eviction(self) -> bool:
        return self.utilization > self.config.eviction_threshold

    def can_fit(self, tokens: int) -> bool:
        return self._budget.can_fit(tokens)

    def calculate_eviction_target(self, tokens_needed: int = 0) -> int:
        """Tokens to free until the target is reached with `tokens_needed` more in it."""
        target_tokens = int(self._budget.usable * self.config.target_utilization)
        return max(0, self._budget.used + tokens_needed - target_tokens)

    def add_to_l0(self, page: MemoryPage) -> bool:
        """Admit at the end, out of L1, or replace the page of that id in its place; False when it does not fit."""
        if not self._admit(page):
            return False
        self.l1_cache.pop(page.page_id, None)
        page.storage_tier = StorageTier.L0
        page.mark_accessed()
        self.record_access(page.page_id)
        return True

    def add_to_l1(self, page: MemoryPage) -> bool:
        """Keep at hand, out of L0, or replace the page of that id; False when L1 is full."""
        if page.page_id not in self.l1_cache and len(self.l1_cache) >= self.config.max_l1_pages:
            return False
        self._leave_l0(page.page_id)
        self.l1_cache[page.page_id] = page
        page.storage_tier = StorageTier.L1
        page.mark_accessed()
        return True

    def promote_to_l0(self, page: MemoryPage) -> bool:
        """False when the page is not in L1, or does not fit."""
        return self.is_in_l1(page.page_id) and self.add_to_l0(page)

    def demote_to_l1(self, page: MemoryPage) -> bool:
        """False when the page is not in L0, or L1 is full."""
        return self.is_in_l0(page.page_id) and self.add_to_l1(page)

    def replace_page(self, page: MemoryPage) -> bool:
        """Have this in place of the page of its id, in whichever tier that is: another level of it, or new content.

        False when there is none, or when this one does not fit.
        """
        if self.is_in_l0(page.page_id):
            if not self._admit(page):
                return False
            page.storage_tier = StorageTier.L0
            return True
        if self.is_in_l1(page.page_id):
            self.l1_cache[page.page_id] = page
            page.storage_tier = StorageTier.L1
            return True
        return False

    def update_page_tokens(
        self,
        page_id: str,
        old_tokens: int,  # noqa: ARG002 - the guide's signature: what the page counted for is known here
        new_tokens: int,
        modality: Modality = Modality.TEXT,  # noqa: ARG002 - likewise
    ) -> bool:
        """Count a page in L0 for `new_tokens` from now on; False when it is not there, or that does not fit."""
        resident = self._l0.get(page_id)
        if resident is None or not self.can_fit(new_tokens - resident.size_tokens):
            return False
        self._l0.replace(replace(resident, size_tokens=new_tokens))
        return True

    def remove(self, page_id: str) -> MemoryPage | None:
        """Take a page out of L0 and L1; None when it is in neither, or is known by its id alone."""
        left = self._leave_l0(page_id)
        return self.l1_cache.pop(page_id, None) or left

    def remove_from_l0(self, page_id: str, page: MemoryPage | None = None) -> bool:  # noqa: ARG002 - the guide's
        """Take a page out of L0 with the tokens it counts for; False when it is not there."""
        if page_id not in self._l0:
            return False
        self._leave_l0(page_id)
        return True

    def clear(self) -> None:
        """Take out everything, and forget how pages were used and the importance that they were given."""
        self._l0 = WorkingSet()
        self._pages.clear()
        self.l1_cache.clear()
        self._uses.clear()
        self.importance_overrides.clear()

    def get_page(self, page_id: str) -> MemoryPage | None:
        return self.l1_cache.get(page_id) or self._pages.get(page_id)

    def get_l0_page_ids(self) -> list[str]:
        return self.l0_pages

    def get_l1_pages(self) -> list[MemoryPage]:
        return list(self.l1_cache.values())

    def is_in_l0(self, page_id: str) -> bool:
        return page_id in self._l0

    def is_in_l1(self, page_id: str) -> bool:
        return page_id in self.l1_cache

    def is_in_working_set(self, page_id: str) -> bool:
        return self.is_in_l0(page_id) or self.is_in_l1(page_id)

    def set_importance(self, page_id: str, importance: float) -> None:
        """From 0 to 1, instead of the page's own."""
        self.importance_overrides[page_id] = max(0.0, min(1.0, importance))

    def clear_importance(self, page_id: str) -> None:
        self.importance_overrides.pop(page_id, None)

    def pin_page(self, page_id: str) -> None:
        """Keep the page, also when it comes only later."""
        self.pinned_set.pin(page_id)

    def unpin_page(self, page_id: str) -> None:
        """Take back every pin of the page, its own included."""
        self.pinned_set.unpin(page_id)
        page = self.get_page(page_id)
        if page is not None:
            page.pinned = False

    def is_pinned(self, page_id: str) -> bool:
        page = self.get_page(page_id)
        own = page is not None and page.pinned
        return own or self.pinned_set.is_pinned(page_id) or page_id in self._automatic_pins()

    def pinned_page_ids(self, *, last_turns: bool = True) -> set[str]:
        """Every page that is not to be evicted: pinned by id, by its own word, or automatically.

        Without `last_turns`, being of one of these is no reason.
        """
        held = [*self._pages.values(), *self.l1_cache.values()]
        own = {page.page_id for page in held if page.pinned}
        return own | self.pinned_set.get_all_pinned() | self._automatic_pins(last_turns=last_turns)

    def record_access(self, page_id: str) -> None:
        """Count the page as used in this turn."""
        self._uses.record_use(page_id, self.get_page(page_id), self.current_turn)

    def record_fault(self, page_id: str) -> None:
        """A page was missed and brought in, which counts as its use when it is admitted."""
        self.anti_thrash.record_fault(page_id, self.current_turn)

    def record_eviction(self, page_id: str) -> None:
        self.anti_thrash.record_eviction(page_id, self.current_turn)

    def new_turn(self) -> None:
        self.current_turn += 1
        if self.current_turn % CLEANUP_TURNS == 0:
            self.anti_thrash.cleanup_old_history(self.current_turn)

    def set_eviction_policy(self, policy: EvictionPolicy) -> None:
        self._policy = policy

    def get_eviction_candidates(
        self,
        tokens_needed: int = 0,
        from_tier: StorageTier = StorageTier.L0,
        page_table: Entries | None = None,
    ) -> list[tuple[str, float]]:
        """Pages that may go and their scores, the lowest first. Those pinned or protected are not among them."""
        context = EvictionContext(
            current_turn=self.current_turn,
            l0_page_ids=self.l0_pages,
            l0_pages=self._pages,
            l1_pages=self.l1_cache,
            pinned_page_ids=self.pinned_page_ids(),
            importance_overrides=self.importance_overrides,
            uses=self._uses,
            anti_thrash=self.anti_thrash,
            page_table=page_table,
        )
        scored = self._policy.score_candidates(context, from_tier, tokens_needed)
        return [(candidate.page_id, candidate.score) for candidate in scored]

    def get_stats(self) -> WorkingSetStats:
        return WorkingSetStats(
            l0_pages=self.l0_count,
            l1_pages=self.l1_count,
            total_pages=len(self),
            tokens_used=self.tokens_used,
            tokens_available=self.tokens_available,
            utilization=self.utilization,
            needs_eviction=self.needs_eviction(),
            tokens_by_modality=self.tokens_by_modality(),
        )

    def _admit(self, page: MemoryPage) -> bool:
        """Into L0 at the end, or in place of the page of that id."""
        size_tokens = page.estimate_tokens()
        resident = self._l0.get(page.page_id)
        if not self.can_fit(size_tokens - (0 if resident is None else resident.size_tokens)):
            return False
        if resident is None:
            self._l0.append(self._resident(page.page_id, size_tokens, page.compression_level))
        else:
            self._l0.replace(replace(resident, size_tokens=size_tokens, level=page.compression_level))
        self._pages[page.page_id] = page
        return True

    def _leave_l0(self, page_id: str) -> MemoryPage | None:
        self._l0.remove(page_id)
        return self._pages.pop(page_id, None)

    def _resident(self, page_id: str, size_tokens: int, level: int = 0) -> Resident:
        return Resident(page_id, 1, level, size_tokens, faulted=False, admitted_turn=self.current_turn)

    def _automatic_pins(self, *, last_turns: bool = True) -> set[str]:
        return self.pinned_set.automatic(
            self._pin_candidates(), self._budget.usable, turns_are_counted=last_turns and self.current_turn > 0
        )

    def _pin_candidates(self) -> Iterator[PinCandidate]:
        for resident in self._l0:
            page = self._pages.get(resident.page_id)
            if page is not None:
                yield PinCandidate(page, resident.size_tokens, self.current_turn - resident.admitted_turn)
