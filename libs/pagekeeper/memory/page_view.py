"""How the core is shown an application's page: who speaks in it, what it says, and its line in a prompt.

A page without content has no line: an empty one would tell a model that nothing was said there.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Final

from pagekeeper.core.drafts import page_to_map, speaker_of
from pagekeeper.core.events import MappedPage
from pagekeeper.core.packing import (
    SAID_UNIX_MS_MAX,
    attribution_of,
    marks_of,
    prefix_of,
    render_line,
    render_media_line,
)
from pagekeeper.core.pages import (
    TRUST_OF_ROLE,
    CompressionLevel,
    KeyValue,
    MediaDescription,
    MessageRole,
    Modality,
    PageLink,
    PageType,
    StoredRepresentation,
    TrustClass,
)
from pagekeeper.core.wellformed import whole_text
from pagekeeper.memory.models.page import MEDIA, MemoryPage

ROLE: Final = "role"
"""The metadata key of who speaks."""
LINKS: Final = ("http://", "https://", "data:")
"""Content of a medium that begins like this is where its bytes are, and nothing to read."""

# What would end a header, or hide in one. Ids are the application's, and may hold text from anywhere.
_NOT_IN_HEADERS: Final = re.compile(r"""[^\w.:/@+=~!#$%&*,;-]""")


def role_of(page: MemoryPage) -> MessageRole | None:
    """Return the speaker's role by the page's metadata; None when the metadata has none."""
    role = page.metadata.get(ROLE)
    return MessageRole(role) if role in tuple(MessageRole) else None


def page_type_of(page: MemoryPage) -> PageType:
    """The page's type; what an ordinary page's metadata says of it comes before that."""
    named = page.metadata.get("type")
    return PageType(named) if page.page_type is PageType.TRANSCRIPT and named in tuple(PageType) else page.page_type


def content_text(page: MemoryPage) -> str | None:
    """The content as text, JSON for data; None when there is none, or only where to find it."""
    content = page.content
    if isinstance(content, bytes):
        return None if page.modality in MEDIA else content.decode("utf-8", "replace")
    if isinstance(content, str):
        return None if page.modality in MEDIA and content.startswith(LINKS) else content
    return None if content is None else json.dumps(content, ensure_ascii=False, default=str)


def description_of(page: MemoryPage) -> MediaDescription:
    """Return the description of a medium; text in place of its bytes is its caption or, of sound, its transcript."""
    known = page.media_description()
    text = content_text(page) or ""
    sound = page.modality is Modality.AUDIO
    scene_count = page.metadata.get("scene_count")
    said = (
        known.caption or ("" if sound else text),
        str(page.metadata.get("topic") or ""),
        f"{scene_count} scenes" if isinstance(scene_count, int) and not known.scenes else "",
    )
    return MediaDescription(
        caption=", ".join(filter(None, said)),
        transcript=known.transcript or (text if sound else ""),
        width=known.width,
        height=known.height,
        duration_seconds=known.duration_seconds,
        scenes=known.scenes,
    )


def mapped_of(
    page: MemoryPage,
    full: StoredRepresentation,
    *,
    hint: str = "",
    links: Sequence[PageLink] = (),
    tool_name: str | None = None,
) -> MappedPage:
    """The page as the core maps it, `full` being its content; a page that names no role is the model's.

    `tool_name` comes before the metadata's.
    """
    media = description_of(page) if page.modality in MEDIA else None
    return page_to_map(
        page.page_id,
        full,
        whole_text(content_text(page) or "") if media is None else "",
        modality=page.modality,
        page_type=page_type_of(page),
        role=role_of(page) or MessageRole.ASSISTANT,
        hint=hint,
        importance=page.importance,
        pinned=page.pinned,
        links=links,
        mime_type=page.mime_type or "",
        tool_name=said_of(page, "tool_name") if tool_name is None else tool_name,
        tool_call_id=said_of(page, "tool_call_id"),
        speaker=said_of(page, "speaker"),
        said_unix_ms=said_unix_ms_of(page.metadata),
        media=media,
        metadata=_pairs(page.metadata),
    )


def readable_text(page: MemoryPage) -> str:
    """All words that a page has, for finding it."""
    if page.modality not in MEDIA:
        return content_text(page) or ""
    known = description_of(page)
    words = (known.caption, *known.scenes, known.transcript, content_text(page) or "")
    return "\n".join(dict.fromkeys(filter(None, words)))


def line_of(page: MemoryPage, chars_max: int | None = None) -> str | None:
    """The page as one line of a prompt, with its line break; None when its content is not at hand.

    With `chars_max`, longer text is cut there, and the line says how much is missing.
    """
    role, page_type = role_of(page), page_type_of(page)
    prefix = prefix_of(page.modality, page_type, role)
    trust = TrustClass.MODEL if role is None else TRUST_OF_ROLE[role]
    marks = marks_of(prefix, page_type, role, trust)
    page_id = _shown_id(page.page_id)
    call_id = said_of(page, "tool_call_id")
    speaker = speaker_of(said_of(page, "speaker"), said_of(page, "tool_name"), call_id)
    attribution = attribution_of(speaker, call_id, said_unix_ms_of(page.metadata))
    text = content_text(page)
    if page.modality in MEDIA and (text is None or page.compression_level is CompressionLevel.FULL):
        return render_media_line(prefix, page_id, description_of(page), attribution=attribution, marks=marks)
    if text is None:
        return None
    return render_line(
        prefix, page_id, page.compression_level, text, attribution=attribution, marks=marks, chars_max=chars_max
    )


def said_of(page: MemoryPage, name: str) -> str:
    """A fact that a page's metadata has by this name; empty when it has none."""
    return str(page.metadata.get(name) or "")


def said_unix_ms_of(metadata: Mapping[str, object]) -> int:
    """When something was said, in milliseconds since 1970, by metadata `said_unix_ms`; 0 for no such whole number."""
    said = str(metadata.get("said_unix_ms") or "")
    return min(int(said), SAID_UNIX_MS_MAX) if said.isascii() and said.isdecimal() else 0


def _pairs(metadata: Mapping[str, object]) -> tuple[KeyValue, ...]:
    """As the log has it: texts, sorted by key; who speaks is a fact of its own."""
    named = {whole_text(str(key)): whole_text(str(value)) for key, value in metadata.items()}
    return tuple(KeyValue(key, named[key]) for key in sorted(named) if key != ROLE and named[key])


def _shown_id(page_id: str) -> str:
    return _NOT_IN_HEADERS.sub(lambda match: f"\\u{{{ord(match[0]):X}}}", page_id)
