"""Which pages of a session its search index has wrong, and what the index is to say of each.

An index is derived from a session's current versions. `IndexUpkeep` holds it beside the revision that it answers for;
`due` lists what to index since, and `put` indexes one of these once its text was read, wherever its bytes lie.

Invariant: after `due`, a `put` for each of its answers and `reach`, the index says what the session says.
"""

from dataclasses import dataclass

from pagekeeper.core.compress.media import DECODED, UNDECODABLE
from pagekeeper.core.embedding import Embedder
from pagekeeper.core.pages import (
    CompressionLevel,
    MediaDescription,
    MessageRole,
    Modality,
    PageState,
    PageType,
    StoredRepresentation,
)
from pagekeeper.core.previews import parted
from pagekeeper.core.search import SessionIndex
from pagekeeper.core.session import Session


@dataclass(frozen=True, slots=True)
class IndexedFacts:
    """An indexed page's facts beside its text; a page whose facts changed is indexed again."""

    version: int
    hint: str
    page_type: PageType
    decoded: bool
    """Whether a medium has told what it says itself."""


@dataclass(frozen=True, slots=True)
class PageToIndex:
    """A page to index: the text that is known without reading, and the representation whose bytes hold more of it."""

    page_id: str
    facts: IndexedFacts
    modality: Modality
    role: MessageRole
    turn: int
    tool_call_id: str
    text: str
    stored: StoredRepresentation | None

    @property
    def to_read_bytes(self) -> int:
        return self.stored.size_bytes if self.stored else len(self.text)


class IndexUpkeep:
    """The index of one session at `revision`."""

    def __init__(self, embedder: Embedder) -> None:
        self.index = SessionIndex(embedder)
        self.revision = 0
        self.indexed: dict[str, IndexedFacts] = {}
        self.size_bytes = 0

    def due(self, session: Session) -> list[PageToIndex]:
        """The pages to index; those that the session has no more leave the index here."""
        if self.revision == session.revision:
            return []
        found = []
        for page_id in self._changed(session):
            page = session.page(page_id)
            if page is None:
                if self.indexed.pop(page_id, None) is not None:
                    self.index.remove(page_id)
            elif self.indexed.get(page_id) != _facts(page):
                found.append(_to_index(page))
        return found

    def put(self, page: PageToIndex, read: str) -> None:
        """Index a page; `read` is the text of the bytes at `page.stored`, empty when there is none."""
        self.index.replace(
            page.page_id,
            _both(page.text, read),
            page.facts.hint,
            modality=page.modality,
            page_type=page.facts.page_type,
            role=page.role,
            turn=page.turn,
            tool_call_id=page.tool_call_id,
        )
        self.indexed[page.page_id] = page.facts

    def reach(self, revision: int) -> None:
        """All that was due at `revision` is indexed."""
        if self.revision != revision:
            self.revision = revision
            self.size_bytes = self.index.size_bytes

    def _changed(self, session: Session) -> list[str]:
        """Pages that the index may have wrong."""
        changed = session.changes.since(self.revision) if self.revision else None
        return changed if changed is not None else list({**self.indexed, **session.pages})


def text_of(content: bytes, stored: StoredRepresentation) -> str:
    text, _ = parted(content, stored.preview_mime_type)
    return text.decode()


def _facts(page: PageState) -> IndexedFacts:
    return IndexedFacts(page.current_version, page.hint, page.page_type, _decoded(page) is not None)


def _decoded(page: PageState) -> StoredRepresentation | None:
    """The level that has what a medium's bytes say, if they were decoded and may say more than its description."""
    version = page.current
    if version.media is None or not version.full.size_bytes:
        return None
    level = version.at(CompressionLevel.REDUCED)
    described = page.modality is Modality.IMAGE and version.media.caption
    nothing_more = (DECODED, UNDECODABLE) if described else (UNDECODABLE,)
    return None if level is None or level.compressor in nothing_more else level


def _to_index(page: PageState) -> PageToIndex:
    version = page.current
    text, stored = "", None
    more: StoredRepresentation | None = version.full
    if version.media is not None:
        text = _description(version.media)
        more = _decoded(page)
    if more is not None and more.inline is not None:
        text = _both(text, text_of(more.inline, more))
    else:
        stored = more
    facts, turn = _facts(page), version.turn
    return PageToIndex(page.page_id, facts, page.modality, page.role, turn, page.tool_call_id, text, stored)


def _both(description: str, text: str) -> str:
    """Return the union of both, without duplicates."""
    if not description or not text:
        return description or text
    return "\n".join(dict.fromkeys(f"{description}\n{text}".splitlines()))


def _description(media: MediaDescription) -> str:
    return "\n".join(dict.fromkeys(filter(None, (media.caption, media.transcript, *media.scenes))))
