"""How pages are used again, as far as it tells which will be.

Two counters stand in for time: references (every use of any page) and re-uses (all but a page's first). What is known
of a page outlives its residency: it is the ghost list that caches keep of what they evicted, whole.
"""

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

LIKE_THE_LAST: Final = 0.2
"""A page comes back in rhythm when the gap since its last use differs from the one before by at most this share."""
RHYTHM_KEPT: Final = 0.8
"""How much of what was thought of the session's rhythm one more gap leaves."""
RHYTHM_KEPT_BY_NEW: Final = 0.88
"""The same of a page that was not known: a sweep is no loop, whatever came before it."""
KIND_PRIOR: Final = 0.1
KIND_PRIOR_SHARE: Final = 0.5
"""Before anything is known of its kind, every other page is used again; that counts as a tenth of a page seen."""
SIZE_PRIOR: Final = 50.0
"""Pages of a kind count as so many of each size."""


class PageReuse(NamedTuple):
    """Of one page. `first_...` and `last_...` are what the session had counted when it was used first and last."""

    count: int = 0  # type: ignore[assignment] # hides the tuple's method of that name, which nobody calls
    first_reuse: int = 0
    last_reuse: int = 0
    last_reference: int = 0
    gap_references: int = 0
    first_reference: int = 0


@dataclass(slots=True)
class SessionReuse:
    """Of all pages together. `rhythm` says from 0 to 1 how often pages come back when they are due, as in a loop,
    `gap_references` after how many references the last page that was used a second time was, and `last_reuse_reference`
    how many references there were at the last re-use: what came since is a run of new pages.
    """

    references: int = 0
    reuses: int = 0
    gap_references: int = 0
    rhythm: float = 0.0
    last_reuse_reference: int = 0

    def first(self) -> PageReuse:
        """A page that was not known before is used."""
        self.references += 1
        self.rhythm *= RHYTHM_KEPT_BY_NEW
        return PageReuse(
            first_reuse=self.reuses,
            last_reuse=self.reuses,
            first_reference=self.references,
            last_reference=self.references,
        )

    def again(self, page: PageReuse) -> PageReuse:
        """A page that was known before is used."""
        self.references += 1
        self.reuses += 1
        gap = self.references - page.last_reference
        expected = page.gap_references or self.gap_references
        in_rhythm = expected > 0 and abs(gap - expected) <= LIKE_THE_LAST * expected + 1
        self.rhythm = RHYTHM_KEPT * self.rhythm + (1 - RHYTHM_KEPT if in_rhythm else 0.0)
        self.last_reuse_reference = self.references
        if not page.count:
            self.gap_references = gap
        return page._replace(
            count=page.count + 1,
            last_reuse=self.reuses,
            last_reference=self.references,
            gap_references=gap,
        )


@dataclass(slots=True)
class KindCounts:
    """How many pages of a kind there are, and how many of them were used again. Computed from the pages."""

    _seen: Counter[Hashable] = field(default_factory=Counter)
    _reused: Counter[Hashable] = field(default_factory=Counter)

    def add(self, kind: Hashable, size_tokens: int, reuse: PageReuse) -> None:
        for key in (kind, _sized(kind, size_tokens)):
            self._seen[key] += 1
            self._reused[key] += reuse.count > 0

    def remove(self, kind: Hashable, size_tokens: int, reuse: PageReuse) -> None:
        """What `add` added: the page is of another kind from here on."""
        for key in (kind, _sized(kind, size_tokens)):
            self._seen[key] -= 1
            self._reused[key] -= reuse.count > 0

    def reused(self, kind: Hashable, size_tokens: int) -> None:
        """A page that was added is used again, for the first time."""
        for key in (kind, _sized(kind, size_tokens)):
            self._reused[key] += 1

    def share(self, kind: Hashable, size_tokens: int) -> float:
        """How likely a page of that kind and about that size is used again, above 0 and below 1."""
        sized = _sized(kind, size_tokens)
        of_kind = (self._reused[kind] + KIND_PRIOR * KIND_PRIOR_SHARE) / (self._seen[kind] + KIND_PRIOR)
        return (self._reused[sized] + SIZE_PRIOR * of_kind) / (self._seen[sized] + SIZE_PRIOR)


def _sized(kind: Hashable, size_tokens: int) -> Hashable:
    """A kind's pages by powers of two of their first size."""
    return (kind, size_tokens.bit_length())
