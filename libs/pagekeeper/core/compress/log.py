"""Compression of program output (logs, test runs, listings, tables): whole lines, one for many that differ in numbers.

REDUCED keeps the beginning and the end, every line that tells of a failure unless many do in the same words, and of all
other lines the first and the last of each kind; `… 57 more …` stands where lines went. ABSTRACT keeps less of each. Two
lines are of one kind when they differ in numbers, hexadecimal names and quoted texts alone, or are rows of one table.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.compress.compressor import Compressed, Source, if_shorter
from pagekeeper.core.compress.topics import topics
from pagekeeper.core.pages import CompressionLevel

LINES_MIN: Final = 12
ALIKE_MIN: Final = 3
ALIKE_SHARE_MIN: Final = 0.5
"""Of the lines of a log, those that have so many others of their kind."""
LINE_CHARS_MAX: Final = 400
"""Of a line, what its kind is told by."""

_VARYING: Final = re.compile(r"0x[0-9a-fA-F]+|\b[0-9a-f]{7,64}\b|\d+(?:[.:,]\d+)*|\"[^\"\n]{0,200}\"|'[^'\n]{0,200}'")
_FENCE: Final = re.compile(r"^\s*(?:```|~~~)", re.MULTILINE)
_DELIMITERS: Final = re.compile(r"[,;\t|]")
_DELIMITERS_MIN: Final = 2
_FAILURE: Final = re.compile(
    r"\b(?:error|err|fail(?:ed|ure|ures|s)?|fatal|critical|panic(?:ked)?|exception|traceback|warn(?:ing)?|denied|refused"
    r"|timed out|timeout|cannot|could not|not found|undefined|unresolved|abort(?:ed)?|killed|segfault|assert\w*)\b"
    r"|\w+(?:Error|Exception)\b|^E  |✗|✘|❌",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class _Kept:
    """How many lines of each sort: at either end, failures of one kind, failures of all kinds."""

    first: int
    last: int
    failures_alike: int
    failures: int
    examples: bool
    """Whether the first and the last of each other kind stay."""


_KEPT: Final = {
    CompressionLevel.REDUCED: _Kept(first=3, last=4, failures_alike=4, failures=200, examples=True),
    CompressionLevel.ABSTRACT: _Kept(first=1, last=2, failures_alike=1, failures=12, examples=False),
}


class LogCompressor:
    @property
    def name(self) -> str:
        return "log/1"

    def compress(self, source: Source, level: CompressionLevel, count: Callable[[str], int]) -> Compressed | None:
        return if_shorter(self.name, source, level, condensed(source.text, level), count)


def looks_like_log(text: str) -> bool:
    """Whether most lines are of kinds that many different lines are of; text with code in fences is prose."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < LINES_MIN or _FENCE.search(text) is not None:
        return False
    different = Counter(_kind(line) for line in set(lines))
    return sum(different[_kind(line)] >= ALIKE_MIN for line in lines) >= ALIKE_SHARE_MIN * len(lines)


def condensed(text: str, level: CompressionLevel) -> str:
    """The lines of `text` that `level` keeps; at REFERENCE its topics."""
    if level is CompressionLevel.REFERENCE:
        return ", ".join(topics(text))
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(_marked(lines, sorted(_chosen(lines, _KEPT[level]))))


def _chosen(lines: Sequence[str], kept: _Kept) -> set[int]:
    kinds = [_kind(line) for line in lines]
    chosen = {*range(min(kept.first, len(lines))), *range(max(len(lines) - kept.last, 0), len(lines))}
    failures = [at for at, line in enumerate(lines) if _FAILURE.search(line[:LINE_CHARS_MAX]) is not None]
    alike: Counter[str] = Counter()
    told = 0
    for at in failures:
        alike[kinds[at]] += 1
        if alike[kinds[at]] <= kept.failures_alike and told < kept.failures:
            chosen.add(at)
            told += 1
    if kept.examples:
        first_of = {kind: at for at, kind in reversed(list(enumerate(kinds)))}
        last_of = {kind: at for at, kind in enumerate(kinds)}
        chosen.update(first_of.values(), last_of.values())
    return chosen


def _marked(lines: Sequence[str], chosen: Iterable[int]) -> Iterator[str]:
    after = 0
    for at in chosen:
        if at > after:
            yield f"… {at - after:,} more …"
        yield lines[at]
        after = at + 1


def _kind(line: str) -> str:
    delimiters = _DELIMITERS.findall(line[:LINE_CHARS_MAX])
    if len(delimiters) >= _DELIMITERS_MIN and " " not in line.strip():
        return "".join(delimiters)
    return _VARYING.sub("0", line[:LINE_CHARS_MAX])
