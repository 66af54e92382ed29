"""Which compressor a page gets, and all lower levels of a page at once."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from enum import Enum, auto
from functools import lru_cache
from typing import Final, Self

from pagekeeper.core.compress.code import OutlineCompressor, looks_like_code
from pagekeeper.core.compress.compressor import GAIN_TOKENS_MIN, Compressed, Compressor, Source
from pagekeeper.core.compress.log import LogCompressor, looks_like_log
from pagekeeper.core.compress.media import DescriptionCompressor
from pagekeeper.core.compress.structured import ShapeCompressor
from pagekeeper.core.compress.text import ExtractiveCompressor
from pagekeeper.core.pages import CompressionLevel, Modality
from pagekeeper.core.payloads import elided

LOWER_LEVELS: Final = (CompressionLevel.REDUCED, CompressionLevel.ABSTRACT, CompressionLevel.REFERENCE)


def _without_payloads(source: Source) -> Source:
    """As it is shown: a level that is made of what nobody is shown saves nothing."""
    text = elided(source.text)
    return source if text is source.text else replace(source, text=text)


class _Kind(Enum):
    LOG = auto()
    CODE = auto()
    PROSE = auto()


@lru_cache(maxsize=1)
def _kind_of(text: str) -> _Kind:
    """The reading of a text: the same for each of its levels, which are made one after the other."""
    if looks_like_log(text):
        return _Kind.LOG
    return _Kind.CODE if looks_like_code(text) else _Kind.PROSE


class TextCompressor:
    """Logs by their kinds of lines, code by its outline, everything else by its sentences."""

    def __init__(self, prose: Compressor, code: Compressor, log: Compressor) -> None:
        self._prose = prose
        self._code = code
        self._log = log

    @property
    def name(self) -> str:
        return f"{self._prose.name}+{self._code.name}+{self._log.name}"

    def compress(self, source: Source, level: CompressionLevel, count: Callable[[str], int]) -> Compressed | None:
        compressor = {_Kind.LOG: self._log, _Kind.CODE: self._code, _Kind.PROSE: self._prose}[_kind_of(source.text)]
        return compressor.compress(source, level, count) or self._prose.compress(source, level, count)


class CompressorRegistry:
    """One compressor for every modality."""

    def __init__(self, by_modality: Mapping[Modality, Compressor]) -> None:
        missing = [modality.value for modality in Modality if modality not in by_modality]
        if missing:
            raise ValueError(f"no compressor for {', '.join(missing)}")
        self._by_modality = dict(by_modality)

    @classmethod
    def default(cls) -> Self:
        """The deterministic ones."""
        described = DescriptionCompressor()
        return cls(
            {
                Modality.TEXT: TextCompressor(ExtractiveCompressor(), OutlineCompressor(), LogCompressor()),
                Modality.STRUCTURED: ShapeCompressor(),
                Modality.IMAGE: described,
                Modality.AUDIO: described,
                Modality.VIDEO: described,
            }
        )

    def compress(self, source: Source, level: CompressionLevel, count: Callable[[str], int]) -> Compressed | None:
        """The source at `level`, or None when that would not save tokens. Always made from the full content."""
        return self._by_modality[source.modality].compress(_without_payloads(source), level, count)

    def compress_all(self, source: Source, count: Callable[[str], int]) -> list[Compressed]:
        """All lower levels worth having: each at least `GAIN_TOKENS_MIN` tokens shorter than the one above it."""
        levels: list[Compressed] = []
        source = _without_payloads(source)
        full = source.readable
        full_tokens = count(full)
        for level in LOWER_LEVELS:
            made = self.compress(source, level, lambda text: full_tokens if text == full else count(text))
            if made is not None and (not levels or made.tokens + GAIN_TOKENS_MIN <= levels[-1].tokens):
                levels.append(made)
        return levels
