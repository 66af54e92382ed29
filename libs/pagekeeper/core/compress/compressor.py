"""The port of a compressor: a page's content in, a shorter content or nothing out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pagekeeper.core.pages import CompressionLevel, MediaDescription, Modality
from pagekeeper.core.previews import Preview

GAIN_TOKENS_MIN: Final = 4
"""A lower level that saves less is not worth another set of bytes, and its header alone says ` L1` more."""


@dataclass(frozen=True, slots=True)
class Source:
    """A page's full content: `text` of text and structured pages, `media` for what cannot be shown as text."""

    page_id: str
    modality: Modality
    text: str = ""
    media: MediaDescription | None = None

    @property
    def readable(self) -> str:
        """All that a model could read of it."""
        if self.media is None:
            return self.text
        return "\n".join(part for part in (self.media.caption, *self.media.scenes, self.media.transcript) if part)


@dataclass(frozen=True, slots=True)
class Compressed:
    """A lower level of a page: text, and of a medium maybe a picture. `compressor`: what made it, with its version."""

    level: CompressionLevel
    text: str
    tokens: int
    compressor: str
    preview: Preview | None = None


class Compressor(Protocol):
    """Deterministic; its answer has at least `GAIN_TOKENS_MIN` tokens less than the source's readable text."""

    @property
    def name(self) -> str:
        """With its version, such as `extract/1`: the same name and source give the same answer."""
        ...

    def compress(self, source: Source, level: CompressionLevel, count: Callable[[str], int]) -> Compressed | None:
        """The source at `level`, one of 1 to 3, or None when that would not save tokens."""
        ...


def if_shorter(
    name: str, source: Source, level: CompressionLevel, text: str, count: Callable[[str], int]
) -> Compressed | None:
    """`text` as the answer of a compressor, when it says something and saves tokens."""
    if not text.strip():
        return None
    tokens = count(text)
    return Compressed(level, text, tokens, name) if tokens + GAIN_TOKENS_MIN <= count(source.readable) else None
