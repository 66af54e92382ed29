"""The passage of a page that a query found.

Invariant: a snippet is a slice of the page with white space folded, at most `SNIPPET_CHARS` characters.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

from pagekeeper.core.folding import folded, respelled

SNIPPET_CHARS: Final = 160
_OCCURRENCES_MAX: Final = 4
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
    start, _ = max(
        ((at, _roots_within(positions, at)) for at, _ in positions), key=lambda window: (window[1], -window[0])
    )
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
    at = lowered.find(root)
    for _ in range(_OCCURRENCES_MAX):
        if at < 0:
            return
        yield at
        at = lowered.find(root, at + len(root))


def _roots_within(positions: list[tuple[int, str]], start: int) -> int:
    return len({root for at, root in positions if start <= at < start + SNIPPET_CHARS * 3 // 4})
