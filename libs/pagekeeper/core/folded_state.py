"""The folded state of a session, and what can be read from it.

`pagekeeper.core.session.Session` is this state with its transitions, and alone changes it.
"""

from collections.abc import Iterator

from pagekeeper.core import events as ev
from pagekeeper.core.bookkeeping import THRASH_OF_FAULTS_MIN, Checkpoint, Counters, Operation, SessionState
from pagekeeper.core.changes import Changes
from pagekeeper.core.effects import Pressure
from pagekeeper.core.eviction import ReplacementPolicy, candidate
from pagekeeper.core.fold_rules import UNNAMED_FOLD_VERSION, fold_rules
from pagekeeper.core.pages import FaultReason, KeyValue, MessageRole, PageState, StorageTier
from pagekeeper.core.policies import POLICIES
from pagekeeper.core.reuse_counts import KindCounts, SessionReuse
from pagekeeper.core.session_pages import SessionPages
from pagekeeper.core.usage import ProviderUsage
from pagekeeper.core.working_set import Hold, Resident, WorkingSet


class FoldedState:
    """State of one session at `revision`. `fold_version` is that of the newest rules that led to it."""

    def __init__(self) -> None:
        self.revision = 0
        self.fold_version = UNNAMED_FOLD_VERSION
        self.config = ev.SessionConfig()
        self.labels: tuple[KeyValue, ...] = ()
        self.exists = False
        self.state = SessionState.OPEN
        self.turn = 0
        self.created_unix_ms = 0
        self.updated_unix_ms = 0
        self.parent_session_id = ""
        self.parent_revision = 0
        self.pages = SessionPages()
        self.reuse = SessionReuse()
        self.kinds = KindCounts()
        self.working_set = WorkingSet()
        self.counters = Counters()
        self.faults_by_reason: dict[FaultReason, int] = {}
        self.recent_evictions: dict[str, int] = {}
        self.checkpoints: dict[str, Checkpoint] = {}
        self.archive: list[ev.ArchiveSegment] = []
        self.operations: dict[str, Operation] = {}
        self.usage: dict[str, ProviderUsage] = {}
        self.changes = Changes()

    def page(self, page_id: str) -> PageState | None:
        """The page when it is mapped."""
        page = self.pages.get(page_id)
        return page if page is not None and page.mapped else None

    def mapped_pages(self) -> Iterator[PageState]:
        return self.pages.mapped()

    def tier(self, page: PageState) -> StorageTier:
        return StorageTier.L0 if page.page_id in self.working_set else page.stored_tier

    @property
    def faults_total(self) -> int:
        return sum(self.faults_by_reason.values())

    @property
    def thrash_index(self) -> float:
        """Share of the faults, taken as a few at least, that undid an eviction of the last few turns."""
        return self.counters.thrash_faults_total / max(self.faults_total, THRASH_OF_FAULTS_MIN)

    def is_pinned(self, page: PageState) -> bool:
        """Never evicted: pinned by the caller, or the application's instructions from before the first turn."""
        return page.pinned or (page.role is MessageRole.SYSTEM and self.keeps_instructions_of(page.current.turn))

    def keeps_instructions_of(self, turn: int) -> bool:
        """Whether what the application said in this turn is never evicted."""
        return turn == 0 or not fold_rules(self.fold_version).reminders_leave

    def is_protected(self, page: PageState) -> bool:
        """Evicted only when nothing else is left: pinned, of the last few turns, or faulted in a moment ago."""
        pinned, until_turn = self.hold_of(page)
        return pinned or self.turn < until_turn

    def hold_of(self, page: PageState) -> Hold:
        """The pin, and the turn until which the page is held, for while it is resident."""
        until_turn = page.current.turn + self.config.pin_last_turns
        if page.last_fault_turn > 0:
            until_turn = max(until_turn, page.last_fault_turn + self.config.fault_protection_turns)
        return Hold(self.is_pinned(page), until_turn)

    def hold_residents(self) -> None:
        """Have the working set hold each resident as the page and the configuration say: after either was replaced."""
        self.working_set.begin_turn(self.turn)
        for resident in self.working_set:
            self.working_set.hold(resident.page_id, self.hold_of(self.pages.at_hand[resident.page_id]))

    def pinned_tokens(self) -> int:
        """Tokens that no eviction can free."""
        return self.working_set.pinned_tokens

    def pressure(self) -> Pressure:
        limit = self.config.limit_tokens
        used = self.working_set.used_tokens
        if used <= limit * self.config.target_utilization:
            return Pressure.LOW
        if used <= limit * self.config.eviction_threshold:
            return Pressure.MEDIUM
        protected = self.working_set.protected_tokens
        return Pressure.CRITICAL if protected > limit * self.config.eviction_threshold else Pressure.HIGH

    def eviction_order(self) -> list[Resident]:
        """Resident pages that may leave, the first to go first: by policy, protected ones after all others."""
        return [*self.unprotected(), *self._order(protected=True)]

    def unprotected(self) -> list[Resident]:
        """Resident pages that nothing protects, the first to go first."""
        return self._order(protected=False)

    @property
    def policy(self) -> ReplacementPolicy:
        """The replacement policy of the configuration, which was known before it was folded."""
        return POLICIES[self.config.eviction_policy]

    def _order(self, *, protected: bool) -> list[Resident]:
        return [resident for _, resident in self._ranked(protected=protected)]

    def _ranked(self, *, protected: bool) -> list[tuple[float, Resident]]:
        """Resident pages that are protected, or those that are not, by the policy's key, whose first number they have.

        Pinned pages are neither.
        """
        if not protected and self.working_set.all_protected:
            return []
        policy = self.policy
        key, learning, share = policy.key, policy.learning, self.kinds.share
        keyed = []
        at_hand, residents = self.pages.at_hand, len(self.working_set)
        for position, resident in enumerate(self.working_set):
            page = at_hand[resident.page_id]
            if self.is_protected(page) is not protected or (protected and self.is_pinned(page)):
                continue
            kind_share = share(page.kind, page.first_size_tokens, learning)
            seen = candidate(page, resident, position, self.turn, self.reuse, kind_share, residents)
            keyed.append((key(seen), position, resident))
        keyed.sort()  # Positions differ, so residents are never compared.
        return [(rank[0], resident) for rank, _, resident in keyed]
