"""What media tell of themselves and look like joins what was written about them, and replaces none of it."""

from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.compress.media import UNDECODABLE
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.pages import CompressionLevel, MediaDescription, Modality
from pagekeeper.core.previews import PREVIEW_BYTES_MAX, Preview
from pagekeeper.fault_handler import viewing
from pagekeeper.fault_handler.viewing import lowered, viewed
from tests.unit.films import film, song

image = pytest.importorskip("PIL.Image")
numpy = pytest.importorskip("numpy")
pictures = pytest.importorskip("pagekeeper.core.compress.pictures")

FILM = Source("v1", Modality.VIDEO, media=MediaDescription("A walk through three rooms"))
SONG = Source("a1", Modality.AUDIO, media=MediaDescription())
PICTURE = Source("i1", Modality.IMAGE, media=MediaDescription("A dot"))


def told(source: Source, data: bytes) -> MediaDescription:
    media = viewed(source, data).source.media
    assert media is not None
    return media


def encoded(picture: object, kind: str = "PNG", **options: object) -> bytes:
    data = BytesIO()
    picture.save(data, kind, **options)  # type: ignore[attr-defined]  # of an extra
    return data.getvalue()


def shown(preview: Preview | None) -> tuple[int, int]:
    """The size of a preview that is what it says, and not too large."""
    assert preview is not None
    assert len(preview.data) <= PREVIEW_BYTES_MAX
    with image.open(BytesIO(preview.data)) as opened:
        opened.load()
        assert opened.get_format_mimetype() == preview.mime_type
        size: tuple[int, int] = opened.size
        return size


def levels(source: Source, data: bytes) -> Sequence[Compressed]:
    return lowered(CompressorRegistry.default(), source, data, "", len).levels


def test_a_film_tells_when_its_scenes_begin_and_what_colour_they_have() -> None:
    media = told(FILM, film(10, (200, 30, 30), (20, 20, 90), (220, 215, 210)))
    assert media.caption == "A walk through three rooms"
    assert (media.width, media.height, round(media.duration_seconds)) == (64, 64, 8)
    shades = ["black", "red", "dark blue", "light grey"]
    assert media.scenes == tuple(f"0:0{2 * index} scene, mostly {shade}" for index, shade in enumerate(shades))


def test_a_film_is_shown_by_a_frame_of_each_scene() -> None:
    preview = viewed(FILM, film(*[10, 200] * 3)).preview
    assert shown(preview) == (4 * 128, 2 * 128)
    assert preview is not None
    with image.open(BytesIO(preview.data)) as sheet:
        centres = [sheet.getpixel((column * 128 + 64, row * 128 + 64))[0] for row in (0, 1) for column in range(4)]
    assert [round(shade / 100) for shade in centres] == [0, 2, 0, 2, 0, 2, 0, 0]


def test_what_is_written_and_said_in_a_film_is_told() -> None:
    said = ["The key is under the mat.", "Bring two  lanterns.", "The key is under the mat."]
    source = Source("v1", Modality.VIDEO, media=MediaDescription())
    media = told(source, film(10, 200, 90, said=said, chapters=["Arrival", "", "Descent"], tags={"title": "Caves"}))
    assert media.caption == "Caves"
    assert media.transcript == "The key is under the mat.\nBring two lanterns."
    assert media.scenes == ("0:00 Arrival", "0:04 Descent")


def test_what_a_model_hears_is_told_where_nobody_wrote_what_is_said() -> None:
    assert told(FILM, film(10, said=["Mind the step."])).transcript == "Mind the step."
    for data in (film(10), b"no film"):
        heard = viewed(FILM, data, "Mind the gap.")
        assert (heard.source.media or MediaDescription()).transcript == "Mind the gap."
        assert heard.decoded
    written = viewed(replace(FILM, media=MediaDescription(transcript="Hello.")), film(10), "Mind the gap.")
    assert (written.source.media or MediaDescription()).transcript == "Hello."
    assert viewed(FILM, film(10, said=["Mind the step."]), "Mind the gap.").source.media == told(
        FILM, film(10, said=["Mind the step."])
    )


def test_what_is_said_is_told_whole_unless_it_is_long() -> None:
    short = ["The committee met on 3 May, and after a long discussion it agreed on nothing at all."]
    assert short[0] in levels(FILM, film(10, said=short))[0].text
    [long, *_] = levels(
        FILM, film(*[10] * 60, seconds=1, said=[f"{short[0]} That was meeting {n}." for n in range(60)])
    )
    assert "3 May" in long.text
    assert len(long.text) < 60 * len(short[0])


def test_frames_beyond_the_limit_are_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(viewing, "FRAME_PIXELS_MAX", 64 * 64 - 1)
    seen = viewed(FILM, film(10, 200))
    assert seen.source.media is not None
    media = seen.source.media
    assert (media.width, media.height, round(media.duration_seconds), media.scenes) == (64, 64, 4, ())
    assert seen.preview is None
    monkeypatch.setattr(pictures, "PIXELS_MAX", 64 * 64 - 1)
    large = viewed(PICTURE, encoded(image.new("RGB", (64, 64))))
    assert (large.source.media, large.preview) == (MediaDescription("A dot", width=64, height=64), None)
    assert large.problem == "a picture of 64 x 64 is too large to show"


def test_what_was_written_stays() -> None:
    media = MediaDescription("A walk", "Steps", 1, 2, 7.0, ("The hall", "The stairs"))
    assert told(replace(FILM, media=media), film(10, 200, said=["x"], chapters=["y"], tags={"title": "z"})) == media


def test_a_song_tells_its_tags_and_shows_its_cover() -> None:
    cover = encoded(image.new("RGB", (300, 300), "red"), "JPEG")
    seen = viewed(SONG, song(cover, tags={"title": "Nocturne", "artist": "Nobody", "LYRICS": "Quiet now"}))
    assert seen.source.media == MediaDescription("Nocturne, Nobody", "Quiet now", duration_seconds=1.0)
    assert shown(seen.preview) == (300, 300)
    assert viewed(SONG, song()).preview is None


def test_a_cover_that_cannot_be_read_is_not_shown() -> None:
    seen = viewed(SONG, song(b"no picture", tags={"title": "Nocturne"}))
    assert (seen.preview, seen.decoded) == (None, True)
    assert seen.source.media == MediaDescription("Nocturne", duration_seconds=1.0)


def test_a_picture_tells_its_size_and_what_is_written_in_it() -> None:
    assert told(PICTURE, encoded(image.new("RGB", (31, 17)))) == MediaDescription("A dot", width=31, height=17)
    exif = image.Exif()
    exif[viewing.EXIF_DESCRIPTION] = "The  harbour\nat dawn"
    photo = encoded(image.new("RGB", (31, 17)), "JPEG", exif=exif)
    assert told(replace(PICTURE, media=MediaDescription()), photo).caption == "The harbour at dawn"


@pytest.mark.parametrize(("mode", "mime_type"), [("RGB", "image/jpeg"), ("RGBA", "image/png")])
def test_noise_of_any_mode_fits_a_preview(mode: str, mime_type: str) -> None:
    pixels = numpy.random.default_rng(7).integers(0, 256, (900, 1200, len(mode)), dtype="uint8")
    preview = viewed(PICTURE, encoded(image.fromarray(pixels, mode))).preview
    assert preview is not None
    assert preview.mime_type == mime_type
    assert min(shown(preview)) >= 72


@given(
    width=st.integers(1, 700), height=st.integers(1, 700), mode=st.sampled_from(["1", "L", "P", "RGB", "LA", "RGBA"])
)
def test_a_picture_of_any_shape_has_a_preview_no_larger_than_it(width: int, height: int, mode: str) -> None:
    preview_width, preview_height = shown(viewed(PICTURE, encoded(image.new(mode, (width, height)))).preview)
    assert 1 <= preview_width <= min(width, 512)
    assert 1 <= preview_height <= min(height, 512)


@pytest.mark.parametrize("modality", [Modality.IMAGE, Modality.AUDIO, Modality.VIDEO])
@pytest.mark.parametrize("data", [b"", b"no medium at all", film(10)[:300], encoded(image.new("RGB", (90, 90)))[:60]])
def test_what_cannot_be_read_is_what_was_written(modality: Modality, data: bytes) -> None:
    source = Source("m1", modality, media=MediaDescription("A thing"))
    assert told(source, data).caption == "A thing"


@pytest.mark.parametrize(
    "elsewhere",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile 'http://127.0.0.1:9/a.mkv'\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ],
    ids=["hls", "concat", "sdp"],
)
def test_what_only_says_where_a_recording_is_is_not_opened(elsewhere: bytes) -> None:
    assert not viewed(FILM, elsewhere).decoded


def test_what_was_decoded_is_at_the_first_level_though_it_saves_nothing() -> None:
    [reduced] = levels(PICTURE, encoded(image.new("RGB", (31, 17))))
    assert (reduced.level, reduced.text) == (CompressionLevel.REDUCED, "A dot")
    assert shown(reduced.preview) == (31, 17)
    [bare] = levels(replace(PICTURE, media=MediaDescription()), encoded(image.new("RGB", (31, 17))))
    assert bare.text == "image, 31x17 pixels"
    [marked] = levels(PICTURE, b"no picture")
    assert (marked.level, marked.text) == (CompressionLevel.REDUCED, "A dot\n(its bytes cannot be decoded)")
    assert (marked.compressor, marked.preview) == (UNDECODABLE, None)


def test_text_is_not_looked_at() -> None:
    source = Source("t1", Modality.TEXT, "words")
    assert viewed(source, b"bytes").source == source
