"""Tokens of pictures and sound, by the formulas that the providers publish.

A prompt of Pagekeeper shows a medium as its description, which counts as text. The formulas are for requests that carry
the medium itself.
"""

import math
import re
import struct
from base64 import b64decode
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import partial
from typing import Final

Size = tuple[int, int]
"""Width and height in pixels."""


class ImageDetail(StrEnum):
    """How closely a model looks; `auto` may turn out to be HIGH."""

    LOW = "low"
    HIGH = "high"


ImageRule = Callable[[Size, ImageDetail], int]

# OpenAI, "Images and vision": pictures as tiles of 512 pixels, for the models that are not small.
_SQUARE_PX: Final = 2_048
_SHORTEST_PX: Final = 768
_TILE_PX: Final = 512
# The same page: pictures as patches of 32 pixels, times a factor of the model.
_PATCH_PX: Final = 32
_PATCHES_MAX: Final = 1_536
# Google, "Understand and count tokens".
_GEMINI_TILE_TOKENS: Final = 258
_GEMINI_SMALL_PX: Final = 384
_GEMINI_CROP_PX: Final = (256, 768)
# Anthropic, "Vision".
_CLAUDE_PX_PER_TOKEN: Final = 750

UNKNOWN_SIZE: Final = (8_192, 8_192)
"""Large enough for the most that any formula asks."""


def _tiles(base_tokens: int, tile_tokens: int, size: Size, detail: ImageDetail) -> int:
    if detail is ImageDetail.LOW:
        return base_tokens
    width, height = size
    scale = min(1.0, _SQUARE_PX / max(size))
    scale *= min(1.0, _SHORTEST_PX / (min(size) * scale))
    tiles = math.ceil(_whole(width * scale) / _TILE_PX) * math.ceil(_whole(height * scale) / _TILE_PX)
    return base_tokens + tile_tokens * tiles


def _patches(factor: float, size: Size, _: ImageDetail) -> int:
    """A picture of more than _PATCHES_MAX patches is shrunk until its shorter side, too, is a whole number of them."""
    width, height = size
    patches = math.ceil(width / _PATCH_PX) * math.ceil(height / _PATCH_PX)
    if patches > _PATCHES_MAX:
        scale = math.sqrt(_PATCH_PX**2 * _PATCHES_MAX / (width * height))
        across, down = width * scale / _PATCH_PX, height * scale / _PATCH_PX
        scale = min(math.floor(across) / across, math.floor(down) / down)
        patches = min(_PATCHES_MAX, math.ceil(_whole(across * scale)) * math.ceil(_whole(down * scale)))
    return math.ceil(patches * factor)


def _claude(longest_px: int, tokens_max: int, size: Size, _: ImageDetail) -> int:
    scale = min(1.0, longest_px / max(size))
    return min(tokens_max, math.ceil(size[0] * scale * size[1] * scale / _CLAUDE_PX_PER_TOKEN))


def _gemini(size: Size, _: ImageDetail) -> int:
    if max(size) <= _GEMINI_SMALL_PX:
        return _GEMINI_TILE_TOKENS
    low, high = _GEMINI_CROP_PX
    crop_px = min(high, max(low, int(min(size) / 1.5)))
    return _GEMINI_TILE_TOKENS * math.ceil(size[0] / crop_px) * math.ceil(size[1] / crop_px)


def _whole(length: float) -> float:
    """Without what floating point adds to a whole number."""
    return round(length, 6)


_IMAGE_RULES: Final[tuple[tuple[re.Pattern[str], ImageRule], ...]] = tuple(
    (re.compile(rf"(?:^|[/:.])(?:{pattern})(?![0-9a-z.])"), rule)
    for pattern, rule in (
        (r"gpt-5-mini|gpt-4\.1-mini", partial(_patches, 1.62)),
        (r"gpt-5-nano|gpt-4\.1-nano", partial(_patches, 2.46)),
        (r"o4-mini", partial(_patches, 1.72)),
        (r"gpt-4o-mini", partial(_tiles, 2_833, 5_667)),
        (r"gpt-5", partial(_tiles, 70, 140)),
        (r"o1|o3", partial(_tiles, 75, 150)),
        (r"(?:chat)?gpt-4o|gpt-4\.[15]|gpt-4-turbo|gpt-4-vision", partial(_tiles, 85, 170)),
        (r"claude-(?:[a-z]+-)?(?:4[.-][7-9]|[5-9])", partial(_claude, 2_576, 4_784)),
        (r"claude-[a-z0-9.-]+", partial(_claude, 1_568, 1_600)),
        (r"gemini-[a-z0-9.-]+|gemma-[a-z0-9.-]+", _gemini),
    )
)

_AUDIO_TOKENS_PER_SECOND: Final = (
    # OpenAI, "Managing costs" of the Realtime API: a token for 100 ms of what the user says.
    (re.compile(r"(?:^|[/:])gpt-"), 10),
    # Google, "Understand and count tokens".
    (re.compile(r"(?:^|[/:])gemini"), 32),
)
_BYTES_PER_SECOND_MIN: Final = 1_000
"""8 kbit/s: nobody encodes sound in less, so a file of unknown length is no longer than that makes it."""


def image_tokens(model: str, size: Size, detail: ImageDetail = ImageDetail.HIGH) -> int:
    """Tokens of a picture. A model whose provider publishes no formula is charged the most that any formula asks."""
    for pattern, rule in _IMAGE_RULES:
        if pattern.search(model.lower()):
            return rule(size, detail)
    return max(rule(size, detail) for _, rule in _IMAGE_RULES)


def audio_tokens(model: str, duration_seconds: float) -> int:
    """Tokens of sound. A model whose provider publishes no rate is charged the highest."""
    rates = [rate for pattern, rate in _AUDIO_TOKENS_PER_SECOND if pattern.search(model.lower())]
    rates = rates or [rate for _, rate in _AUDIO_TOKENS_PER_SECOND]
    return math.ceil(duration_seconds * max(rates))


def part_tokens(model: str, part: Mapping[str, object]) -> int | None:
    """Tokens of a content part of Chat Completions that is a picture or sound; None for any other.

    A linked medium is not fetched, and counts as the largest possible one. Raises ValueError for data that is
    no base64.
    """
    match part:
        case {"type": "image_url", "image_url": {"url": str(url), **options}}:
            detail = ImageDetail.LOW if options.get("detail") == ImageDetail.LOW else ImageDetail.HIGH
            return image_tokens(model, _size_of(url) or UNKNOWN_SIZE, detail)
        case {"type": "input_audio", "input_audio": {"data": str(data)}}:
            return audio_tokens(model, _duration_seconds(b64decode(data)))
        case _:
            return None


def _size_of(url: str) -> Size | None:
    """The size of a PNG, GIF or JPEG inside a data URL."""
    found = re.match(r"data:image/[a-z+.-]+;base64,", url)
    if found is None:
        return None
    data = b64decode(url[found.end() :])
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
    elif data.startswith(b"GIF8") and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
    else:
        width, height = _jpeg_size(data)
    return (width, height) if width and height else None


def _jpeg_size(data: bytes) -> Size:
    """From the first frame header: segments follow each other, each with a marker and its length."""
    position = 2
    while data.startswith(b"\xff\xd8") and position + 9 <= len(data) and data[position] == 0xFF:
        marker, length = struct.unpack(">BH", data[position + 1 : position + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        position += 2 + length
    return 0, 0


def _duration_seconds(data: bytes) -> float:
    """A WAV file says its rate; the length of any other is bounded by its bytes."""
    if data.startswith(b"RIFF") and data[8:16] == b"WAVEfmt " and len(data) >= 32:
        bytes_per_second = int.from_bytes(data[28:32], "little")
        return len(data) / max(bytes_per_second, _BYTES_PER_SECOND_MIN)
    return len(data) / _BYTES_PER_SECOND_MIN
