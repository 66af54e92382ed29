"""A page to map, from what its writer says of it: the defaults and what is read from its words.

Facts that the session decides (the id of a page without one, version, trust, pins, tokens) are left open;
`decisions.map_pages` fills them in. A program's own memory and a stack's page table both map their pages from here.
"""

from collections.abc import Sequence
from typing import Final

from pagekeeper.core import events as ev
from pagekeeper.core.eviction import MESSAGE_ROLES
from pagekeeper.core.hints import make_hint
from pagekeeper.core.pages import (
    RECALL_LIKELIHOOD_PERCENT,
    TRUST_OF_ROLE,
    KeyValue,
    MediaDescription,
    MessageRole,
    Modality,
    PageLink,
    PageType,
    StoredRepresentation,
    TrustClass,
)
from pagekeeper.core.sentences import recall_likelihood_percent_of

IMPORTANCE: Final = 0.5
"""The importance, 0 to 1, of a page whose writer does not say."""
UNNAMED_TOOL: Final = "tool"
"""The speaker of a result that names its call and no tool."""
MIME_TYPE_OF: Final = {Modality.TEXT: "text/plain", Modality.STRUCTURED: "application/json"}
MIME_TYPE_OF_MEDIA: Final = "application/octet-stream"


def page_to_map(  # noqa: PLR0913 - a page's facts
    page_id: str,
    full: StoredRepresentation,
    text: str,
    *,
    modality: Modality = Modality.TEXT,
    page_type: PageType = PageType.TRANSCRIPT,
    role: MessageRole = MessageRole.USER,
    trust: TrustClass | None = None,
    hint: str | None = "",
    importance: float | None = None,
    pinned: bool = False,
    links: Sequence[PageLink] = (),
    mime_type: str = "",
    tool_name: str = "",
    tool_call_id: str = "",
    media: MediaDescription | None = None,
    metadata: Sequence[KeyValue] = (),
    speaker: str = "",
    said_unix_ms: int = 0,
) -> ev.MappedPage:
    """Return the page as the session's decisions take it.

    `text` is the content of a text or structured page, and empty of a medium, whose `media` says what it is.

    An empty `hint` is made from the page's words; None stands for words that no hint can be made of.

    `trust` may lower what the role is trusted with, never raise it. The speaker of a tool's result is the tool.
    """
    allowed = TRUST_OF_ROLE[role]
    return ev.MappedPage(
        page_id=page_id,
        version=0,
        modality=modality,
        page_type=page_type,
        role=role,
        trust=allowed if trust is None else min(allowed, trust),
        hint="" if hint is None else hint or make_hint(text, modality, media),
        importance=IMPORTANCE if importance is None else importance,
        pinned=pinned,
        full=full,
        links=tuple(links),
        mime_type=mime_type or MIME_TYPE_OF.get(modality, MIME_TYPE_OF_MEDIA),
        tool_name=tool_name,
        tool_call_id=tool_call_id,
        media=media,
        metadata=tuple(metadata),
        speaker=speaker_of(speaker, tool_name, tool_call_id),
        said_unix_ms=said_unix_ms,
        recall_likelihood_percent=_recall_likelihood(text, role, modality, page_type),
    )


def speaker_of(speaker: str, tool_name: str, tool_call_id: str) -> str:
    """The name that a page's line shows: what its writer says, else of a tool's result the tool."""
    return speaker or tool_name or (UNNAMED_TOOL if tool_call_id else "")


def _recall_likelihood(text: str, role: MessageRole, modality: Modality, page_type: PageType) -> int:
    """How likely a message is asked for, from its words. Nothing else is read."""
    is_message = role in MESSAGE_ROLES and modality is Modality.TEXT and page_type is PageType.TRANSCRIPT
    return recall_likelihood_percent_of(text) if is_message else RECALL_LIKELIHOOD_PERCENT
