"""Pictures, sounds and films by what was written about them; the bytes are never looked at."""

from collections.abc import Callable

from pagekeeper.memory.compress.compressor import Compressed, Source, if_shorter
from pagekeeper.memory.compress.text import extract
from pagekeeper.memory.compress.topics import topics
from pagekeeper.memory.pages import CompressionLevel, MediaDescription

REFERENCE_TOPICS_MAX = 4


class DescriptionCompressor:
    """Caption, scenes and transcript, extracted; ABSTRACT prefers what is seen, REFERENCE is the id with topics."""

    @property
    def name(self) -> str:
        return "description/1"

    def compress(self, source: Source, level: CompressionLevel, count: Callable[[str], int]) -> Compressed | None:
        return if_shorter(self.name, source, level, _described(source, level), count)


def _described(source: Source, level: CompressionLevel) -> str:
    media = source.media or MediaDescription(transcript=source.text)
    match level:
        case CompressionLevel.FULL:
            return source.readable
        case CompressionLevel.REDUCED:
            return "\n".join(filter(None, [media.caption, *media.scenes, extract(media.transcript, level)]))
        case CompressionLevel.ABSTRACT:
            seen = "; ".join(media.scenes) or media.caption
            return extract(seen or media.transcript, CompressionLevel.REDUCED if seen else level)
        case CompressionLevel.REFERENCE:
            about = ", ".join(topics(source.readable)[:REFERENCE_TOPICS_MAX])
            return f"{source.modality.value}:{source.page_id}{f' ({about})' if about else ''}"
