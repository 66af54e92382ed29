"""The line that stands for a page in a prompt.

Whoever counts a page's tokens and whoever prints it call this one function with the same facts, so what was counted is
what is sent. A line depends on nothing that can change while its version lives.
"""

from dataclasses import dataclass

from pagekeeper.core.packing import marks_of, prefix_of, render_line, render_media_line
from pagekeeper.core.pages import MediaDescription, MessageRole, Modality, PageType, TrustClass
from pagekeeper.core.previews import parted


@dataclass(frozen=True, slots=True)
class LineFacts:
    """What a line shows of a page beside its content. `page_type` is the type that the version was mapped as."""

    page_id: str
    modality: Modality
    page_type: PageType
    role: MessageRole
    trust: TrustClass
    media: MediaDescription | None


def page_line(facts: LineFacts, level: int, content: bytes, preview_mime_type: str = "") -> str:
    """The page's line at `level`, whose stored bytes are `content`; it ends with its only line break.

    A medium's full bytes are not text: its description stands for them. A preview is in no line.
    """
    prefix = prefix_of(facts.modality, facts.page_type, facts.role)
    marks = marks_of(prefix, facts.page_type, facts.role, facts.trust)
    if level == 0 and facts.media is not None:
        return render_media_line(prefix, facts.page_id, facts.media, marks=marks)
    text, _ = parted(content, preview_mime_type)
    return render_line(prefix, facts.page_id, level, text.decode(), marks=marks)
