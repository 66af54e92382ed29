"""The parts of a prompt, and its limits."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pagekeeper.core.effects import Pressure
from pagekeeper.core.events import PromptLayout, VMMode
from pagekeeper.core.manifest import ManifestLine, ManifestPolicies
from pagekeeper.core.prompt_section import PromptSection

DEVELOPER: Final = "developer"
USER: Final = "user"


@dataclass(frozen=True, slots=True)
class ChatParts:
    """The parts of a prompt.

    `context` is in the order in which it was said, `faulted` are the pages that came by a fault, `eviction_order`
    starts with the page that is missed least, `available` (lines of `layout`) with the most relevant page that is not
    resident. `user_input` are the user's last words; where a page holds them, `input_entry` is the page's line in a
    manifest and `input_attribution` says who said them and when. That page is in none of the other parts.
    `recalled` are pages that the user's words call for and that are not resident, in the conversation's order;
    `utility` says how relevant a page is, 0 to 1, by id, residents too.
    """

    session_id: str
    mode: VMMode
    layout: PromptLayout
    system_prompt: str
    context: PromptSection
    faulted: PromptSection
    eviction_order: Sequence[str]
    available: Sequence[ManifestLine]
    policies: ManifestPolicies
    pressure: Pressure
    user_input: str
    tools: Sequence[Mapping[str, Any]] = ()
    recalled: PromptSection = field(default_factory=PromptSection)
    utility: Mapping[str, float] = field(default_factory=dict)
    input_entry: ManifestLine | None = None
    input_attribution: str = ""
    instructions_role: str = DEVELOPER
    """The role of the message of instructions: `developer` for OpenAI, `system` for all others."""


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """All in tokens. The reserve stays free for the answer; frames are what a provider puts around messages.

    `recall_tokens_max` bounds what recalled pages take beside residents that all have their place.
    """

    budget_tokens: int
    reserve_tokens: int
    manifest_tokens_max: int
    tools_tokens: int
    recall_tokens_max: int = 0
    message_frame_tokens: int = 3
    reply_frame_tokens: int = 3
