"""Media tell their size, their length and when their scenes begin; nothing that was written about them is lost."""

from dataclasses import replace
from io import BytesIO

import pytest

from pagekeeper.fault_handler import viewing
from pagekeeper.fault_handler.viewing import viewed
from pagekeeper.memory.compress.compressor import Source
from pagekeeper.memory.pages import MediaDescription, Modality
from tests.unit.films import film

image = pytest.importorskip("PIL.Image")

FILM = Source("v1", Modality.VIDEO, media=MediaDescription("A walk through three rooms"))


def test_a_film_tells_when_its_scenes_begin() -> None:
    told = viewed(FILM, film(10, 200, 90)).media
    assert told is not None
    assert told.caption == "A walk through three rooms"
    assert (told.width, told.height, round(told.duration_seconds)) == (64, 64, 6)
    assert told.scenes == ("0:00 scene", "0:02 scene", "0:04 scene")


def test_frames_beyond_the_limit_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "FRAME_PIXELS_MAX", 64 * 64 - 1)
    told = viewed(FILM, film(10, 200)).media
    assert told is not None
    assert (told.width, told.height, round(told.duration_seconds), told.scenes) == (64, 64, 4, ())


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
