"""Pages at lower levels, by modality: views over `pagekeeper.core.compress`, as the guide names them.

Invariant: a page that is given stays as it is. The page that is made of it carries the full one
(`MemoryPage.original`), and every level is made from the full content.

Where the core has no shorter form of a content, the content stands whole at the lower level.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, runtime_checkable

from pydantic import Field

from pagekeeper.core.compress.compressor import GAIN_TOKENS_MIN, Source
from pagekeeper.core.compress.registry import CompressorRegistry as CoreRegistry
from pagekeeper.memory.arguments import checked
from pagekeeper.memory.models import CompressionLevel, MemoryPage, Modality
from pagekeeper.memory.models.page import MEDIA
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.page_view import content_text, description_of
from pagekeeper.memory.tokens import estimated_tokens

__all__ = [
    "CompressionResult",
    "Compressor",
    "CompressorRegistry",
    "ImageCompressor",
    "PassthroughCompressor",
    "TextCompressor",
    "TextCompressorConfig",
]

SummarizeFn = Callable[[str, int], Awaitable[str]]
"""`(text, tokens_max)` to a summary of at most `tokens_max` tokens."""

_CORE: Final = CoreRegistry.default()


class CompressionResult(StrictModel):
    """A page at another level, and the sizes of both; the page that was given when it has that level already."""

    page: MemoryPage
    original_tokens: int
    compressed_tokens: int
    level_before: CompressionLevel
    level_after: CompressionLevel

    @property
    def tokens_saved(self) -> int:
        """Below 0 when the page is shorter than its reference."""
        return self.original_tokens - self.compressed_tokens


@runtime_checkable
class Compressor(Protocol):
    """Makes shorter pages of one modality, without changing the pages that it is given."""

    @property
    def supported_modality(self) -> Modality: ...

    async def compress(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult: ...

    def can_compress(self, current_level: CompressionLevel, target_level: CompressionLevel) -> bool: ...


@checked
class PassthroughCompressor:
    """The same content under another level. What other compressors have in common is its: they say another content."""

    def __init__(self, modality: Modality = Modality.TEXT) -> None:
        self._modality = modality

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._modality.value})"

    @property
    def supported_modality(self) -> Modality:
        return self._modality

    def can_compress(self, current_level: CompressionLevel, target_level: CompressionLevel) -> bool:
        return target_level > current_level

    async def compress(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        made = page
        if self.can_compress(page.compression_level, target_level):
            content = await self._content(page.full, target_level)
            whole = content is page.full.content
            made = page.shortened(target_level, content, page.full.estimate_tokens() if whole else _tokens(content))
        return CompressionResult(
            page=made,
            original_tokens=page.estimate_tokens(),
            compressed_tokens=made.estimate_tokens(),
            level_before=page.compression_level,
            level_after=made.compression_level,
        )

    async def _content(self, page: MemoryPage, level: CompressionLevel) -> object:  # noqa: ARG002 - for subclasses
        """Return the form of a full page's content at `level`."""
        return page.content


class CoreCompressor(PassthroughCompressor):
    """The core's compressor of one modality: of data JSON of the same shape, of a medium its description."""

    async def _content(self, page: MemoryPage, level: CompressionLevel) -> object:
        source = _source(page)
        if page.modality in MEDIA:
            return _described(page, source, level)
        text = _by_core(source, level)
        if text is None:
            return page.content
        return _parsed(text) if page.modality is Modality.STRUCTURED else text


class TextCompressorConfig(StrictModel):
    """`reduced_ratio`: the part of a text's tokens that a summary may have at REDUCED; `abstract_max_tokens`: its most
    tokens at ABSTRACT.
    """

    reduced_ratio: float = Field(default=0.5, gt=0.0, le=1.0)
    abstract_max_tokens: int = Field(default=200, ge=1)


@checked
class TextCompressor(CoreCompressor):
    """The core's, or a summariser's at REDUCED and ABSTRACT; a summary that is no shorter than the text is not used."""

    def __init__(self, config: TextCompressorConfig | None = None, summarize_fn: SummarizeFn | None = None) -> None:
        super().__init__(Modality.TEXT)
        self.config = config or TextCompressorConfig()
        self._summarize = summarize_fn

    async def _content(self, page: MemoryPage, level: CompressionLevel) -> object:
        if self._summarize is not None and level is not CompressionLevel.REFERENCE:
            text = content_text(page) or ""
            reduced_tokens = max(1, int(estimated_tokens(text) * self.config.reduced_ratio))
            at_reduced = level is CompressionLevel.REDUCED
            summary = await self._summarize(text, reduced_tokens if at_reduced else self.config.abstract_max_tokens)
            if len(summary) < len(text):
                return summary
        return await super()._content(page, level)


@checked
class ImageCompressor(CoreCompressor):
    """REDUCED is the picture, smaller where `thumbnail` makes its bytes fewer, as `make_thumbnail` does.

    A prompt shows the picture at REDUCED as it does at FULL.
    """

    def __init__(self, thumbnail: Callable[[bytes], bytes] | None = None) -> None:
        super().__init__(Modality.IMAGE)
        self._thumbnail = thumbnail

    async def _content(self, page: MemoryPage, level: CompressionLevel) -> object:
        if level is not CompressionLevel.REDUCED:
            return await super()._content(page, level)
        if self._thumbnail is None or not isinstance(page.content, bytes):
            return page.content
        return min(page.content, self._thumbnail(page.content), key=len)


@checked
class CompressorRegistry:
    """A compressor for each modality; `PassthroughCompressor` for those that have none."""

    def __init__(self, compressors: Mapping[Modality, Compressor] | None = None) -> None:
        self._compressors = dict(compressors or {})
        self._is_default = False

    def __repr__(self) -> str:
        return f"CompressorRegistry({', '.join(modality.value for modality in self._compressors)})"

    @classmethod
    def default(cls) -> "CompressorRegistry":
        """One for every modality, none of which needs a model."""
        registry = cls({modality: CoreCompressor(modality) for modality in Modality})
        registry.register(Modality.IMAGE, ImageCompressor())
        registry._is_default = True
        return registry

    @property
    def is_default(self) -> bool:
        """Whether it compresses as the core does."""
        return self._is_default

    def register(self, modality: Modality, compressor: Compressor) -> None:
        self._is_default = False
        self._compressors[modality] = compressor

    def get(self, modality: Modality) -> Compressor:
        return self._compressors.get(modality) or PassthroughCompressor(modality)

    async def compress(self, page: MemoryPage, target_level: CompressionLevel) -> CompressionResult:
        """The page at `target_level`, or the page that is given when its level is that or lower.

        Whatever compressor made it, the page that is made carries its full one.
        """
        result = await self.get(page.modality).compress(page, target_level)
        made = result.page
        if made is not page and made.original is None and made.compression_level > CompressionLevel.FULL:
            result.page = made.model_copy(update={"original": page.full})
        return result


def _source(page: MemoryPage) -> Source:
    if page.modality in MEDIA:
        return Source(page.page_id, page.modality, media=description_of(page))
    return Source(page.page_id, page.modality, content_text(page) or "")


def _by_core(source: Source, level: CompressionLevel) -> str | None:
    """The core's words at `level`; None where they would not be shorter."""
    made = _CORE.compress(source, level, estimated_tokens)
    return None if made is None else made.text


def _described(page: MemoryPage, source: Source, level: CompressionLevel) -> str:
    """A medium in the core's words, its kind without a description; at REFERENCE its id, topics and duration."""
    if level is not CompressionLevel.REFERENCE:
        return _by_core(source, level) or source.readable or f"[{page.modality.value.upper()}]"
    # A reference is for its id, also where the description is shorter than the id: the description counts as long.
    named = _CORE.compress(source, level, lambda text: GAIN_TOKENS_MIN if text == source.readable else 0)
    seconds = f" {page.duration_seconds:g} s" if page.duration_seconds else ""
    return f"{'' if named is None else named.text}{seconds}"


def _parsed(text: str) -> object:
    """The value of a JSON text; another text, such as the keys of REFERENCE, as it is."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _tokens(content: object) -> int:
    text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, default=str)
    return max(1, estimated_tokens(text))
