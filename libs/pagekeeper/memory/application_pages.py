"""An application's pages and the core's, each from the other.

The core knows of a page what decisions read, and its content as bytes. What an application says beside that (values in
its metadata, the pages that justify one, whether a content was data) is kept here by page id, as JSON has it.
"""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from pagekeeper.core.compress.compressor import Compressed
from pagekeeper.core.compress.registry import LOWER_LEVELS
from pagekeeper.core.decisions import NewPage
from pagekeeper.core.ids import check_id
from pagekeeper.core.pages import CompressionLevel, LinkKind, MediaDescription, PageLink, PageState
from pagekeeper.core.session import Session
from pagekeeper.core.wellformed import whole_text
from pagekeeper.memory.compressor import CompressorRegistry
from pagekeeper.memory.models import MemoryPage
from pagekeeper.memory.models.page import MEDIA
from pagekeeper.memory.page_view import ROLE, content_text, mapped_of, role_of
from pagekeeper.memory.process_session import ProcessSession

DATA: Final = "data"
"""How a content is read back: JSON values are `data`."""


class ApplicationPages:
    """`beside` is what is said of pages beside what the core knows, by page id."""

    def __init__(self, process: ProcessSession) -> None:
        self._process = process
        self.beside: dict[str, dict[str, Any]] = {}

    def new(self, page: MemoryPage, *, hint: str = "", replaces: bool = False, tool_name: str | None = None) -> NewPage:
        """The page as the core is to map it. Raises InvalidField."""
        session, full = self._process.session, page.full
        if page.page_id:
            check_id("page_id", page.page_id)
        own_bytes = full.modality in MEDIA and isinstance(full.content, bytes)
        content = full.content if own_bytes else whole_text(content_text(full) or "").encode()
        links = [
            PageLink(LinkKind.DERIVED_FROM, parent)
            for parent in dict.fromkeys(full.provenance)
            if session.page(parent) is not None
        ]
        mapped = mapped_of(full, self._process.log.stored(content), hint=hint, links=links, tool_name=tool_name)
        return NewPage(mapped._replace(pinned=page.pinned), replaces)

    def note(self, page_id: str, page: MemoryPage) -> None:
        """Keep what the core does not know of a page that it has mapped."""
        full = page.full
        said: dict[str, Any] = {}
        if role_of(full) is None:
            said[ROLE] = full.metadata.get(ROLE)
        if any(not isinstance(value, str) for value in full.metadata.values()):
            said["metadata"] = dict(full.metadata)
        if full.provenance:
            said["provenance"] = list(full.provenance)
        if not isinstance(full.content, str | bytes):
            said[DATA] = full.content is not None
        if full.represents is not None:
            said["represents"] = full.represents
        if full.modality in MEDIA and isinstance(full.content, str):
            said["content"] = full.content
        if said:
            self.beside[page_id] = said

    def page(self, page_id: str, level: int | None = None) -> MemoryPage | None:
        """The page as an application holds it, at a level: the one that is resident, or full. None when not mapped."""
        state = self._process.session.page(page_id)
        return None if state is None else self.of_state(state, level)

    def of_state(self, state: PageState, level: int | None = None) -> MemoryPage:
        session = self._process.session
        resident = session.working_set.get(state.page_id)
        shown = level if level is not None else resident.level if resident is not None else 0
        full = self._at(session, state, 0)
        if shown == 0:
            return full
        made = self._at(session, state, shown)
        made.original = full
        return made

    def _at(self, session: Session, state: PageState, level: int) -> MemoryPage:
        version = state.current
        representation = version.nearest(level)
        said = self.beside.get(state.page_id, {})
        media = version.media or MediaDescription()
        metadata = said.get("metadata") or {pair.key: pair.value for pair in state.metadata}
        role = {} if ROLE in said else {ROLE: state.role.value}
        return MemoryPage.model_construct(
            page_id=state.page_id,
            session_id=self._process.log.session_id,
            modality=state.modality,
            page_type=state.page_type,
            provenance=list(said.get("provenance", ())),
            represents=said.get("represents"),
            storage_tier=session.tier(state),
            content=self._content(state, representation.level, said),
            compression_level=CompressionLevel(representation.level),
            size_bytes=representation.size_bytes,
            size_tokens=representation.size_tokens,
            created_at=datetime.fromtimestamp(version.created_unix_ms / 1_000, UTC),
            last_accessed=datetime.fromtimestamp(version.created_unix_ms / 1_000, UTC),
            access_count=state.fault_count,
            importance=state.importance,
            pinned=session.is_pinned(state),
            mime_type=version.mime_type,
            caption=media.caption or None,
            transcript=media.transcript or None,
            dimensions=(media.width, media.height) if media.width and media.height else None,
            duration_seconds=media.duration_seconds or None,
            metadata={**metadata, **role},
        )

    def _content(self, state: PageState, level: int, said: Mapping[str, Any]) -> object:
        if level == 0 and "content" in said:
            return said["content"]
        if level == 0 and state.current.media is not None:
            return self._process.log.content(state.current.full) or None
        text = self._process.text(state, level)
        if level == 0 and DATA in said:
            return json.loads(text) if said[DATA] else None
        return text


async def levels_by(registry: CompressorRegistry, page: MemoryPage, count: Callable[[str], int]) -> list[Compressed]:
    """The lower levels of a full page that an application's compressors make shorter."""
    made = []
    for level in LOWER_LEVELS:
        result = await registry.compress(page, level)
        text = whole_text(str(result.page.content))
        if result.level_after == level and len(text) < len(str(page.content)):
            made.append(Compressed(level, text, count(text), "application"))
    return made
