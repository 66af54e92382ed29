"""Facts that a decoder reads from a medium: size, length, embedded text, subtitles, and a preview.

Needs the decoders of the extra `media`. Without them, and for bytes that they cannot read, a page is what was written
about it, and the log says so. Whatever was written about it is never replaced.
"""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Final

from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.compress.media import with_what_was_seen
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.pages import MediaDescription, Modality
from pagekeeper.core.previews import Preview

if TYPE_CHECKING:
    import av
    from PIL import Image

VIEWED_BYTES_MAX: Final = 64 * 1024 * 1024
FRAME_PIXELS_MAX: Final = 8192 * 8192
"""Of what is decoded; of a larger picture or film, or one that says so, the size and the length are told."""
KEYFRAMES_MAX: Final = 512
SCENES_MAX: Final = 12
FRAME_PIXELS: Final = 16
"""On a side: what a key frame is made smaller to before it is compared with the one before."""
SCENE_DIFFERENCE_MIN: Final = 24.0
"""Of 255, the mean over the pixels, from one key frame to the next."""
SELF_CONTAINED: Final = {
    "format_whitelist": "matroska,mov,avi,asf,flv,mpeg,mpegts,ogg,mp3,flac,wav,w64,aiff,caf,aac,ac3,amr",
    "protocol_whitelist": "",
}
"""Formats and protocols that recordings are opened with: self-contained formats only. A playlist or a session
description names other addresses, which whoever uploads it must not have this process ask."""
CHAPTERS_MAX: Final = 64
CAPTION_CHARS_MAX: Final = 1_000
TRANSCRIPT_CHARS_MAX: Final = 200_000
TITLES: Final = ("title", "artist", "album", "date", "description", "comment")
"""Tags of a recording that say what it is, in this order."""
WRITTEN_IN_PICTURES: Final = ("Title", "Description", "Comment")
"""Texts of a PNG."""
EXIF_DESCRIPTION: Final = 0x010E

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Viewed:
    """A page with what its bytes tell, and what it looks like. `decoded` is false when they told nothing."""

    source: Source
    preview: Preview | None = None
    decoded: bool = False


def lowered(
    registry: CompressorRegistry, source: Source, data: bytes, heard: str, count: Callable[[str], int]
) -> list[Compressed]:
    """The lower levels of a page; of a medium that can be decoded, what it tells and looks like is at the first."""
    seen = viewed(source, data, heard)
    levels = registry.compress_all(seen.source, count)
    return with_what_was_seen(source, seen.source, levels, seen.preview, count) if seen.decoded else levels


def viewed(source: Source, data: bytes, heard: str = "") -> Viewed:
    """Return a medium's facts with the transcript `heard`; nothing for other pages and unreadable bytes."""
    media = source.media
    if media is None:
        return Viewed(source)
    seen = _viewed(source, media, data)
    told = seen.source.media or media
    if not heard or told.transcript:
        return seen
    return replace(seen, source=replace(source, media=replace(told, transcript=heard)), decoded=True)


def _viewed(source: Source, media: MediaDescription, data: bytes) -> Viewed:
    if not data or len(data) > VIEWED_BYTES_MAX or not _decoders():
        return Viewed(source)
    try:
        if source.modality is Modality.IMAGE:
            told, preview = _picture(data, media, source.page_id)
        else:
            told, preview = _recording(data, media, source)
    except _Unreadable as unreadable:
        _log.warning("%s cannot be read: %s", source.modality.value, unreadable, extra={"page": source.page_id})
        return Viewed(source)
    return Viewed(replace(source, media=told), preview, decoded=True)


class _Unreadable(Exception):
    """The decoders make nothing of the bytes."""


@cache
def _decoders() -> bool:
    missing = [name for name in ("av", "PIL") if find_spec(name) is None]
    if missing:
        _log.warning("media are what was written about them: the extra `media` is not installed", extra={"no": missing})
    return not missing


def _picture(data: bytes, media: MediaDescription, page_id: str) -> tuple[MediaDescription, Preview | None]:
    from PIL import Image  # noqa: PLC0415 - of an extra

    try:
        with Image.open(BytesIO(data)) as image:
            width, height = image.size
            said = [image.getexif().get(EXIF_DESCRIPTION), *map(image.info.get, WRITTEN_IN_PICTURES)]
            caption = media.caption or _written([one for one in said if isinstance(one, str)])
            told = replace(media, caption=caption, width=media.width or width, height=media.height or height)
            return told, _thumbnail(image, page_id)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise _Unreadable(str(error)) from error


def _thumbnail(image: "Image.Image", page_id: str) -> Preview | None:
    """None for a picture whose pixels cannot be had, though it has said how many there are."""
    from PIL import Image  # noqa: PLC0415 - of an extra

    from pagekeeper.core.compress.pictures import SIDE_PX_MAX, preview_of, upright  # noqa: PLC0415 - of an extra

    if image.width * image.height > FRAME_PIXELS_MAX:
        return None
    try:
        image.draft("RGB", (2 * SIDE_PX_MAX, 2 * SIDE_PX_MAX))  # A JPEG is decoded smaller, in a fraction of the time.
        return preview_of(upright(image))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        _log.warning("a picture has no thumbnail: %s", error, extra={"page": page_id})
        return None


def _recording(data: bytes, media: MediaDescription, source: Source) -> tuple[MediaDescription, Preview | None]:
    import av  # noqa: PLC0415 - of an extra

    try:
        with av.open(BytesIO(data), "r", options=SELF_CONTAINED) as container:
            media = _played(container, media)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise _Unreadable(str(error)) from error
    try:
        if not media.transcript:
            media = replace(media, transcript=_subtitles(data))
        with av.open(BytesIO(data), "r", options=SELF_CONTAINED) as container:
            return _seen(container, media, source)
    except (av.FFmpegError, OSError, ValueError) as error:
        _log.warning("a recording is known by its tags alone: %s", error, extra={"page": source.page_id})
        return media, None


def _played(container: "av.container.InputContainer", media: MediaDescription) -> MediaDescription:
    """Return the facts of a container: length, tags, chapters."""
    import av  # noqa: PLC0415 - of an extra

    seconds = float(container.duration or 0) / av.time_base
    tags = {name.lower(): value for name, value in container.metadata.items()}
    lyrics = next((text for name, text in tags.items() if name.startswith("lyrics")), "")
    return replace(
        media,
        caption=media.caption or _written([tags[name] for name in TITLES if name in tags]),
        transcript=media.transcript or lyrics[:TRANSCRIPT_CHARS_MAX],
        duration_seconds=media.duration_seconds or seconds,
        scenes=media.scenes or _chapters(container),
    )


def _written(texts: list[str]) -> str:
    said = dict.fromkeys(" ".join(text.split()) for text in texts)
    return ", ".join(filter(None, said))[:CAPTION_CHARS_MAX]


def _chapters(container: "av.container.InputContainer") -> tuple[str, ...]:
    return tuple(
        f"{_clock(float(chapter['start'] * (chapter['time_base'] or 0)))} {title}"
        for chapter in container.chapters()[:CHAPTERS_MAX]
        if (title := " ".join(chapter["metadata"].get("title", "").split()))
    )


def _subtitles(data: bytes) -> str:
    """Return the text of a recording's first text track; empty without one."""
    import av  # noqa: PLC0415 - of an extra
    from av.subtitles.subtitle import AssSubtitle  # noqa: PLC0415 - of an extra

    said: dict[str, None] = {}
    chars = 0
    with av.open(BytesIO(data), "r", options=SELF_CONTAINED) as container:
        if not container.streams.subtitles:
            return ""
        for packet in container.demux(container.streams.subtitles[0]):
            if not packet.size:
                continue
            for subtitle in packet.decode():
                if isinstance(subtitle, AssSubtitle):
                    line = " ".join(subtitle.dialogue.decode(errors="replace").split())
                    chars += len(line) + 1
                    said[line] = None
            if chars >= TRANSCRIPT_CHARS_MAX:
                break
    return "\n".join(filter(None, said))[:TRANSCRIPT_CHARS_MAX]


def _seen(
    container: "av.container.InputContainer", media: MediaDescription, source: Source
) -> tuple[MediaDescription, Preview | None]:
    """How it looks: a film's scenes and a sheet of their key frames, or the cover of a record."""
    from av.stream import Disposition  # noqa: PLC0415 - of an extra

    covers = [stream for stream in container.streams.video if stream.disposition & Disposition.attached_pic]
    films = [stream for stream in container.streams.video if stream not in covers]
    if source.modality is Modality.VIDEO and films:
        return _film(container, films[0], media, source.page_id)
    if covers:
        packet = next(iter(container.demux(covers[0])))
        try:
            _, preview = _picture(bytes(packet), MediaDescription(), source.page_id)
        except _Unreadable as unreadable:
            _log.warning("a cover cannot be read: %s", unreadable, extra={"page": source.page_id})
            return media, None
        return media, preview
    return media, None


def _film(
    container: "av.container.InputContainer",
    stream: "av.video.stream.VideoStream",
    media: MediaDescription,
    page_id: str,
) -> tuple[MediaDescription, Preview | None]:
    import av  # noqa: PLC0415 - of an extra

    from pagekeeper.core.compress.pictures import colour_of, contact_sheet  # noqa: PLC0415 - of an extra

    media = replace(media, width=media.width or stream.width, height=media.height or stream.height)
    stream.codec_context.skip_frame = "NONKEY"
    stream.codec_context.options = {"max_pixels": str(FRAME_PIXELS_MAX)}
    frames = (frame for frame, _ in zip(container.decode(stream), range(KEYFRAMES_MAX), strict=False))
    try:
        scenes = list(_beginnings(frames))
    except (av.FFmpegError, ValueError) as error:
        _log.warning("a film's frames cannot be decoded: %s", error, extra={"page": page_id})
        return media, None
    if not scenes:
        return media, None
    described = tuple(f"{_clock(at)} scene, mostly {colour_of(picture)}" for at, picture in scenes)
    sheet = contact_sheet([(_clock(at), picture) for at, picture in scenes])
    return replace(media, scenes=media.scenes or described), sheet


def _beginnings(frames: Iterator["av.VideoFrame"]) -> Iterator[tuple[float, "Image.Image"]]:
    """When a key frame looks unlike the one before, and how; the first does. The first few."""
    from PIL.Image import fromarray  # noqa: PLC0415 - of an extra

    from pagekeeper.core.compress.pictures import TILE_PX  # noqa: PLC0415 - of an extra

    before = b""
    begun = 0
    for frame in frames:
        pixels = frame.reformat(FRAME_PIXELS, FRAME_PIXELS, "gray").to_ndarray().tobytes()
        difference = sum(abs(a - b) for a, b in zip(before, pixels, strict=False))
        if not before or difference >= SCENE_DIFFERENCE_MIN * len(pixels):
            width, height = _within(TILE_PX, frame.width, frame.height)
            yield float(frame.time or 0.0), fromarray(frame.reformat(width, height, "rgb24").to_ndarray())
            begun += 1
            if begun == SCENES_MAX:
                return
        before = pixels


def _within(side_px: int, width: int, height: int) -> tuple[int, int]:
    longer = max(width, height)
    return max(1, width * side_px // longer), max(1, height * side_px // longer)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
