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
from pagekeeper.core.hints import make_hint
from pagekeeper.core.ids import check_id
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
from pagekeeper.runtime.pool import HERE_BYTES_MAX, Pool
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


def drafts_of(request: pb.AppendPagesRequest, hints: Sequence[str | None]) -> list[Draft]:
    """The pages with these hints, as `page_to_map` takes them. Raises InvalidField, ContentTooLarge."""
    return [
        _draft(f"pages[{index}]", page, hint)
        for index, (page, hint) in enumerate(zip(request.pages, hints, strict=True))
    ]


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


def hints_of(pages: Sequence[tuple[str, Modality, MediaDescription | None]]) -> list[str]:
    """Hints of pages, from their texts or from what is said of media."""
    return [make_hint(text, modality, media) for text, modality, media in pages]


async def hinted(pool: Pool, tenant: str, request: pb.AppendPagesRequest) -> Sequence[str | None]:
    """The hints of the pages: as their writer says, else made in the pool; empty in a small request, to be made."""
    if content_bytes(request) <= HERE_BYTES_MAX:
        return [page.hint for page in request.pages]
    made = await pool.run(tenant, hints_of, [_to_hint(page) for page in request.pages])
    return [page.hint or hint or None for page, hint in zip(request.pages, made, strict=True)]


def content_bytes(request: pb.AppendPagesRequest) -> int:
    """Characters and bytes of what a request's pages say."""
    return sum(
        len(page.text) + len(page.data) + (page.media.ByteSize() if page.HasField("media") else 0)
        for page in request.pages
    )


def _to_hint(page: page_pb2.PageInput) -> tuple[str, Modality, MediaDescription | None]:
    """Nothing of a page whose writer gave it a hint."""
    modality = MODALITY_OF.get(page.modality, Modality.TEXT)
    if page.hint:
        return "", Modality.TEXT, None
    return (page.text, modality, None) if modality in MIME_TYPE_OF else ("", modality, _MEDIA.decode(page.media))


def _draft(where: str, page: page_pb2.PageInput, hint: str | None) -> Draft:
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
        hint=hint,
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
