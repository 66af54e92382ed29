"""Facts that a decoder reads from a medium: size, length, embedded text, subtitles, and a preview.

Needs the decoders of the extra `media`. Without them, and for bytes that they cannot read, a page is what was written
about it, and its lower level says so. Whatever was written about it is never replaced.

The bytes are hostile: `compression_child` confines the process that calls this module. Formats are a list here, and
frames and pixels have limits, so that a decoder is asked for no more than a preview needs.
"""

import resource
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING, Final

from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.compress.media import as_undecodable, with_what_was_seen
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.pages import MediaDescription, Modality
from pagekeeper.core.previews import Preview

if TYPE_CHECKING:
    import av
    from PIL import Image

VIEWED_BYTES_MAX: Final = 64 * 1024 * 1024
FRAME_PIXELS_MAX: Final = 16 * 1024 * 1024
"""Of a film that is decoded; of a larger film, or one that says so, the size and the length are told."""
KEYFRAMES_MAX: Final = 512
FILM_CPU_SECONDS_MAX: Final = 4.0
"""Of the processor's time that a page has taken when no further key frame is decoded: a long film is shown in part."""
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
PROBLEM_CHARS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Viewed:
    """A page with what its bytes tell, and what it looks like. `decoded` is false when they told nothing.

    `problem` is why not all of it is known; empty for a page that has no bytes to tell anything.
    """

    source: Source
    preview: Preview | None = None
    decoded: bool = False
    problem: str = ""
    undecodable: bool = False
    """Whether the bytes were tried, and no decoder reads them."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """The lower levels of a page, and why a medium's have less than its bytes might tell; empty when they have all."""

    levels: list[Compressed]
    problem: str = ""


def lowered(
    registry: CompressorRegistry, source: Source, data: bytes, heard: str, count: Callable[[str], int]
) -> Lowered:
    """The lower levels of a page; of a medium that can be decoded, what it tells and looks like is at the first.

    The first level of a medium that cannot be decoded says so.
    """
    return _lowered(registry, source, viewed(source, data, heard), count)


def lowered_undecoded(registry: CompressorRegistry, source: Source, heard: str, count: Callable[[str], int]) -> Lowered:
    """The lower levels of a medium whose bytes are known to be undecodable, as `lowered` makes them."""
    return _lowered(registry, source, replace(viewed(source, b"", heard), undecodable=True), count)


def _lowered(registry: CompressorRegistry, source: Source, seen: Viewed, count: Callable[[str], int]) -> Lowered:
    levels = registry.compress_all(seen.source, count)
    if seen.decoded:
        levels = with_what_was_seen(source, seen.source, levels, seen.preview, count)
    elif seen.undecodable:
        levels = as_undecodable(source, levels, count)
    return Lowered(levels, seen.problem)


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
    if not data or decoders_missing():
        return Viewed(source)
    if len(data) > VIEWED_BYTES_MAX:
        return Viewed(source, problem=f"more than {VIEWED_BYTES_MAX:,} bytes are not read", undecodable=True)
    try:
        return _picture(data, source, media) if source.modality is Modality.IMAGE else _recording(data, source, media)
    except _Unreadable as unreadable:
        return Viewed(source, problem=f"{source.modality.value} cannot be read: {unreadable}", undecodable=True)


class _Unreadable(Exception):
    """The decoders make nothing of the bytes."""


@cache
def decoders_missing() -> tuple[str, ...]:
    """The packages of the extra `media` that are not installed: without one of them no medium is decoded."""
    return tuple(name for name in ("av", "PIL") if find_spec(name) is None)


def _picture(data: bytes, source: Source, media: MediaDescription) -> Viewed:
    from PIL import Image  # noqa: PLC0415 - of an extra

    from pagekeeper.core.compress.pictures import FORMATS  # noqa: PLC0415 - of an extra

    try:
        with warnings.catch_warnings():
            # Also a picture that Pillow would only warn of says more pixels than any that is decoded has.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(BytesIO(data), formats=FORMATS) as image:
                width, height = image.size
                said = [image.getexif().get(EXIF_DESCRIPTION), *map(image.info.get, WRITTEN_IN_PICTURES)]
                caption = media.caption or _written([one for one in said if isinstance(one, str)])
                told = replace(media, caption=caption, width=media.width or width, height=media.height or height)
                preview, problem = _thumbnail(image)
    except _broken_picture() as error:
        raise _Unreadable(_said_by(error)) from error
    return Viewed(replace(source, media=told), preview, decoded=True, problem=problem)


def _thumbnail(image: "Image.Image") -> tuple[Preview | None, str]:
    """None, and why, for a picture whose pixels cannot be had, though it has said how many there are."""
    from pagekeeper.core.compress.pictures import fits, preview_of, upright  # noqa: PLC0415 - of an extra

    size = f"{image.width} x {image.height}"
    try:
        return (preview_of(upright(image)), "") if fits(image) else (None, f"a picture of {size} is too large to show")
    except _broken_picture() as error:
        return None, f"a picture has no thumbnail: {_said_by(error)}"


def _broken_picture() -> tuple[type[Exception], ...]:
    """The errors of Pillow for bytes that it cannot read, or not within this process's memory."""
    from PIL import Image  # noqa: PLC0415 - of an extra

    too_large = (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning)
    return (OSError, ValueError, SyntaxError, EOFError, *too_large)


def _said_by(error: Exception) -> str:
    """One line of an error, which may quote the bytes: escaped, and not long."""
    return ascii(f"{type(error).__name__}: {error}"[:PROBLEM_CHARS_MAX])[1:-1]


def _recording(data: bytes, source: Source, media: MediaDescription) -> Viewed:
    import av  # noqa: PLC0415 - of an extra

    broken = (av.FFmpegError, OSError, ValueError, EOFError, MemoryError)
    try:
        with av.open(BytesIO(data), "r", options=SELF_CONTAINED) as container:
            media = _played(container, media)
    except broken as error:
        raise _Unreadable(_said_by(error)) from error
    try:
        if not media.transcript:
            media = replace(media, transcript=_subtitles(data))
        with av.open(BytesIO(data), "r", options=SELF_CONTAINED) as container:
            return _seen(container, source, media)
    except broken as error:
        problem = f"a recording is known by its tags alone: {_said_by(error)}"
        return Viewed(replace(source, media=media), decoded=True, problem=problem)


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


def _seen(container: "av.container.InputContainer", source: Source, media: MediaDescription) -> Viewed:
    """How it looks: a film's scenes and a sheet of their key frames, or the cover of a record."""
    from av.stream import Disposition  # noqa: PLC0415 - of an extra

    covers = [stream for stream in container.streams.video if stream.disposition & Disposition.attached_pic]
    films = [stream for stream in container.streams.video if stream not in covers]
    preview, problem = None, ""
    if source.modality is Modality.VIDEO and films:
        media, preview, problem = _film(container, films[0], media)
    elif covers:
        packet = next(iter(container.demux(covers[0])))
        try:
            preview = _picture(bytes(packet), Source(source.page_id, Modality.IMAGE), MediaDescription()).preview
        except _Unreadable as unreadable:
            problem = f"a cover cannot be read: {unreadable}"
    return Viewed(replace(source, media=media), preview, decoded=True, problem=problem)


def _film(
    container: "av.container.InputContainer", stream: "av.video.stream.VideoStream", media: MediaDescription
) -> tuple[MediaDescription, Preview | None, str]:
    """The facts of a film with its scenes, a sheet of them, and why there is none."""
    import av  # noqa: PLC0415 - of an extra

    from pagekeeper.core.compress.pictures import colour_of, contact_sheet  # noqa: PLC0415 - of an extra

    media = replace(media, width=media.width or stream.width, height=media.height or stream.height)
    stream.codec_context.skip_frame = "NONKEY"
    stream.codec_context.options = {"max_pixels": str(FRAME_PIXELS_MAX)}
    # A thread's stack and heap would be most of the memory that a film may take, on a machine of many cores.
    stream.codec_context.thread_count = 1
    frames = (frame for frame, _ in zip(container.decode(stream), range(KEYFRAMES_MAX), strict=False))
    try:
        scenes = list(_beginnings(frames))
    except (av.FFmpegError, ValueError, MemoryError) as error:
        return media, None, f"a film's frames cannot be decoded: {_said_by(error)}"
    if not scenes:
        return media, None, "a film has no frames"
    described = tuple(f"{_clock(at)} scene, mostly {colour_of(picture)}" for at, picture in scenes)
    sheet = contact_sheet([(_clock(at), picture) for at, picture in scenes])
    return replace(media, scenes=media.scenes or described), sheet, ""


def _beginnings(frames: Iterator["av.VideoFrame"]) -> Iterator[tuple[float, "Image.Image"]]:
    """When a key frame looks unlike the one before, and how; the first does. The first few."""
    from PIL.Image import fromarray  # noqa: PLC0415 - of an extra

    from pagekeeper.core.compress.pictures import TILE_PX  # noqa: PLC0415 - of an extra

    before = b""
    begun = 0
    started = _cpu_seconds()
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
        if _cpu_seconds() - started >= FILM_CPU_SECONDS_MAX:
            return


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _within(side_px: int, width: int, height: int) -> tuple[int, int]:
    longer = max(width, height)
    return max(1, width * side_px // longer), max(1, height * side_px // longer)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
