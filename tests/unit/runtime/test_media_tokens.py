"""Pictures and sound cost what their providers publish, with the providers' own examples."""

import base64
import io
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.runtime.tokens import EncodingName, count_messages, tokenizer
from pagekeeper.runtime.tokens.media import UNKNOWN_SIZE, ImageDetail, audio_tokens, image_tokens, part_tokens

MODELS = ["gpt-4o", "gpt-4o-mini", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-5", "gpt-5-mini", "o1", "o3"]
MODELS += ["o4-mini", "claude-sonnet-4-5", "claude-opus-4-7", "gemini-2.5-flash", "nobody-knows"]
sizes = st.tuples(st.integers(1, 9_000), st.integers(1, 9_000))


@pytest.mark.parametrize(
    ("model", "size", "tokens"),
    [
        # OpenAI, "Images and vision": the examples of the page, and pictures that people were billed for.
        ("gpt-4o", (1_024, 1_024), 765),
        ("gpt-4o", (2_048, 4_096), 1_105),
        ("gpt-4o", (128, 64), 255),
        ("gpt-4o-mini", (128, 64), 8_500),
        ("gpt-5", (1_024, 1_024), 630),
        ("o3-2025-04-16", (128, 64), 225),
        ("gpt-4.1-mini", (1_024, 1_024), 1_659),
        ("gpt-4.1-mini", (1_800, 2_400), 2_353),
        ("gpt-4.1-mini-2025-04-14", (128, 64), 13),
        ("gpt-4.1-nano", (128, 64), 20),
        ("o4-mini", (128, 64), 14),
        # Anthropic, "Vision": the table of sizes that are not shrunk.
        ("claude-sonnet-4-5", (200, 200), 54),
        ("claude-3-7-sonnet-latest", (1_000, 1_000), 1_334),
        ("claude-sonnet-4-5", (8_000, 8_000), 1_600),
        # Google, "Understand and count tokens".
        ("gemini-2.5-flash", (384, 384), 258),
        ("gemini-2.0-flash", (960, 540), 6 * 258),
    ],
)
def test_a_picture_costs_what_is_published(model: str, size: tuple[int, int], tokens: int) -> None:
    assert image_tokens(model, size) == tokens


def test_a_careless_look_costs_the_base() -> None:
    assert image_tokens("gpt-4o", (4_096, 8_192), ImageDetail.LOW) == 85
    assert image_tokens("gpt-4o-mini", (4_096, 8_192), ImageDetail.LOW) == 2_833


@given(size=sizes)
def test_no_picture_costs_more_than_one_of_unknown_size(size: tuple[int, int]) -> None:
    for model in MODELS[:-3]:
        assert 1 <= image_tokens(model, size) <= image_tokens(model, UNKNOWN_SIZE) * 2


@given(size=sizes)
def test_a_model_without_a_formula_pays_the_most(size: tuple[int, int]) -> None:
    assert image_tokens("nobody-knows", size) >= max(image_tokens(model, size) for model in MODELS)


def test_sound_costs_what_is_published() -> None:
    assert audio_tokens("gpt-4o-audio-preview", 12.0) == 120
    assert audio_tokens("gemini-2.5-flash", 60.0) == 1_920
    assert audio_tokens("nobody-knows", 1.01) == 33


def data_url(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def picture(url: str, **options: str) -> dict[str, object]:
    return {"type": "image_url", "image_url": {"url": url, **options}}


@pytest.mark.parametrize("kind", ["png", "jpeg", "gif"])
def test_a_picture_in_a_message_says_its_size(kind: str) -> None:
    image = pytest.importorskip("PIL.Image")
    written = io.BytesIO()
    image.new("RGB", (1_024, 1_024)).save(written, kind)
    assert part_tokens("gpt-4o", picture(data_url(kind, written.getvalue()))) == 765
    assert part_tokens("gpt-4o", picture(data_url(kind, written.getvalue()), detail="low")) == 85


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", data_url("png", b"\x89PNG"), data_url("jpeg", b"\xff\xd8")]
)
def test_a_picture_that_hides_its_size_costs_the_most(url: str) -> None:
    assert part_tokens("gpt-4o", picture(url)) == image_tokens("gpt-4o", UNKNOWN_SIZE)


def test_sound_in_a_message_says_its_length_or_is_as_long_as_its_bytes_allow() -> None:
    wav = (
        b"RIFF" + bytes(4) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 16_000, 32_000, 2, 16) + bytes(64_000 - 36)
    )
    for data, seconds in ((wav, 2), (bytes(4_000), 4)):
        sound = {"type": "input_audio", "input_audio": {"data": base64.b64encode(data).decode(), "format": "wav"}}
        assert part_tokens("gpt-4o-audio-preview", sound) == seconds * 10


def test_parts_of_a_message_cost_what_they_are() -> None:
    counter = tokenizer(EncodingName.O200K_BASE)
    url = picture("https://example.com/a.png", detail="low")
    words = [{"role": "user", "content": "What is this?"}]
    parts = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, url]}]
    assert count_messages(counter, parts, "gpt-4o") == count_messages(counter, words) + 85
    assert part_tokens("gpt-4o", {"type": "file", "file": {"file_id": "f"}}) is None
    assert part_tokens("gpt-4o", {"type": "image_url", "image_url": {}}) is None
