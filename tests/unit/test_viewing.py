"""Media tell their size, their length and when their scenes begin; nothing that was written about them is lost."""

from dataclasses import replace
from fractions import Fraction
from io import BytesIO

import pytest

from pagekeeper.fault_handler.viewing import viewed
from pagekeeper.memory.compress.compressor import Source
from pagekeeper.memory.pages import MediaDescription, Modality

av = pytest.importorskip("av")
image = pytest.importorskip("PIL.Image")
numpy = pytest.importorskip("numpy")

FPS = 10
FILM = Source("v1", Modality.VIDEO, media=MediaDescription("A walk through three rooms"))


def film(*shades: int, seconds: int = 2) -> bytes:
    """A film of one scene for each shade of grey."""
    data = BytesIO()
    with av.open(data, "w", format="matroska") as container:
        stream = container.add_stream("mpeg4", rate=FPS)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.codec_context.gop_size = FPS // 2
        stream.time_base = Fraction(1, FPS)
        for shade in shades:
            for _ in range(seconds * FPS):
                frame = av.VideoFrame.from_ndarray(numpy.full((64, 64, 3), shade, dtype="uint8"), format="rgb24")
                for packet in stream.encode(frame):
                    container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return data.getvalue()


def test_a_film_tells_when_its_scenes_begin() -> None:
    told = viewed(FILM, film(10, 200, 90)).media
    assert told is not None
    assert told.caption == "A walk through three rooms"
    assert (told.width, told.height, round(told.duration_seconds)) == (64, 64, 6)
    assert told.scenes == ("0:00 scene", "0:02 scene", "0:04 scene")


def test_what_was_written_stays() -> None:
    media = MediaDescription("A walk", scenes=("The hall", "The stairs"), duration_seconds=7.0, width=1, height=2)
    assert viewed(replace(FILM, media=media), film(10, 200)).media == media


def test_a_picture_tells_its_size() -> None:
    data = BytesIO()
    image.new("RGB", (31, 17)).save(data, "PNG")
    told = viewed(Source("i1", Modality.IMAGE, media=MediaDescription("A dot")), data.getvalue()).media
    assert told == MediaDescription("A dot", width=31, height=17)


@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.AUDIO, Modality.VIDEO])
@pytest.mark.parametrize("data", [b"", b"no medium at all", film(10)[:300]])
def test_what_cannot_be_read_is_what_was_written(modality: Modality, data: bytes) -> None:
    source = Source("m1", modality, media=MediaDescription("A thing"))
    told = viewed(source, data).media
    assert told is not None
    assert told.caption == "A thing"


def test_text_is_not_looked_at() -> None:
    source = Source("t1", Modality.TEXT, "words")
    assert viewed(source, b"bytes") == source
