"""The bounds of a prompt, what of it the model is told about faults, and the line of a page that it offers."""

from collections.abc import Callable
from typing import Final

from pagekeeper.core.chat_parts import ChatLimits
from pagekeeper.core.events import PromptLayout, SessionConfig, VMMode
from pagekeeper.core.manifest import AvailablePageEntry, ManifestLine, ManifestPolicies, available_line
from pagekeeper.core.pages import PageState, StorageTier

MANIFEST_TOKENS_MAX: Final = 1_024
MANIFEST_SHARE: Final = 8
"""The manifest takes at most this fraction of a small budget."""
AVAILABLE_PAGES_MAX: Final = 48


def chat_limits(
    countable_tokens: int, *, tools_tokens: int, message_frame_tokens: int, reply_frame_tokens: int
) -> ChatLimits:
    """The limits of a request of `countable_tokens`, the reserve for the answer already taken off."""
    return ChatLimits(
        budget_tokens=countable_tokens,
        reserve_tokens=0,
        manifest_tokens_max=min(MANIFEST_TOKENS_MAX, countable_tokens // MANIFEST_SHARE),
        tools_tokens=tools_tokens,
        message_frame_tokens=message_frame_tokens,
        reply_frame_tokens=reply_frame_tokens,
    )


def fault_policies(
    config: SessionConfig, mode: VMMode, *, faults_this_turn: int, fault_tokens_this_turn: int
) -> ManifestPolicies:
    """Tokens that the turn's faults may still bring."""
    return ManifestPolicies(
        faults_allowed=mode is not VMMode.PASSIVE,
        max_faults_per_turn=config.max_faults_per_turn,
        faults_remaining=max(0, config.max_faults_per_turn - faults_this_turn),
        upgrade_budget_tokens=max(0, config.max_fault_tokens_per_turn - fault_tokens_this_turn),
    )


def offered_line(page: PageState, tier: StorageTier, layout: PromptLayout, count: Callable[[str], int]) -> ManifestLine:
    """The manifest's line of a page that the prompt does not show."""
    levels = tuple(representation.level for representation in page.current.representations)
    entry = AvailablePageEntry(page.page_id, page.modality, tier, levels, page.hint)
    return available_line(entry, layout, count)
