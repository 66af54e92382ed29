"""The line that stands for a page in a prompt, made of the page's facts and its content.

Whoever counts a page's tokens and whoever prints the page call `page_line` with the same facts, so what was counted is
what is sent. A line depends on nothing that can change while its version lives. How a line is written and read back is
`packing`'s business.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Final, NamedTuple

from pagekeeper.core.escape import has_later_escape
from pagekeeper.core.events import MappedPage
from pagekeeper.core.packing import attribution_of, marks_of, prefix_of, render_line, render_media_line
from pagekeeper.core.pages import MediaDescription, MessageRole, Modality, PageState, PageType, TrustClass, Version
from pagekeeper.core.previews import parted


class LineFacts(NamedTuple):
    """The facts of a page in its line, beside the content.

    A fact has one name wherever it is kept: in `MappedPage`, in `PageState` or `Version`, and in the API's `Page`. So a
    fact that is added here is read from all of them, and a test says so when one of them has it not.
    """

    page_id: str
    modality: Modality
    mapped_type: PageType
    """The type that the version was mapped as: an annotation changes the page's type, not this."""
    role: MessageRole
    trust: TrustClass
    media: MediaDescription | None
    speaker: str = ""
    tool_call_id: str = ""
    """Shown beside a speaker alone: pages that were mapped before there were speakers were counted without a call."""
    said_unix_ms: int = 0


_PLACES: Final = [(name, name in Version._fields) for name in LineFacts._fields]
"""The facts, and of each whether a version or its page keeps it."""
_OF_MAPPED: Final = attrgetter(*LineFacts._fields)


def facts_of_mapped(page: MappedPage, trust: TrustClass) -> LineFacts:
    """Facts of a page that is about to be mapped with the trust that its session decided."""
    return LineFacts._make(_OF_MAPPED(page))._replace(trust=trust)


def facts_of_version(page: PageState, version: Version) -> LineFacts:
    """Facts of one version of a page."""
    return LineFacts._make([getattr(version if of_version else page, name) for name, of_version in _PLACES])


def page_line(facts: LineFacts, level: int, content: bytes, preview_mime_type: str = "") -> str:
    """The page's line at `level`, whose stored bytes are `content`; it ends with its only line break.

    The description of a medium stands for its full bytes, which are no text. A preview is in no line.
    """
    prefix = prefix_of(facts.modality, facts.mapped_type, facts.role)
    marks = marks_of(prefix, facts.mapped_type, facts.role, facts.trust)
    attribution = attribution_of(facts.speaker, facts.tool_call_id, facts.said_unix_ms)
    if level == 0 and facts.media is not None:
        return render_media_line(prefix, facts.page_id, facts.media, attribution=attribution, marks=marks)
    text, _ = parted(content, preview_mime_type)
    return render_line(prefix, facts.page_id, level, text.decode(), attribution=attribution, marks=marks)


def line_tokens(line: str, counted_tokens: int, count: Callable[[str], int]) -> int:
    """The tokens of a page's line, which were `counted_tokens` when the page was mapped.

    A line with an escape that earlier releases did not write is counted again: one of them may have mapped the page.
    """
    return count(line) if has_later_escape(line) else counted_tokens
