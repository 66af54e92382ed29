"""What a medium tells of itself to whoever decodes it: its size, its length, when its scenes begin. Not what it shows.

Needs the decoders of the extra `media`. Without them, and for bytes that they cannot read, a page is what was written
about it, and the log says so. Whatever was written about it is never replaced.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import Final

from pagekeeper.memory.compress.compressor import Source
from pagekeeper.memory.pages import MediaDescription, Modality

VIEWED_BYTES_MAX: Final = 64 * 1024 * 1024
FRAME_PIXELS_MAX: Final = 8192 * 8192
"""Of a film whose frames are decoded; of a larger one, or one that says so, the size and the length are told."""
KEYFRAMES_MAX: Final = 512
SCENES_MAX: Final = 12
FRAME_PIXELS: Final = 16
"""On a side: what a key frame is made smaller to before it is compared with the one before."""
SCENE_DIFFERENCE_MIN: Final = 24.0
"""Of 255, the mean over the pixels, from one key frame to the next."""

_log: Final = logging.getLogger(__name__)


def viewed(source: Source, data: bytes) -> Source:
    """`source` with what its bytes tell; as it is when it is no medium, or nothing can be told."""
    if source.media is None or not data or len(data) > VIEWED_BYTES_MAX or not _decoders():
        return source
    tell = _picture if source.modality is Modality.IMAGE else _played
    return replace(source, media=tell(data, source.media, source.page_id))


@cache
def _decoders() -> bool:
    missing = [name for name in ("av", "PIL") if find_spec(name) is None]
    if missing:
        _log.warning("media are what was written about them: the extra `media` is not installed", extra={"no": missing})
    return not missing


def _picture(data: bytes, media: MediaDescription, page_id: str) -> MediaDescription:
    from PIL import Image  # noqa: PLC0415 - of an extra

    try:
        with Image.open(BytesIO(data)) as image:
            width, height = image.size
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        _log.warning("a picture cannot be read: %s", error, extra={"page": page_id})
        return media
    return replace(media, width=media.width or width, height=media.height or height)


def _played(data: bytes, media: MediaDescription, page_id: str) -> MediaDescription:
    import av  # noqa: PLC0415 - of an extra

    try:
        with av.open(BytesIO(data), "r") as container:
            seconds = float(container.duration or 0) / av.time_base
            media = replace(media, duration_seconds=media.duration_seconds or seconds)
            if not container.streams.video:
                return media
            stream = container.streams.video[0]
            media = replace(media, width=media.width or stream.width, height=media.height or stream.height)
            if media.scenes:
                return media
            stream.codec_context.skip_frame = "NONKEY"
            stream.codec_context.options = {"max_pixels": str(FRAME_PIXELS_MAX)}
            frames = (
                (float(frame.time or 0.0), frame.reformat(FRAME_PIXELS, FRAME_PIXELS, "gray").to_ndarray().tobytes())
                for frame, _ in zip(container.decode(stream), range(KEYFRAMES_MAX), strict=False)
            )
            return replace(media, scenes=tuple(f"{_clock(at)} scene" for at in _beginnings(frames)))
    except (av.FFmpegError, OSError, ValueError) as error:
        _log.warning("a recording cannot be read: %s", error, extra={"page": page_id})
        return media


def _beginnings(frames: Iterator[tuple[float, bytes]]) -> list[float]:
    """When a key frame looks unlike the one before; the first does."""
    beginnings: list[float] = []
    before = b""
    for seconds, pixels in frames:
        difference = sum(abs(a - b) for a, b in zip(before, pixels, strict=False))
        if not before or difference >= SCENE_DIFFERENCE_MIN * len(pixels):
            beginnings.append(seconds)
        before = pixels
    return beginnings[:SCENES_MAX]


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
