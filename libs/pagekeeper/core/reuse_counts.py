"""How often and when pages are used again, counted by the fold for the replacement policies.

Two counters stand in for time: references (every use of any page) and re-uses (every use but a page's first). The
counts of a page outlive its residency. A cache that does the same with what it evicted calls it a ghost list.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

KIND_PRIOR_SHARE: Final = 0.5
"""Share of a kind's pages that are used again, before any page of the kind was seen."""


@dataclass(frozen=True, slots=True)
class Learning:
    """Constants by which a policy learns. They are part of the policy's version.

    A re-use makes the session's periodicity `periodicity_kept * periodicity + (1 - periodicity_kept) * likeness`, where
    the likeness of its gap to the expected one is the smaller over the larger. Earlier policies take 1 for a gap within
    `gap_tolerance` of the expected one, and 0 otherwise. A first use makes it `periodicity_kept_by_new * periodicity`,
    so that a scan does not look periodic. The gap that is expected of a page without one is that of any page, or of
    `second_uses_alone`.

    The prior of a kind's share counts as `kind_prior` pages, and that of a kind's pages of one size as `size_prior`.
    """

    periodicity_kept: float
    periodicity_kept_by_new: float
    second_uses_alone: bool
    kind_prior: float
    size_prior: float
    by_likeness: bool = False
    gap_tolerance: float = 0.2

    def likeness(self, gap: int, expected: int) -> float:
        """From 0 to 1: how much a page's gap since its last use is like the expected one, which is 0 when unknown."""
        if not expected:
            return 0.0
        if self.by_likeness:
            return gap / expected if gap < expected else expected / gap
        return float(abs(gap - expected) <= self.gap_tolerance * expected + 1)


class PageReuse(NamedTuple):
    """Counts of one page: `count` re-uses, and what the session had counted at the page's first and last use."""

    count: int = 0  # type: ignore[assignment] # hides the tuple's method of that name, which nobody calls
    first_reuse: int = 0
    last_reuse: int = 0
    last_reference: int = 0
    gap_references: int = 0
    first_reference: int = 0


@dataclass(slots=True)
class SessionReuse:
    """Counts of all pages of a session together.

    `periodicity` says from 0 to 1 how alike the gaps between uses are, as in a loop. `gap_references` is the
    gap that is expected of a page without one of its own. `last_reuse_reference` is the number of references at the
    last re-use: the references since then are a scan.
    """

    references: int = 0
    reuses: int = 0
    gap_references: int = 0
    periodicity: float = 0.0
    last_reuse_reference: int = 0

    def first(self, learning: Learning) -> PageReuse:
        """Count the first use of a page."""
        self.references += 1
        self.periodicity *= learning.periodicity_kept_by_new
        return PageReuse(
            first_reuse=self.reuses,
            last_reuse=self.reuses,
            first_reference=self.references,
            last_reference=self.references,
        )

    def again(self, page: PageReuse, learning: Learning) -> PageReuse:
        """Count a later use of a page, and return the page's counts with it."""
        self.references += 1
        self.reuses += 1
        gap = self.references - page.last_reference
        likeness = learning.likeness(gap, page.gap_references or self.gap_references)
        kept = learning.periodicity_kept
        self.periodicity = kept * self.periodicity + (1 - kept) * likeness
        self.last_reuse_reference = self.references
        if not page.count or not learning.second_uses_alone:
            self.gap_references = gap
        return page._replace(
            count=page.count + 1,
            last_reuse=self.reuses,
            last_reference=self.references,
            gap_references=gap,
        )


@dataclass(slots=True)
class KindCounts:
    """How many pages of each kind there are, and how many of them were used again. Computed from the pages."""

    _seen: Counter[Hashable] = field(default_factory=Counter)
    _reused: Counter[Hashable] = field(default_factory=Counter)

    def add(self, kind: Hashable, size_tokens: int, reuse: PageReuse) -> None:
        for key in (kind, _sized(kind, size_tokens)):
            self._seen[key] += 1
            self._reused[key] += reuse.count > 0

    def remove(self, kind: Hashable, size_tokens: int, reuse: PageReuse) -> None:
        """Take back what `add` added: the page is of another kind from here on."""
        for key in (kind, _sized(kind, size_tokens)):
            self._seen[key] -= 1
            self._reused[key] -= reuse.count > 0

    def reused(self, kind: Hashable, size_tokens: int) -> None:
        """Count the first re-use of a page that was added."""
        for key in (kind, _sized(kind, size_tokens)):
            self._reused[key] += 1

    def share(self, kind: Hashable, size_tokens: int, learning: Learning) -> float:
        """Return how likely a page of that kind and about that size is used again, above 0 and below 1."""
        sized = _sized(kind, size_tokens)
        prior, size_prior = learning.kind_prior, learning.size_prior
        of_kind = (self._reused[kind] + prior * KIND_PRIOR_SHARE) / (self._seen[kind] + prior)
        return (self._reused[sized] + size_prior * of_kind) / (self._seen[sized] + size_prior)


def _sized(kind: Hashable, size_tokens: int) -> Hashable:
    """A kind's pages by powers of two of their first size."""
    return (kind, size_tokens.bit_length())
