"""A page's content in a tool result, by modality, with its metadata."""

from typing import Any

from pydantic import Field

from pagekeeper.memory.models.enums import CompressionLevel, Modality, StorageTier
from pagekeeper.memory.models.strict import StrictModel

__all__ = [
    "AudioContent",
    "FormattedPage",
    "ImageContent",
    "PageContent",
    "PageData",
    "PageMeta",
    "StructuredContent",
    "TextContent",
    "VideoContent",
]


class TextContent(StrictModel):
    text: str = ""


class ImageContent(StrictModel):
    caption: str | None = None
    url: str | None = None
    base64: str | None = None
    dimensions: tuple[int, int] | None = None
    """Width and height in pixels."""


class AudioContent(StrictModel):
    transcript: str | None = None
    timestamps: list[dict[str, Any]] | None = None
    duration_seconds: float | None = None


class VideoContent(StrictModel):
    scenes: list[dict[str, Any]] = Field(default_factory=list)
    transcript: str | None = None
    duration_seconds: float | None = None
    keyframe_urls: list[str] | None = None


class StructuredContent(StrictModel):
    data: dict[str, Any] = Field(default_factory=dict)
    schema_name: str | None = None


PageContent = TextContent | ImageContent | AudioContent | VideoContent | StructuredContent


class PageMeta(StrictModel):
    """`dimensions`: width and height in pixels. `latency_ms`: duration of the fault.

    `requested_level` is set when the page comes at another level than the requested one.
    """

    requested_level: CompressionLevel | None = None
    source_tier: StorageTier | None = None
    mime_type: str | None = None
    size_bytes: int | None = None
    dimensions: list[int] | None = None
    duration_seconds: float | None = None
    latency_ms: float | None = None


class PageData(StrictModel):
    """A page in the envelope of a tool result."""

    page_id: str
    modality: Modality
    level: CompressionLevel
    tier: StorageTier
    content: PageContent
    meta: PageMeta = Field(default_factory=PageMeta)


class FormattedPage(StrictModel):
    """A page's line in a prompt, without line break, and the tokens of the line with it."""

    content: str
    tokens_est: int = 0
