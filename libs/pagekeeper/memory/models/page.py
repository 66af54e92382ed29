"""A page as an application holds it, its entry in a page table, and a change of it.

Invariant: a shortened page carries the full one in `original`, in JSON as well, so the content at level FULL is never
lost by compression.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final, Self
from uuid import uuid4

from pydantic import ConfigDict, Field, field_serializer, field_validator

from pagekeeper.core.packing import prefix_of, render_media_line
from pagekeeper.core.pages import MediaDescription
from pagekeeper.memory.clock import utc_now
from pagekeeper.memory.models.enums import (
    Actor,
    Affinity,
    CompressionLevel,
    Modality,
    MutationType,
    PageType,
    StorageTier,
)
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.tokens import CHARS_PER_TOKEN, estimated_tokens

__all__ = ["MemoryPage", "PageMutation", "PageTableEntry"]

MEDIA: Final = frozenset({Modality.IMAGE, Modality.AUDIO, Modality.VIDEO})
OPAQUE_TOKENS: Final = 100
"""Estimate for content of unknown kind and size."""
BYTES_KEY: Final = "bytes:base64"
"""JSON has no bytes: bytes are written as an object with this one key."""


class MemoryPage(StrictModel):
    """The unit of memory. `content` is text, a JSON value, or bytes; units of sizes and times end their names.

    `artifact_id`: where the content is stored. `represents`: id of the page that this one summarises. `provenance`: ids
    of the pages that justify this one.
    """

    model_config = ConfigDict(ser_json_inf_nan="constants")

    page_id: str
    session_id: str | None = None
    modality: Modality = Modality.TEXT
    page_type: PageType = PageType.TRANSCRIPT
    provenance: list[str] = Field(default_factory=list)
    represents: str | None = None

    storage_tier: StorageTier = StorageTier.L1
    artifact_id: str | None = None
    content: Any = None
    compression_level: CompressionLevel = CompressionLevel.FULL
    original: "MemoryPage | None" = Field(default=None, repr=False)

    size_bytes: int = Field(default=0, ge=0)
    size_tokens: int | None = Field(default=None, ge=0)

    created_at: datetime = Field(default_factory=utc_now)
    last_accessed: datetime = Field(default_factory=utc_now)
    access_count: int = 0
    importance: float = Field(default=0.5, ge=0.0, le=1.0)
    dirty: bool = False
    pinned: bool = False

    mime_type: str | None = None
    caption: str | None = None
    transcript: str | None = None
    dimensions: tuple[int, int] | None = None
    """Width and height in pixels."""
    duration_seconds: float | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    @field_serializer("content", when_used="json")
    def _content_to_json(self, content: object) -> object:
        return {BYTES_KEY: base64.b64encode(content).decode()} if isinstance(content, bytes) else content

    @field_validator("content", mode="before")
    @classmethod
    def _content_from_json(cls, content: object) -> object:
        return (
            base64.b64decode(content[BYTES_KEY])
            if isinstance(content, dict) and set(content) == {BYTES_KEY}
            else content
        )

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        yield "page_id", self.page_id
        yield "modality", self.modality.value
        yield "level", self.compression_level.name
        yield "tier", self.storage_tier.value
        yield "tokens", self.size_tokens
        yield "content", self.content

    def mark_accessed(self) -> None:
        self.last_accessed = utc_now()
        self.access_count += 1

    def mark_dirty(self) -> None:
        self.dirty = True

    def mark_clean(self) -> None:
        self.dirty = False

    @property
    def full(self) -> "MemoryPage":
        """The page that this one was made from; this page when it was made from none."""
        return self if self.original is None else self.original

    def shortened(self, level: CompressionLevel, content: object, size_tokens: int) -> Self:
        """A copy with `content` at `level`, which carries the full page. This page does not change."""
        return self.model_copy(
            update={
                "content": content,
                "compression_level": level,
                "size_tokens": size_tokens,
                "size_bytes": _size_bytes(content),
                "original": self.full,
                "metadata": dict(self.metadata),
                "provenance": list(self.provenance),
            }
        )

    def media_description(self) -> MediaDescription:
        """Caption, transcript, size, duration and scenes of a medium."""
        width, height = self.dimensions or (0, 0)
        return MediaDescription(
            caption=self.caption or "",
            transcript=self.transcript or "",
            width=width,
            height=height,
            duration_seconds=self.duration_seconds or 0.0,
            scenes=_scenes(self.metadata),
        )

    def estimate_tokens(self) -> int:
        """`size_tokens` when set, otherwise an estimate: characters / 4 of the text in a prompt.

        That text is the description of a medium and the JSON of structured data. Bytes count as size_bytes / 4, and
        content of another kind as `OPAQUE_TOKENS`.
        """
        if self.size_tokens is not None:
            return self.size_tokens
        if self.modality in MEDIA and self.compression_level is CompressionLevel.FULL:
            media = self.media_description()
            if media != MediaDescription():
                prefix = prefix_of(self.modality, self.page_type, None)
                return estimated_tokens(render_media_line(prefix, self.page_id, media))
        return self._content_tokens()

    def _content_tokens(self) -> int:
        if self.content is None:
            return 0
        if isinstance(self.content, str):
            return estimated_tokens(self.content)
        if isinstance(self.content, Mapping | list | tuple):
            return estimated_tokens(json.dumps(self.content, default=str, ensure_ascii=False))
        return self.size_bytes // CHARS_PER_TOKEN or OPAQUE_TOKENS


class PageTableEntry(StrictModel):
    """A page's tier, level and state, never its content.

    `size_tokens`: the page's tokens at `compression_level`. `affinity`: where its bytes are.
    """

    page_id: str
    tier: StorageTier
    artifact_id: str | None = None
    compression_level: CompressionLevel = CompressionLevel.FULL
    page_type: PageType = PageType.TRANSCRIPT
    modality: Modality = Modality.TEXT
    provenance: list[str] = Field(default_factory=list)
    dirty: bool = False
    pinned: bool = False
    last_flushed: datetime | None = None
    last_accessed: datetime = Field(default_factory=utc_now)
    access_count: int = 0
    size_tokens: int | None = Field(default=None, ge=0)
    affinity: Affinity = Affinity.LOCAL

    @classmethod
    def of_page(cls, page: MemoryPage) -> "PageTableEntry":
        return cls(
            page_id=page.page_id,
            tier=page.storage_tier,
            artifact_id=page.artifact_id,
            compression_level=page.compression_level,
            page_type=page.page_type,
            modality=page.modality,
            provenance=list(page.provenance),
            dirty=page.dirty,
            pinned=page.pinned,
            last_accessed=page.last_accessed,
            access_count=page.access_count,
            size_tokens=page.estimate_tokens(),
        )

    def mark_accessed(self) -> None:
        self.last_accessed = utc_now()
        self.access_count += 1


class PageMutation(StrictModel):
    """One change of one page; immutable. `cause` is one word, such as `eviction_pressure` or `page_fault`."""

    model_config = ConfigDict(frozen=True)

    mutation_id: str = Field(default_factory=lambda: uuid4().hex)
    page_id: str
    timestamp: datetime = Field(default_factory=utc_now)
    turn: int = 0
    mutation_type: MutationType
    tier_before: StorageTier | None = None
    tier_after: StorageTier
    actor: Actor = Actor.SYSTEM
    cause: str | None = None


def _size_bytes(content: object) -> int:
    """Length of bytes, of a text in UTF-8, of a value as JSON."""
    if content is None:
        return 0
    if isinstance(content, bytes):
        return len(content)
    text = content if isinstance(content, str) else json.dumps(content, default=str, ensure_ascii=False)
    return len(text.encode(errors="replace"))


def _scenes(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """A video's scenes as texts. `metadata["scenes"]` holds texts, or mappings with a `description`."""
    scenes = metadata.get("scenes")
    if not isinstance(scenes, list):
        return ()
    texts = (scene.get("description") if isinstance(scene, Mapping) else scene for scene in scenes)
    return tuple(str(text) for text in texts if text)
