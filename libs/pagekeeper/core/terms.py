"""A text as the words that it is found by.

What FTS5's tokenizer would miss is added to the text before it sees it: the parts of `snake_case` and `CamelCase`, and
versions, dates and dotted names as one word; scripts that write no spaces (Chinese, Japanese, Korean, Thai and their
kin) become overlapping pairs of characters. Spellings of one word become one (`folding`). A query is words,
never syntax.
"""

import re
from collections.abc import Iterable
from typing import Final

from pagekeeper.core.folding import folded, numbers_without_grouping, other_spellings, respelled
from pagekeeper.core.languages import STOPWORDS, Language, language_of
from pagekeeper.core.payloads import elided

TEXT_CHARS_MAX: Final = 262_144
"""What is indexed of one page: beyond it, words are not found."""
QUERY_CHARS_MAX: Final = 16_384
QUERY_TERMS_MAX: Final = 48
_NO_SPACES: Final = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff"
)
_RUN: Final = re.compile(f"[{_NO_SPACES}]+")
# Marks that are drawn on or around a letter are part of its word, which `\w` does not know.
_MARKS: Final = (
    "\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u06d6-\u06dc\u0730-\u074a\u0900-\u0963\u0966-\u0dff"
    "\u0f18-\u0f84\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"
)
_WORD: Final = re.compile(rf"[\w{_MARKS}]+")
_WORDS_JOINED: Final = re.compile(rf"[\w{_MARKS}]+(?:[._:/@#-][\w{_MARKS}]+)*")
_PART: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_A-Za-z]+")
_PARTS_MAX: Final = 12
"""A word of more parts is a digest or encoded data, and found whole or not at all."""
_CONTRACTED: Final = frozenset(
    (
        "don",
        "didn",
        "doesn",
        "isn",
        "wasn",
        "aren",
        "weren",
        "couldn",
        "wouldn",
        "shouldn",
        "hasn",
        "haven",
        "hadn",
        "ll",
        "ve",
        "re",
    )
)


def query_terms(query: str) -> list[str]:
    """The words to look for, each once, in order: without those that every question has, unless it has no others.

    Which words every question has is told by their own spelling, and only then are they folded.
    """
    query = storable(query[:QUERY_CHARS_MAX])
    words = [word.lower() for word in _WORD.findall(_spelled_out(query))]
    language = language_of(query, set(words))
    chosen = [word for word in words if _is_looked_for(word, language)] or words
    return list(dict.fromkeys(filter(None, map(folded, chosen))))[:QUERY_TERMS_MAX]


def _is_looked_for(word: str, language: Language) -> bool:
    """Whether a word of a query tells one page from another."""
    if len(word) == 1:
        return word.isdigit() or not word.isascii()
    return word not in STOPWORDS and word not in _CONTRACTED and word not in language.function_words


def indexable(text: str) -> str:
    """`text`, folded, and behind it what its tokenizer would not see in it."""
    return folded(_spelled_out(text))


def _spelled_out(text: str) -> str:
    shown = respelled(text)
    extra = list(other_spellings(text))
    text, has_groups = shown, False
    for joined in _WORDS_JOINED.findall(text):
        if not joined.isalpha() or not (joined.islower() or joined.istitle()):
            extra.extend(_spelled_apart(joined))
            has_groups = has_groups or (joined[-3:].isdigit() and not joined[-4:-3].isdigit())
    if has_groups:
        extra.extend(numbers_without_grouping(text))
    if not text.isascii() and _RUN.search(text) is not None:
        extra.extend(pair for run in _RUN.findall(text) for pair in _pairs(run))
        text = _RUN.sub(" ", text)
    return f"{text} {' '.join(extra)}" if extra else text


def _spelled_apart(joined: str) -> Iterable[str]:
    """The parts that the tokenizer would leave together, and all parts as one word."""
    every: list[str] = []
    for word in _WORD.findall(joined):
        parts = [part.lower() for part in _PART.findall(word)]
        if len(parts) > _PARTS_MAX:
            return
        if parts != [word.lower()]:
            yield from parts
        every += parts
    if 1 < len(every) <= _PARTS_MAX:
        yield "_".join(every)


def _pairs(run: str) -> Iterable[str]:
    """Overlapping pairs, and the last character alone, so that a single character is found by its prefix."""
    yield from (run[i : i + 2] for i in range(len(run) - 1))
    yield run[-1]


def storable(text: str) -> str:
    """Return text that UTF-8 can hold, without NUL and encoded payloads, and no longer than the indexed part."""
    text = elided(text)[:TEXT_CHARS_MAX].replace("\x00", " ")
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def is_unspaced(term: str) -> bool:
    """Whether a term is of a script that writes no spaces."""
    return _RUN.fullmatch(term) is not None
