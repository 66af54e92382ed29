"""Films and songs for tests, made by the encoders of the extra `media`."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from io import BytesIO

import pytest

av = pytest.importorskip("av")
numpy = pytest.importorskip("numpy")

FPS = 10
MILLISECONDS = Fraction(1, 1000)
ATTACHED_PICTURE = 1024
NO_STYLE = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
"""What a track of subtitles begins with."""


def film(
    *shades: int | tuple[int, int, int],
    seconds: int = 2,
    said: Sequence[str] = (),
    chapters: Sequence[str] = (),
    tags: Mapping[str, str] | None = None,
) -> bytes:
    """A film of one scene for each shade of grey, or colour; its subtitles and chapters begin with the scenes."""
    data = BytesIO()
    with av.open(data, "w", format="matroska") as container:
        container.metadata.update(tags or {})
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = FPS // 2
        stream.time_base = Fraction(1, FPS)
        subtitles = container.add_stream("subrip") if said else None
        if subtitles is not None:
            subtitles.codec_context.subtitle_header = NO_STYLE
        container.set_chapters([_chapter(index, title, seconds) for index, title in enumerate(chapters)])
        for shade in shades:
            for _ in range(seconds * FPS):
                frame = av.VideoFrame.from_ndarray(numpy.full((64, 64, 3), shade, dtype="uint8"), format="rgb24")
                for packet in stream.encode(frame):
                    container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
        for index, line in enumerate(said):
            packet = av.Packet(line.encode())
            packet.stream, packet.time_base = subtitles, MILLISECONDS
            packet.pts = packet.dts = index * seconds * 1000
            packet.duration = seconds * 1000
            container.mux(packet)
    return data.getvalue()


def _chapter(index: int, title: str, seconds: int) -> dict[str, object]:
    start = index * seconds * 1000
    end = start + seconds * 1000
    return {"id": index, "start": start, "end": end, "time_base": MILLISECONDS, "metadata": {"title": title}}


def song(cover: bytes = b"", seconds: int = 1, tags: Mapping[str, str] | None = None) -> bytes:
    """Silence, with a JPEG of 300 x 300 as its cover if one is given."""
    data = BytesIO()
    with av.open(data, "w", format="flac") as container:
        container.metadata.update(tags or {})
        stream = container.add_stream("flac", rate=8000, layout="mono")
        picture = container.add_stream("mjpeg") if cover else None
        if picture is not None:
            picture.width = picture.height = 300
            picture.pix_fmt = "yuvj420p"
            picture.disposition = ATTACHED_PICTURE
        container.start_encoding()
        if cover:
            packet = av.Packet(cover)
            packet.stream, packet.time_base = picture, MILLISECONDS
            packet.pts = packet.dts = 0
            container.mux(packet)
        silence = numpy.zeros((1, 8000 * seconds), dtype="int16")
        frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
        frame.sample_rate = 8000
        for packet in (*stream.encode(frame), *stream.encode()):
            container.mux(packet)
    return data.getvalue()
