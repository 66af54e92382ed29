"""How much of what messages say is left at each lower level, by language.

    python -m bench.quality.languages

The same 32 messages are written in each language (`messages/`), one a line, and their facts are marked: dates, amounts,
names, and the words that say what was decided. A page is one message, or eight of them; its lower levels are made as
the product makes them, and a page that has no such level is shown at the next higher one that it has.

A fact is kept when every word of it that has a digit or more than two letters stands in the level's text; where a
language writes no spaces, when its characters stand there in a row. `kept` is the share of facts kept; `tokens` the
level's o200k tokens over the full text's, so that a language cannot gain by keeping everything.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import click

from bench.quality.report import Figure, Wanted, show, write
from pagekeeper.core.compress.compressor import Source
from pagekeeper.core.compress.registry import LOWER_LEVELS, CompressorRegistry
from pagekeeper.core.pages import CompressionLevel, Modality
from pagekeeper.runtime.tokens import EncodingName, tokenizer

MESSAGES: Final = Path(__file__).parent / "messages"
LANGUAGES: Final = {
    "en": "English",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "ru": "Russian",
    "zh": "Chinese",
    "ja": "Japanese",
}
UNSPACED: Final = frozenset({"zh", "ja"})
PRODUCT: Final = "pagekeeper"
PAGE_MESSAGES: Final = (1, 8)
"""Sizes of a page, in messages."""
BEHIND_ENGLISH_MAX: Final = 0.1
_MARKED: Final = re.compile(r"\{([a-z]+):([^{}]+)\}")
_WORD: Final = re.compile(r"[^\W_]+(?:[.,:’'-][^\W_]+)*")
_SHORT_LETTERS: Final = 2


@dataclass(frozen=True, slots=True)
class Fact:
    """`kind` is date, amount, name or decision."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Message:
    text: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    """All pages of one size in one language at one level. `by_kind` has the share of each kind's facts."""

    language: str
    page_messages: int
    level: int
    kept: float
    tokens: float
    by_kind: dict[str, float]


@click.command()
def main() -> None:
    """Measure every language at every lower level."""
    rows = measure()
    figures = figures_of(rows)
    show("Facts kept at lower levels, by language", figures)
    write("languages", figures, {"rows": [asdict(row) for row in rows]})


def measure() -> list[Kept]:
    count = tokenizer(EncodingName.O200K_BASE).count
    return [
        row
        for code in LANGUAGES
        for size in PAGE_MESSAGES
        for row in _measured(code, size, paged(messages(code), size, code), count)
    ]


def messages(code: str) -> list[Message]:
    """The messages of a language, in the order that all languages share."""
    lines = (MESSAGES / f"{code}.txt").read_text().splitlines()
    return [
        Message(_MARKED.sub(r"\2", line), tuple(Fact(kind, text) for kind, text in _MARKED.findall(line)))
        for line in lines
    ]


def paged(said: Sequence[Message], size: int, code: str) -> list[Message]:
    """Pages of `size` messages each."""
    space = "" if code in UNSPACED else " "
    return [
        Message(space.join(one.text for one in group), tuple(fact for one in group for fact in one.facts))
        for group in (said[start : start + size] for start in range(0, len(said), size))
    ]


def is_kept(fact: str, text: str, *, unspaced: bool) -> bool:
    if unspaced:
        return "".join(fact.split()) in "".join(text.split())
    needed = {word for word in _WORD.findall(fact.lower()) if len(word) > _SHORT_LETTERS or any(map(str.isdigit, word))}
    return needed <= set(_WORD.findall(text.lower()))


def figures_of(rows: Sequence[Kept]) -> list[Figure]:
    """The share kept, with English less `BEHIND_ENGLISH_MAX` as every other language's target; then the tokens."""
    english = {(row.page_messages, row.level): row.kept for row in rows if row.language == "en"}
    figures = []
    for row in rows:
        place = f"{CompressionLevel(row.level).name}, {row.page_messages} a page"
        target = round(english[row.page_messages, row.level] - BEHIND_ENGLISH_MAX, 3)
        wanted = (Wanted.REPORTED, None) if row.language == "en" else (Wanted.AT_LEAST, target)
        figures.append(Figure(f"{LANGUAGES[row.language]}: {place}", PRODUCT, row.kept, "", *wanted))
        figures.append(Figure(f"{LANGUAGES[row.language]}: {place}, tokens", PRODUCT, row.tokens))
    return figures


def _measured(code: str, size: int, pages: Sequence[Message], count: Callable[[str], int]) -> Iterator[Kept]:
    shown = [_levels(page.text, count) for page in pages]
    full_tokens = sum(count(page.text) for page in pages)
    for level in LOWER_LEVELS:
        kept: dict[str, list[bool]] = {}
        for page, texts in zip(pages, shown, strict=True):
            for fact in page.facts:
                kept.setdefault(fact.kind, []).append(is_kept(fact.text, texts[level], unspaced=code in UNSPACED))
        every = [one for values in kept.values() for one in values]
        yield Kept(
            code,
            size,
            int(level),
            _share(every),
            round(sum(count(texts[level]) for texts in shown) / full_tokens, 4),
            {kind: _share(values) for kind, values in kept.items()},
        )


def _levels(text: str, count: Callable[[str], int]) -> dict[CompressionLevel, str]:
    """What stands for a page at each lower level."""
    made = CompressorRegistry.default().compress_all(Source("p1", Modality.TEXT, text), count)
    texts = {one.level: one.text for one in made}
    shown = {}
    for level in LOWER_LEVELS:
        text = shown[level] = texts.get(level, text)
    return shown


def _share(values: Sequence[bool]) -> float:
    return round(sum(values) / len(values), 4)


if __name__ == "__main__":
    main()
