"""Providers' counts of assembled prompts, and the margin that follows from the counts.

A model whose tokenizer is not known is counted with another one and a stated margin. Its provider's usage figures say
how far off that was for this very session's text. The margin is never below the largest excess that was seen, so no
report can make a prompt fit that would not have.
"""

from dataclasses import dataclass
from typing import Final

REPORTS_TO_SHRINK: Final = 8
"""Reports before a margin comes down: a conversation's first prompts are mostly its rules."""
HEADROOM_PERCENT: Final = 10
"""What a prompt may exceed the worst one seen by, in percent of its tokens: the next pages may be of another script."""


@dataclass(frozen=True, slots=True)
class ProviderUsage:
    """Of all reports for a family of models: how many were written, and the one whose input exceeds the count most."""

    family: str
    reports: int
    counted_tokens: int
    input_tokens: int

    @property
    def worst_percent(self) -> int:
        """Rounded up."""
        return -(-self.input_tokens * 100 // self.counted_tokens)


def with_report(known: ProviderUsage | None, family: str, counted_tokens: int, input_tokens: int) -> ProviderUsage:
    if known is None:
        return ProviderUsage(family, 1, counted_tokens, input_tokens)
    if input_tokens * known.counted_tokens <= known.input_tokens * counted_tokens:
        counted_tokens, input_tokens = known.counted_tokens, known.input_tokens
    return ProviderUsage(family, known.reports + 1, counted_tokens, input_tokens)


def teaches(known: ProviderUsage | None, counted_tokens: int, input_tokens: int) -> bool:
    """Whether a report would change any margin."""
    if known is None or known.reports < REPORTS_TO_SHRINK:
        return True
    return input_tokens * known.counted_tokens > known.input_tokens * counted_tokens


def corrected_percent(stated_percent: int, known: ProviderUsage | None) -> int:
    """The margin to keep, in percent of the count.

    What exceeds the stated margin widens it at once. After REPORTS_TO_SHRINK reports it comes down to what was seen and
    HEADROOM_PERCENT, and gives up half of what was stated above 100 at most. A count that is exact stays so until a
    report exceeds it.
    """
    if known is None:
        return stated_percent
    with_headroom = known.worst_percent + HEADROOM_PERCENT
    if known.worst_percent > stated_percent:
        return with_headroom
    if known.reports < REPORTS_TO_SHRINK:
        return stated_percent
    half_percent = 100 + (stated_percent - 100 + 1) // 2
    return min(stated_percent, max(with_headroom, half_percent))
