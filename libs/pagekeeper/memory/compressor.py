"""Pages at lower levels, by modality: what a page still says when it has to be short.

Invariant: a page that was given is left as it is, and what is made of it carries it: every level is made from the full
content, and the full content is always at hand (`MemoryPage.full`).

What shortens is the core's, and needs no model; a text may be given to a summariser instead. Content that cannot be
made shorter is whole at the lower level too.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol, runtime_checkable

from pydantic import Field

from pagekeeper.core.compress.compressor import Source
from pagekeeper.core.compress.registry import CompressorRegistry as CoreRegistry
from pagekeeper.core.compress.topics import topics
from pagekeeper.core.pages import MediaDescription
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import CompressionLevel, MemoryPage, Modality
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.tokens import CHARS_PER_TOKEN, estimated_tokens

__all__ = [
    "CompressionResult",
    "Compressor",
    "CompressorRegistry",
    "ImageCompressor",
    "MediaCompressor",
    "PassthroughCompressor",
    "StructuredCompressor",
    "SummarizeFn",
    "TextCompressor",
    "TextCompressorConfig",
]

SummarizeFn = Callable[[str, int], Awaitable[str]]
"""Makes a summary of a text, of at most so many tokens."""

_CORE: Final = CoreRegistry.default()
REFERENCE_TOPICS_MAX: Final = 4
LONG_TOKENS: Final = 64
"""A shorter text is better left whole than told at a lower level than was asked for."""


class CompressionResult(StrictModel):
    """A page at another level, and what both take. It is the page that was given when nothing had to be done."""

    page: MemoryPage
    original_tokens: int
    compressed_tokens: int
    level_before: CompressionLevel
    level_after: CompressionLevel

    @property
    def tokens_saved(self) -> int:
        """Less than nothing when a page is so short that its reference is longer."""
        return self.original_tokens - self.compressed_tokens


@runtime_checkable
class Compressor(Protocol):
    """Makes pages of one modality shorter, without changing the pages that it is given."""

    @property
    def supported_modality(self) -> Modality: ...

    async def compress(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult: ...

    def can_compress(self, current_level: CompressionLevel, target_level: CompressionLevel) -> bool: ...


class TextCompressorConfig(StrictModel):
    """How much a summariser is asked for at REDUCED, as a part of the text, and what the lower levels have at most."""

    reduced_ratio: float = Field(default=0.5, gt=0.0, le=1.0)
    abstract_max_tokens: int = Field(default=200, ge=1)
    reference_max_tokens: int = Field(default=50, ge=1)


@checked
class _Lowering(ABC):
    """What all compressors here have in common: a page is made anew when the level asked for is a lower one."""

    def __init__(self, modality: Modality) -> None:
        self._modality = modality

    @property
    def supported_modality(self) -> Modality:
        return self._modality

    def can_compress(self, current_level: CompressionLevel, target_level: CompressionLevel) -> bool:
        return target_level > current_level

    async def compress(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        if not self.can_compress(page.compression_level, target_level):
            return _unchanged(page)
        return await self._lowered(page, target_level)

    @abstractmethod
    async def _lowered(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult: ...


@checked
class TextCompressor(_Lowering):
    """Sentences that say more, code by its outline, or a summariser's words; REFERENCE is the page's type and topics.

    A summary that is not shorter than the text is not used.
    """

    def __init__(self, config: TextCompressorConfig | None = None, summarize_fn: SummarizeFn | None = None) -> None:
        super().__init__(Modality.TEXT)
        self.config = config or TextCompressorConfig()
        self._summarize = summarize_fn

    async def _lowered(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        text = _text(page.full)
        if target_level is CompressionLevel.REFERENCE:
            return _at(page, target_level, self._reference(page, text))
        return _at(page, target_level, await self._shortened(page, text, target_level))

    async def _shortened(self, page: MemoryPage, text: str, level: CompressionLevel) -> str:
        tokens_max = self._tokens_max(text, level)
        if self._summarize is not None:
            summary = await self._summarize(text, tokens_max)
            if len(summary) < len(text):
                return summary
        shorter = _by_core(Source(page.page_id, Modality.TEXT, text), level)
        while level is CompressionLevel.ABSTRACT and estimated_tokens(shorter) > tokens_max:
            again = _by_core(Source(page.page_id, Modality.TEXT, shorter), level)
            if len(again) >= len(shorter):
                break
            shorter = again
        return shorter

    def _tokens_max(self, text: str, level: CompressionLevel) -> int:
        if level is CompressionLevel.REDUCED:
            return max(1, int(estimated_tokens(text) * self.config.reduced_ratio))
        return self.config.abstract_max_tokens

    def _reference(self, page: MemoryPage, text: str) -> str:
        """As many topics as there is room for; the beginning of the text when it has none."""
        reference = f"[{page.page_type.value}]"
        chars_max = self.config.reference_max_tokens * CHARS_PER_TOKEN
        for index, topic in enumerate(topics(text) or text.split()[:5]):
            longer = f"{reference}{',' if index else ''} {topic}"
            if len(longer) > chars_max:
                break
            reference = longer
        return reference


@checked
class StructuredCompressor(_Lowering):
    """JSON with shorter lists and texts, still of the same shape; REFERENCE names its keys."""

    def __init__(self) -> None:
        super().__init__(Modality.STRUCTURED)

    async def _lowered(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        content = page.full.content
        whole = _text(page.full)
        shorter = _by_core(Source(page.page_id, Modality.STRUCTURED, whole), target_level)
        return _at(page, target_level, content if shorter == whole else _parsed(shorter), estimated_tokens(shorter))


@checked
class ImageCompressor(_Lowering):
    """REDUCED is a thumbnail where there are bytes and a `thumbnail`, ABSTRACT the caption, REFERENCE id and topics.

    `thumbnail` makes a picture's bytes fewer, such as `make_thumbnail`. A prompt shows it as it does the full picture.
    """

    def __init__(self, thumbnail: Callable[[bytes], bytes] | None = None) -> None:
        super().__init__(Modality.IMAGE)
        self._thumbnail = thumbnail

    async def _lowered(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        if target_level is CompressionLevel.REDUCED:
            return _at(page, target_level, self._smaller(page.content), page.estimate_tokens())
        return _at(page, target_level, _description(page, target_level))

    def _smaller(self, content: object) -> object:
        if self._thumbnail is None or not isinstance(content, bytes):
            return content
        return min(content, self._thumbnail(content), key=len)


class MediaCompressor(_Lowering):
    """Sound by its transcript, film by its scenes and transcript: extracted, then key sentences, then id and topics."""

    async def _lowered(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        return _at(page, target_level, _description(page, target_level))


@checked
class PassthroughCompressor(_Lowering):
    """The same content under another level, for a modality that nothing is known to shorten."""

    def __init__(self, modality: Modality = Modality.TEXT) -> None:
        super().__init__(modality)

    async def _lowered(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        return _at(page, target_level, page.content, page.estimate_tokens())


@checked
class CompressorRegistry:
    """A compressor for each modality, and content as it is for those that have none."""

    def __init__(self, compressors: Mapping[Modality, Compressor] | None = None) -> None:
        self._compressors = dict(compressors or {})

    @classmethod
    def default(cls) -> "CompressorRegistry":
        """One for every modality, none of which needs a model."""
        return cls(
            {
                Modality.TEXT: TextCompressor(),
                Modality.STRUCTURED: StructuredCompressor(),
                Modality.IMAGE: ImageCompressor(),
                Modality.AUDIO: MediaCompressor(Modality.AUDIO),
                Modality.VIDEO: MediaCompressor(Modality.VIDEO),
            }
        )

    def register(self, modality: Modality, compressor: Compressor) -> None:
        self._compressors[modality] = compressor

    def get(self, modality: Modality) -> Compressor:
        return self._compressors.get(modality) or PassthroughCompressor(modality)

    async def compress(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        """The page at that level; itself when it is at that level or a lower one. Whoever made it, it has its full."""
        result = await self.get(page.modality).compress(page, target_level)
        made = result.page
        if made is not page and made.original is None and made.compression_level > CompressionLevel.FULL:
            result.page = made.model_copy(update={"original": page.full})
        return result

    async def compress_page(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        return await self.compress(page, target_level)


def _unchanged(page: MemoryPage) -> CompressionResult:
    tokens, level = page.estimate_tokens(), page.compression_level
    return CompressionResult(
        page=page, original_tokens=tokens, compressed_tokens=tokens, level_before=level, level_after=level
    )


def _at(page: MemoryPage, level: CompressionLevel, content: object, tokens: int | None = None) -> CompressionResult:
    """The page with `content` at `level`, for that many tokens; estimated where they are not given, one at least."""
    if tokens is None:
        tokens = estimated_tokens(str(content))
    return CompressionResult(
        page=page.shortened(level, content, max(1, tokens)),
        original_tokens=page.estimate_tokens(),
        compressed_tokens=max(1, tokens),
        level_before=page.compression_level,
        level_after=level,
    )


def _by_core(source: Source, level: CompressionLevel) -> str:
    """The core's words for it; all that there is to read where those would not be shorter.

    A long text that has no sentences to leave out at REDUCED is told as at ABSTRACT: it is asked for to save tokens.
    """
    whole = source.readable
    levels = [level]
    if level is CompressionLevel.REDUCED and estimated_tokens(whole) >= LONG_TOKENS:
        levels.append(CompressionLevel.ABSTRACT)
    made = (_CORE.compress(source, tried, estimated_tokens) for tried in levels)
    return next((compressed.text for compressed in made if compressed is not None), whole)


def _description(page: MemoryPage, level: CompressionLevel) -> str:
    """What is said of a medium at `level`; where nothing is known of it, its kind."""
    full = page.full
    source = Source(page.page_id, page.modality, media=full.media_description())
    if not source.readable and page.modality is not Modality.IMAGE and isinstance(full.content, str):
        source = replace(source, media=MediaDescription(transcript=full.content))
    if level is CompressionLevel.REFERENCE:
        return _media_reference(page, source)
    return _by_core(source, level) or f"[{page.modality.value.upper()}]"


def _media_reference(page: MemoryPage, source: Source) -> str:
    about = topics(source.readable)[:REFERENCE_TOPICS_MAX]
    if page.duration_seconds:
        about.append(f"{page.duration_seconds:g} s")
    named = f" ({', '.join(about)})" if about else ""
    return f"{page.modality.value}:{page.page_id}{named}"


def _text(page: MemoryPage) -> str:
    """What there is to read of a text or a JSON value."""
    if page.content is None:
        return ""
    if isinstance(page.content, str):
        return page.content
    return json.dumps(page.content, ensure_ascii=False, default=str, separators=(",", ":"))


def _parsed(text: str) -> object:
    """The value that a JSON text has; a reference's list of keys is no JSON and stays a text."""
    try:
        return json.loads(text)
    except ValueError:
        return text
