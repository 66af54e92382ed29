"""JSON as JSON with less in it: the same keys and scalars, shortened lists that say how many more there were.

Lists keep their first entries and their last, long texts their key sentences, deep objects their keys. Numbers stay as
they are spelled. What comes out parses, so it stands in a prompt as JSON does.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from pagekeeper.core.compress.compressor import Compressed, Source, if_shorter
from pagekeeper.core.compress.text import SHARES, extract
from pagekeeper.core.pages import CompressionLevel
from pagekeeper.core.sentences import Sentence, facts_of, split_sentences
from pagekeeper.core.wellformed import read_json

KEYS_MAX: Final = 40
"""What REFERENCE names."""
DEPTH_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class _Limits:
    """How much is kept: entries of a list, characters of a text, levels of nesting, keys of an object."""

    entries: int
    chars: int
    depth: int
    keys: int


# Tried in this order until a level's share of the tokens is kept; ABSTRACT starts further down.
_LADDER: Final = (
    _Limits(entries=20, chars=400, depth=8, keys=200),
    _Limits(entries=8, chars=200, depth=6, keys=100),
    _Limits(entries=4, chars=120, depth=5, keys=60),
    _Limits(entries=2, chars=80, depth=4, keys=40),
    _Limits(entries=1, chars=60, depth=3, keys=25),
    _Limits(entries=1, chars=40, depth=2, keys=15),
    _Limits(entries=0, chars=30, depth=2, keys=10),
)
_FIRST_RUNG: Final = {CompressionLevel.REDUCED: 0, CompressionLevel.ABSTRACT: 3}


class _Number(str):
    """A number as it is spelled."""

    __slots__ = ()


class ShapeCompressor:
    """Compression of JSON by its structure; invalid JSON is compressed like prose."""

    @property
    def name(self) -> str:
        return "shape/1"

    def compress(self, source: Source, level: CompressionLevel, count: Callable[[str], int]) -> Compressed | None:
        value = _parsed(source.text)
        if value is None:
            return if_shorter(self.name, source, level, extract(source.text, level), count)
        if level is CompressionLevel.REFERENCE:
            return if_shorter(self.name, source, level, _keys(value), count)
        tokens_max = SHARES[level] * count(source.text)
        shortened = (_written(_shortened(value, limits, 0)) for limits in _LADDER[_FIRST_RUNG[level] :])
        text = next((text for text in shortened if count(text) <= tokens_max), "")
        return if_shorter(self.name, source, level, text, count)


def _parsed(text: str) -> Any | None:  # noqa: ANN401 - JSON is any value
    try:
        value = read_json(text, _Number)
    except ValueError:
        return None
    return value if isinstance(value, dict | list) and _depth_within(value, DEPTH_MAX) else None


def _depth_within(value: object, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels > 0 and all(_depth_within(each, levels - 1) for each in inner)


def _shortened(value: object, limits: _Limits, depth: int) -> object:
    match value:
        case dict() if depth >= limits.depth:
            return _listed([str(key) for key in value], limits.entries, "keys")
        case dict():
            kept = {key: _shortened(inner, limits, depth + 1) for key, inner in list(value.items())[: limits.keys]}
            return kept if len(kept) == len(value) else {**kept, "…": f"{len(value) - len(kept):,} more keys"}
        case list() if len(value) <= limits.entries + 2:
            return [_shortened(inner, limits, depth + 1) for inner in value]
        case list():
            first = [_shortened(inner, limits, depth + 1) for inner in value[: limits.entries]]
            last = _shortened(value[-1], limits, depth + 1)
            return [*first, f"… {len(value) - limits.entries - 1:,} more …", last]
        case str() if len(value) > limits.chars and not isinstance(value, _Number):
            return _told_shorter(value, limits.chars)
        case _:
            return value


def _listed(names: list[str], shown: int, what: str) -> str:
    return f"{len(names):,} {what}: {', '.join(names[: max(shown, 1)])}"


def _told_shorter(text: str, chars_max: int) -> str:
    """Whole sentences that say most, or the beginning of a text that has none short enough; how much is missing."""
    sentences = sorted(split_sentences(text), key=lambda sentence: -facts_of(sentence.text).weight)
    kept: list[Sentence] = []
    for sentence in sentences:
        if sum(len(each.text) + 1 for each in kept) + len(sentence.text) <= chars_max:
            kept.append(sentence)
    told = " ".join(sentence.text for sentence in sorted(kept, key=lambda sentence: sentence.start)) or text[:chars_max]
    return f"{told} (… {len(text) - len(told):,} more characters)"


def _keys(value: object) -> str:
    """The outermost keys, with the lengths of lists; of a list, those of its first entry."""
    match value:
        case dict():
            named = [f"{key}[{len(inner)}]" if isinstance(inner, list) else str(key) for key, inner in value.items()]
            return ", ".join(named[:KEYS_MAX])
        case [dict() as first, *_]:
            return f"list of {len(value)}: {_keys(first)}"
        case _:
            return f"list of {len(value)}"  # type: ignore[arg-type]


def _written(value: object) -> str:
    match value:
        case _Number():
            return str(value)
        case dict():
            return f"{{{','.join(f'{_written(str(key))}:{_written(inner)}' for key, inner in value.items())}}}"
        case list():
            return f"[{','.join(map(_written, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)
