"""The passage of a page that a query found.

Invariant: a snippet is a slice of the page with white space folded, at most `SNIPPET_CHARS` characters.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from pagekeeper.core.folding import folded, respelled

SNIPPET_CHARS: Final = 160
_OCCURRENCES_MAX: Final = 4
_TRIED_MAX: Final = 1_024
"""Bounds the time in a text that is nothing but digits."""
_TERMS_MAX: Final = 12
_FOLDED_SNIPPET_CHARS: Final = 16_384
"""Where a passage is looked for whose spelling the query does not have."""


def roots_of(terms: Sequence[str]) -> list[str]:
    """The beginnings of a query's first terms, by which a passage is found."""
    return [_root(term) for term in terms[:_TERMS_MAX]]


def _root(term: str) -> str:
    """Return a prefix of a term's inflections, near enough to find the passage that matched."""
    return term if len(term) < 5 else term[: max(4, len(term) - 3)]


def snippet(text: str, roots: list[str]) -> str:
    """The window of `text` with most of the roots, from a word's start to a word's end; empty when there is none."""
    lowered = text.lower()
    if len(lowered) != len(text):
        lowered = text
    positions = sorted((at, root) for root in roots for at in _occurrences(lowered, root))
    if not positions and not text.isascii():
        positions = _folded_positions(text[:_FOLDED_SNIPPET_CHARS], roots)
    if not positions:
        return ""
    start = min((at for at, _ in positions), key=lambda at: (*_unlikeness(lowered, roots, at), at))
    begin = max(0, start - SNIPPET_CHARS // 4)
    if begin:
        begin = text.find(" ", begin, start) + 1 or start
    end = min(len(text), begin + SNIPPET_CHARS)
    if end < len(text):
        end = max(text.rfind(" ", begin, end), begin + SNIPPET_CHARS // 2)
    return " ".join(text[begin:end].split())


def _folded_positions(text: str, roots: list[str]) -> list[tuple[int, str]]:
    """Where the roots stand in `text`, one character of which may fold to several or to none."""
    parts = [_folded_character(character) for character in text]
    places = [place for place, part in enumerate(parts) for _ in part]
    whole = "".join(parts)
    return sorted((places[at], root) for root in roots for at in _occurrences(whole, root))


@lru_cache(4_096)
def _folded_character(character: str) -> str:
    return folded(respelled(character).lower())


def _occurrences(lowered: str, root: str) -> Iterable[int]:
    """The first places of the root. A number is no part of a longer one, among the first `_TRIED_MAX` places."""
    found, at = 0, lowered.find(root)
    for _ in range(_TRIED_MAX):
        if at < 0 or found == _OCCURRENCES_MAX:
            return
        end = at + len(root)
        if not root.isdigit() or not (lowered[at - 1 : at].isdigit() or lowered[end : end + 1].isdigit()):
            found += 1
            yield at
        at = lowered.find(root, end)


def _unlikeness(lowered: str, roots: list[str], start: int) -> tuple[int, int]:
    """How many of the roots a snippet at `start` lacks, and over how many characters it has the others."""
    before = start - SNIPPET_CHARS // 4
    window = lowered[max(0, before) : start + SNIPPET_CHARS * 3 // 4]
    here = start - max(0, before)
    places = [min(_within(window, root), key=lambda at: abs(at - here), default=None) for root in roots]
    found = [at for at in places if at is not None]
    return len(roots) - len(found), max(found, default=0) - min(found, default=0)


def _within(window: str, root: str) -> Iterable[int]:
    at = window.find(root)
    while at >= 0:
        yield at
        at = window.find(root, at + 1)
