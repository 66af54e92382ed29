"""The pages that a `WorkingSetManager` is given, as a session that the manager folds for itself.

The session knows pages by their facts and sizes, and no contents. It has no log, so nothing folds it again. The
application decides what leaves, so the session has no limit and never evicts: the manager's budget bounds it.
"""

from collections.abc import Sequence
from typing import Final

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.pages import TRUST_OF_ROLE, Extent, FaultReason, MessageRole, StoredRepresentation
from pagekeeper.core.session import Session
from pagekeeper.memory.models import MemoryPage, StorageTier, TokenBudget
from pagekeeper.memory.page_view import mapped_of

NO_LIMIT_TOKENS: Final = 2**62
ELSEWHERE: Final = Extent("", 0, 0)
"""The extent of every page: its bytes are the application's."""


class OwnPages:
    """`eviction_policy` is a policy of the core by its name. `budget` follows whoever has these pages."""

    def __init__(self, budget: TokenBudget, eviction_policy: str) -> None:
        self._budget = budget
        self._resident: dict[str, MemoryPage] = {}
        self.folded = Session()
        self._fold(
            ev.SessionOpened(
                ev.SessionConfig(
                    max_l0_tokens=NO_LIMIT_TOKENS,
                    reserved_tokens=0,
                    eviction_threshold=1.0,
                    target_utilization=1.0,
                    eviction_policy=eviction_policy,
                )
            )
        )

    @property
    def turn(self) -> int:
        return self.folded.turn

    def begin_turn(self) -> None:
        self._fold(ev.TurnBegun())

    def resident_page(self, page_id: str) -> MemoryPage | None:
        return self._resident.get(page_id)

    def place(self, page: MemoryPage) -> bool:
        """Have the page in the working set, at its present size; False when the budget has no room for it.

        A page that was known by that size keeps its history: it is used again when it is there, and is faulted in when
        it had left.
        """
        page_id, size_tokens = page.page_id, page.estimate_tokens()
        resident = self.folded.working_set.get(page_id)
        if not self._budget.can_fit(size_tokens - (0 if resident is None else resident.size_tokens)):
            return False
        known = self.folded.page(page_id)
        if known is None or known.current.full.size_tokens != size_tokens:
            version = 1 if known is None else len(known.versions) + 1
            self._fold(ev.PagesMapped((_mapped(page, size_tokens, version),)))
        elif resident is not None:
            self._fold(ev.PagesUsed((page_id,)))
        else:
            back = ev.PageAdmitted(page_id, known.current_version, 0, FaultReason.RESOLVE_REFERENCE, prefetched=True)
            self._fold(back)
        self._resident[page_id] = page
        page.storage_tier = StorageTier.L0
        page.mark_accessed()
        return True

    def release(self, page_ids: Sequence[str]) -> None:
        """Have these pages leave the working set, pinned or not. No event says so, for want of a log to keep it."""
        for page_id in page_ids:
            self.folded.working_set.remove(page_id)
            self._resident.pop(page_id, None)

    def pin_page(self, page_id: str) -> None:
        """Raises PageNotFound."""
        self._fold(decisions.pin(self.folded, [page_id]))

    def unpin_page(self, page_id: str) -> None:
        """Raises PageNotFound."""
        self._fold(decisions.unpin(self.folded, [page_id]))

    def set_importance(self, page_id: str, importance: float) -> None:
        """Raises PageNotFound."""
        self._fold(decisions.set_importance(self.folded, page_id, importance))

    def _fold(self, event: ev.Event | None) -> None:
        """Fold what was decided; None is a decision that nothing is to change."""
        if event is not None:
            revision = self.folded.revision + 1
            self.folded.apply(revision, decisions.transaction(self.folded, f"r{revision}", b"", 0, (event,)))


def _mapped(page: MemoryPage, size_tokens: int, version: int) -> ev.MappedPage:
    """The page's facts. What a user says begins no turn here, `new_turn` does: so it is a message like the model's."""
    mapped = mapped_of(page, StoredRepresentation(0, size_tokens, 0, b"", extent=ELSEWHERE))
    role = MessageRole.ASSISTANT if mapped.role is MessageRole.USER else mapped.role
    return mapped._replace(role=role, trust=TRUST_OF_ROLE[role], version=version)
