"""Pages as a caller sends them, and pages as the log will have them.

A draft is everything about a page to map that the session has no say in: the fields of the request, and the defaults
of `pagekeeper.core.drafts`. Facts that depend on the session (the id of a page without one, version, trust, pins, and
the tokens of the page's line) are decided on the session, possibly several times.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from pagekeeper.core import events as ev
from pagekeeper.core.decisions import NewPage
from pagekeeper.core.drafts import MIME_TYPE_OF, page_to_map
from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import check_id
from pagekeeper.core.lines import facts_of_mapped, page_line
from pagekeeper.core.pages import (
    Extent,
    MediaDescription,
    MessageRole,
    Modality,
    PageLink,
    PageType,
    StoredRepresentation,
    TrustClass,
)
from pagekeeper.page_table.configuration import labels_of
from pagekeeper.runtime.codec import codec_of
from pagekeeper.runtime.tokens import Tokenizer
from pagekeeper.runtime.views import LINK_KIND_OF, MODALITY_OF, PAGE_TYPE_OF, ROLE_OF
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2

_MEDIA: Final = codec_of(MediaDescription)
_FILLED_IN: Final = frozenset({
    "page_id", "modality", "page_type", "role", "trust", "hint", "importance", "links", "mime_type", "media", "metadata"
})  # fmt: skip
"""Facts that a caller may leave out, or that mean something else here than there."""
_AS_SENT: Final = tuple(
    name for name in page_pb2.PageInput.DESCRIPTOR.fields_by_name if name in {*ev.MappedPage._fields} - _FILLED_IN
)
"""Facts that are mapped as the caller sent them: all others that both have."""


@dataclass(frozen=True, slots=True)
class Draft:
    mapped: ev.MappedPage
    new_version: bool
    content: bytes


def drafts_of(request: pb.AppendPagesRequest) -> list[Draft]:
    """Raises InvalidField, ContentTooLarge."""
    return [_draft(f"pages[{index}]", page) for index, page in enumerate(request.pages)]


def new_pages(drafts: Sequence[Draft], spilled: Mapping[int, Extent]) -> list[NewPage]:
    """The drafts, those that were spilled with their places instead of their bytes."""
    return [
        NewPage(
            draft.mapped._replace(full=replace(draft.mapped.full, inline=None, extent=spilled[index]))
            if index in spilled
            else draft.mapped,
            draft.new_version,
        )
        for index, draft in enumerate(drafts)
    ]


class LineTokens:
    """Tokens of the drafts' lines: of each id and trust that a page is decided to have, counted once."""

    def __init__(self, drafts: Sequence[Draft]) -> None:
        self._contents = {draft.mapped.full.digest: draft.content for draft in drafts}
        self._counted: dict[tuple[str, bytes, TrustClass, str], int] = {}

    def count(self, tokenizer: Tokenizer, mapped: ev.MappedPage, trust: TrustClass) -> int:
        """Tokens of the page's full line, should it be mapped with that trust."""
        page_id, digest = mapped.page_id, mapped.full.digest
        counted = self._counted.get((page_id, digest, trust, tokenizer.name))
        if counted is None:
            line = page_line(facts_of_mapped(mapped, trust), 0, self._contents[digest])
            counted = tokenizer.count(line)
            self._counted[page_id, digest, trust, tokenizer.name] = counted
        return counted


def _draft(where: str, page: page_pb2.PageInput) -> Draft:
    if page.new_version and not page.page_id:
        raise InvalidField(f"{where}.page_id", "must name the page that gets a new version")
    modality = MODALITY_OF.get(page.modality, Modality.TEXT)
    is_medium = modality not in MIME_TYPE_OF
    content = page.data if page.WhichOneof("content") == "data" else page.text.encode()
    media = _MEDIA.decode(page.media) if is_medium else None
    mapped = page_to_map(
        check_id(f"{where}.page_id", page.page_id) if page.page_id else "",
        StoredRepresentation(0, 0, len(content), sha256(content).digest(), inline=content),
        "" if is_medium else page.text,
        modality=modality,
        page_type=PAGE_TYPE_OF.get(page.page_type, PageType.TRANSCRIPT),
        role=ROLE_OF.get(page.role, MessageRole.USER),
        trust=TrustClass(page.trust) if page.trust else None,
        hint=page.hint,
        importance=page.importance if page.HasField("importance") else None,
        links=[page_link(f"{where}.links", link) for link in page.links],
        mime_type=page.mime_type,
        media=media,
        metadata=labels_of(page.metadata),
        **{name: getattr(page, name) for name in _AS_SENT},
    )
    return Draft(mapped, page.new_version, content)


def page_link(where: str, link: page_pb2.PageLink) -> PageLink:
    """Raises InvalidField."""
    kind = LINK_KIND_OF.get(link.kind)
    if kind is None:
        raise InvalidField(f"{where}.kind", "must be set")
    return PageLink(kind, link.target_page_id)
