"""Which pages are in context (L0) or at hand (L1), what they cost, and which may go.

L0 is the working set of a session of the core: the session of a memory, or one that the manager folds of the pages that
it is given. Sizes, pins, protected turns and the order of eviction are that session's. L1 is the application's, and no
policy orders it.
"""

from collections.abc import Sequence
from typing import Final, Protocol

from pydantic import Field

from pagekeeper.core.events import SessionConfig
from pagekeeper.core.session import Session
from pagekeeper.core.session_settings import with_reserve
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.eviction_policy import EvictionPolicy, policy_name
from pagekeeper.memory.models import MemoryPage, Modality, StorageTier, TokenBudget, WorkingSetStats
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.own_pages import OwnPages

__all__ = ["WorkingSetConfig", "WorkingSetManager"]

SETTINGS: Final = ("max_l0_tokens", "reserved_tokens", "eviction_threshold", "target_utilization")
"""Fields that a configuration and a session's settings share."""
DEFAULT_POLICY: Final = SessionConfig().eviction_policy


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
    made = SessionConfig(**config.model_dump(include=set(SETTINGS)))
    return made if "reserved_tokens" in config.model_fields_set else with_reserve(made)


def of_session(config: WorkingSetConfig, session: SessionConfig) -> WorkingSetConfig:
    """The configuration with what a session's settings say of it."""
    return config.model_copy(update={name: getattr(session, name) for name in SETTINGS})


class Pages(Protocol):
    """The pages of a session, and what changes their residency."""

    @property
    def folded(self) -> Session: ...

    @property
    def turn(self) -> int: ...

    def begin_turn(self) -> None: ...

    def place(self, page: MemoryPage) -> bool:
        """Have the page in the working set, and its `storage_tier` say so; False when it cannot be there."""
        ...

    def release(self, page_ids: Sequence[str]) -> None: ...

    def resident_page(self, page_id: str) -> MemoryPage | None: ...

    def pin_page(self, page_id: str) -> None: ...

    def unpin_page(self, page_id: str) -> None: ...

    def set_importance(self, page_id: str, importance: float) -> None: ...


@checked
class WorkingSetManager:
    """L0 in admission order, within a token budget, and L1, within a number of pages.

    Without a `budget` the configuration's is made. A given one decides on tokens; ValueError when its total is not the
    configuration's. `eviction_policy` is one of the core's, by its name or as an object. `pages` are
    those of a session that somebody else folds, by the policy of that session.
    """

    def __init__(
        self,
        config: WorkingSetConfig | None = None,
        budget: TokenBudget | None = None,
        *,
        eviction_policy: EvictionPolicy | str = DEFAULT_POLICY,
        pages: Pages | None = None,
    ) -> None:
        if config is not None and budget is not None and config.max_l0_tokens != budget.total_limit:
            raise ValueError(f"the configuration has {config.max_l0_tokens} tokens, the budget {budget.total_limit}")
        self.config = config or WorkingSetConfig()
        self._budget = budget or TokenBudget(
            total_limit=self.config.max_l0_tokens, reserved=self.config.reserved_tokens
        )
        self._budget.follow(self)
        self._pages = pages or OwnPages(self._budget, policy_name(eviction_policy))
        self._at_hand: dict[str, MemoryPage] = {}
        self._own_importance: dict[str, float] = {}

    def __repr__(self) -> str:
        used, limit = self.tokens_used, self.budget.usable
        return f"{type(self).__name__}({self.l0_count:,} pages in L0, {used:,} of {limit:,} tokens)"

    def __len__(self) -> int:
        return self.l0_count + self.l1_count

    @property
    def budget(self) -> TokenBudget:
        """The tokens that L0 may take and those that it takes; the object follows every change."""
        return self._budget

    @property
    def current_turn(self) -> int:
        return self._pages.turn

    @property
    def l0_count(self) -> int:
        return len(self._pages.folded.working_set)

    @property
    def l1_count(self) -> int:
        return len(self.get_l1_pages())

    @property
    def tokens_used(self) -> int:
        return self._pages.folded.working_set.used_tokens

    @property
    def tokens_available(self) -> int:
        return self._budget.available

    @property
    def utilization(self) -> float:
        """From 0 to 1."""
        return self._budget.utilization

    def tokens_by_modality(self) -> dict[Modality, int]:
        session = self._pages.folded
        tokens = dict.fromkeys(Modality, 0)
        for resident in session.working_set:
            tokens[session.pages[resident.page_id].modality] += resident.size_tokens
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
        """Admit the page, out of L1; False when it does not fit, and then it stays where it was.

        Adding a page that is there counts as its use, and as its replacement when its size is another.
        """
        placed = self._pages.place(page)
        if placed:
            self._at_hand.pop(page.page_id, None)
        return placed

    def add_to_l1(self, page: MemoryPage) -> bool:
        """Keep at hand, out of L0, or replace the page of that id; False when L1 is full."""
        if not self.is_in_l1(page.page_id) and self.l1_count >= self.config.max_l1_pages:
            return False
        self.remove(page.page_id)
        self._at_hand[page.page_id] = page
        page.storage_tier = StorageTier.L1
        page.mark_accessed()
        return True

    def promote_to_l0(self, page: MemoryPage) -> bool:
        """False when the page is not in L1, or does not fit."""
        return self.is_in_l1(page.page_id) and self.add_to_l0(page)

    def demote_to_l1(self, page: MemoryPage) -> bool:
        """False when the page is not in L0, or L1 is full."""
        return self.is_in_l0(page.page_id) and self.add_to_l1(page)

    def remove(self, page_id: str) -> MemoryPage | None:
        """Take a page out of L0 and L1; None when it is in neither."""
        page = self.get_page(page_id)
        self.remove_from_l0(page_id)
        self._at_hand.pop(page_id, None)
        return page

    def remove_from_l0(self, page_id: str, page: MemoryPage | None = None) -> bool:  # noqa: ARG002 - the guide's
        """Take a page out of L0 with the tokens it counts for; False when it is not there."""
        if not self.is_in_l0(page_id):
            return False
        self._pages.release([page_id])
        return True

    def clear(self) -> None:
        """Take every page out of L0 and L1."""
        self._pages.release(self.get_l0_page_ids())
        self._at_hand.clear()

    def get_page(self, page_id: str) -> MemoryPage | None:
        return self._pages.resident_page(page_id) or self._at_hand.get(page_id)

    def get_l0_page_ids(self) -> list[str]:
        """List the pages in L0, in admission order."""
        return [resident.page_id for resident in self._pages.folded.working_set]

    def get_l1_pages(self) -> list[MemoryPage]:
        return [page for page_id, page in self._at_hand.items() if not self.is_in_l0(page_id)]

    def is_in_l0(self, page_id: str) -> bool:
        return page_id in self._pages.folded.working_set

    def is_in_l1(self, page_id: str) -> bool:
        return page_id in self._at_hand and not self.is_in_l0(page_id)

    def is_in_working_set(self, page_id: str) -> bool:
        return self.is_in_l0(page_id) or page_id in self._at_hand

    def set_importance(self, page_id: str, importance: float) -> None:
        """From 0 to 1, instead of the page's own. Raises PageNotFound for a page that was never in L0."""
        known = self._pages.folded.page(page_id)
        self._pages.set_importance(page_id, max(0.0, min(1.0, importance)))
        if known is not None:
            self._own_importance.setdefault(page_id, known.importance)

    def clear_importance(self, page_id: str) -> None:
        """Have the page's own importance back."""
        if page_id in self._own_importance:
            self._pages.set_importance(page_id, self._own_importance.pop(page_id))

    def pin_page(self, page_id: str) -> None:
        """Keep the page in L0. Raises PageNotFound for a page that was never there."""
        self._pages.pin_page(page_id)

    def unpin_page(self, page_id: str) -> None:
        """Raises PageNotFound for a page that was never in L0."""
        self._pages.unpin_page(page_id)

    def is_pinned(self, page_id: str) -> bool:
        """Whether the page is pinned, on arrival or since, or says what the application instructs the model to do."""
        page = self._pages.folded.page(page_id)
        return page is not None and self._pages.folded.is_pinned(page)

    def new_turn(self) -> None:
        self._pages.begin_turn()

    def get_eviction_candidates(
        self,
        tokens_needed: int = 0,  # noqa: ARG002 - the guide's: the order does not depend on it
        from_tier: StorageTier = StorageTier.L0,
    ) -> list[tuple[str, float]]:
        """Pages that may go and their ranks, from 0, the first to go first. Pinned pages are not among them.

        In L0, pages of the last turns and pages that came back a moment ago go after all others. In L1, pages go in the
        order in which they came.
        """
        if from_tier is StorageTier.L0:
            page_ids = [resident.page_id for resident in self._pages.folded.eviction_order()]
        elif from_tier is StorageTier.L1:
            page_ids = [page.page_id for page in self.get_l1_pages() if not page.pinned]
        else:
            page_ids = []
        return [(page_id, rank / len(page_ids)) for rank, page_id in enumerate(page_ids)]

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
