"""The port of a replacement policy, and a policy's facts of a resident page.

A policy is a sort key: the page with the smallest key is evicted first. Keys are built from the session's own facts
(turns and references, no clock), so every replica orders alike. A key may add, multiply, divide and take square roots,
which every machine rounds alike; powers and logarithms of the mathematical library are not rounded alike.

The policies themselves stand in `pagekeeper.core.policies`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from pagekeeper.core.pages import RECALL_LIKELIHOOD_PERCENT, MessageRole, PageState, PageType
from pagekeeper.core.reuse_counts import Learning, SessionReuse
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
MESSAGE_ROLES: Final = frozenset({MessageRole.USER, MessageRole.ASSISTANT})


class Candidate(NamedTuple):
    """A resident page as a policy sees it. `position` is its place in admission order.

    What follows `turn` is the page's history as `pagekeeper.core.reuse_counts` counts it. `known_...` and `idle_...`
    count the session's re-uses and references since the page's first and last use. `gap_references` counts those
    between its last two uses (or another page's first two), `first_reference` those up to its first use, and
    `scan_references` those since any page was used again. `residents` is the number of resident pages, `kind_share` the
    share of pages of this kind that are used again, and `periodicity` that of the session. `is_message` when user or
    model said the page in their turn. `recall_likelihood_percent` is how likely its words are asked for.
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
    periodicity: float = 0.0
    is_message: bool = False
    recall_likelihood_percent: int = RECALL_LIKELIHOOD_PERCENT
    scan_references: int = 0
    residents: int = 1
    known_references: int = 0
    fault_count: int = 0


SortKey = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ReplacementPolicy:
    """A named order of eviction, how it learns, and where a batch of evictions ends.

    `fold_version` is that of the rules that the policy came with. A batch frees what has to be freed, and goes on to
    the low watermark. With a `batch_value_ratio` it ends earlier: before a page that was used again, if the first
    number of its key is at least that many times the one of the last page that had to go.
    """

    name: str
    key: Callable[[Candidate], SortKey]
    learning: Learning
    fold_version: int
    batch_value_ratio: float | None = None


def candidate(
    page: PageState,
    resident: Resident,
    position: int,
    turn: int,
    session: SessionReuse,
    kind_share: float,
    residents: int,
) -> Candidate:
    """Return a resident page in `turn`, one of `residents`, as a policy sees it."""
    reuse = page.reuse
    # By position: by name it takes three times as long, and all residents are ranked in each eviction.
    return Candidate(
        page.page_id,
        page.page_type,
        page.importance,
        resident.size_tokens,
        page.last_used_turn,
        position,
        turn,
        reuse.count,
        session.reuses - reuse.first_reuse,
        session.reuses - reuse.last_reuse,
        session.references - reuse.last_reference,
        reuse.gap_references or session.gap_references,
        reuse.first_reference,
        kind_share,
        session.periodicity,
        page.page_type is PageType.TRANSCRIPT and page.role in MESSAGE_ROLES,
        page.recall_likelihood_percent,
        session.references - session.last_reuse_reference,
        residents,
        session.references - reuse.first_reference,
        page.fault_count,
    )
