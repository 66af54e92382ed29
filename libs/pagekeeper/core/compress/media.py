"""Pictures, sounds and films by what was written about them; the bytes are never looked at.

Whoever has looked at them (decoders are not the memory's business) adds what they tell with `with_what_was_seen`.
"""

from collections.abc import Callable, Sequence

from pagekeeper.core.compress.compressor import Compressed, Source, if_shorter
from pagekeeper.core.compress.text import extract
from pagekeeper.core.compress.topics import topics
from pagekeeper.core.pages import CompressionLevel, MediaDescription
from pagekeeper.core.previews import Preview

DECODED = "decoded/1"
"""What makes the level that has what a medium's bytes tell."""
UNDECODABLE = "undecodable/1"
"""What makes the level of a medium whose bytes no decoder reads within its limits: the mark that they were tried."""
WHOLE_CHARS_MAX = 2_000
"""Of what is said in a recording; of more, what says most is kept."""

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


def with_what_was_seen(
    written: Source, seen: Source, levels: Sequence[Compressed], preview: Preview | None, count: Callable[[str], int]
) -> list[Compressed]:
    """`levels` of a medium that was decoded: REDUCED is among them, with the preview, also where it saves no tokens.

    The full level is the bytes and what was `written`; what the bytes told besides is nowhere else. So what is said in
    them is here as it was said, unless that is long.
    """
    said = seen.media.transcript if seen.media else ""
    told = written.media is None or said != written.media.transcript
    text = seen.readable if told and len(said) <= WHOLE_CHARS_MAX else _described(seen, CompressionLevel.REDUCED)
    text = text or _bare(seen)
    reduced = Compressed(CompressionLevel.REDUCED, text, count(text), DECODED, preview)
    return [reduced, *(made for made in levels if made.level > CompressionLevel.REDUCED)]


def as_undecodable(written: Source, levels: Sequence[Compressed], count: Callable[[str], int]) -> list[Compressed]:
    """`levels` of a medium that cannot be decoded: REDUCED is among them and says so, also where it saves no tokens.

    A page with a lower level is not looked at again, so this level keeps every replica from trying the same bytes.
    """
    reduced = next((made.text for made in levels if made.level is CompressionLevel.REDUCED), "")
    text = (
        f"{reduced or _described(written, CompressionLevel.REDUCED) or _bare(written)}\n(its bytes cannot be decoded)"
    )
    marked = Compressed(CompressionLevel.REDUCED, text, count(text), UNDECODABLE)
    return [marked, *(made for made in levels if made.level > CompressionLevel.REDUCED)]


def _bare(source: Source) -> str:
    media = source.media or MediaDescription()
    size = f"{media.width}x{media.height} pixels" if media.width and media.height else ""
    seconds = f"{media.duration_seconds:g} seconds" if media.duration_seconds else ""
    return ", ".join(filter(None, [source.modality.value, size, seconds]))
