"""Sentences with fewer words, as in a telegram: in the text's own words and order, nothing added or bent.

What goes: words that English grammar asks for and facts do not, sentences that only keep a conversation going, what was
said before in the same words, and the decoration of markdown. What stays is written as it was, but for punctuation at
its edges. Numbers and names always stay. Of a sentence in another language, the function words go that `languages` has
of it; a sentence of a language that it does not have stays whole.
"""

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Final

from pagekeeper.core.compress.english import (
    DROPPED,
    EXCLAMATIONS,
    INTERJECTIONS,
    PHRASE_BEGINNINGS,
    english_balance,
    is_chatter,
    phrase_length,
)
from pagekeeper.core.languages import ENGLISH, Language, language_of
from pagekeeper.core.sentences import is_filler, names_in

WORDS_CACHED: Final = 4_096
WORD_CHARS_CACHED_MAX: Final = 64
"""A longer run of characters is no word, and may be a whole text."""
"""Most words of a language are a few hundred, over and over."""

COURTESY_WORDS_MAX: Final = 3
"""A sentence that begins like filler and says fewer words than this goes, where only the opening tells."""

_EDGES: Final = "\"“”„«»¡¿*'‘’()[]{}<>.,;:!?…"
_EMPHASIS: Final = re.compile(
    r"^[*\"“”«»]+|(?<!\d)[*\"“”«»]+(?=[.,:;!?…)]{0,3}$)|(?<=\d)(?:\*{2,3}|[”»])(?=[.,:;!?…)]{0,3}$)"
)
"""Not a straight quote behind a number, which may be inches, nor a star there, which may be a footnote."""
_CLAUSE_ENDS: Final = ",;:!"
_SENTENCE_ENDS: Final = ".!?:;…。！？"
_SYMBOLS: Final = frozenset("&+=<>%/|×÷≈≤≥≠→")
_DASHES: Final = (["-"], ["--"], ["–"], ["—"])
_DECORATION: Final = re.compile(r"[ \t]*(?:#{1,6}[ \t]+|>[ \t]?|[-*+•][ \t]+)+")
_RULE: Final = re.compile(r"[\s|:=*_-]+")


class Telegraph:
    """The sentences of one text, in order: what was said is not said again."""

    def __init__(self, language: Language | None) -> None:
        """`language` decides about sentences of which nothing else tells the language; None is one without words."""
        self._language = language
        self._said: set[str] = set()
        self._named: set[str] = set()

    def send(self, sentence: str) -> str:
        """Return the shortened next sentence; empty when all of the sentence can go."""
        bare = undecorated(sentence)
        chunks = bare.replace("—", " — ").split()
        cores = [core_of(chunk) for chunk in chunks]
        balance = english_balance(cores)
        if balance > 0 or (balance == 0 and self._language is ENGLISH):
            told = self._told(chunks, cores)
        else:
            told = _told_in(self._language_of(bare, cores), bare, chunks, cores)
        said = told.lower().rstrip(".!?…。！？")
        if said in self._said:
            return ""
        self._said.add(said)
        return told

    def _language_of(self, bare: str, cores: Sequence[str]) -> Language | None:
        """Of a sentence that is not English."""
        if self._language is not None and self._language is not ENGLISH:
            return self._language
        language = language_of(bare, set(cores))
        return None if language is ENGLISH else language

    def _told(self, chunks: Sequence[str], cores: Sequence[str]) -> str:
        named = _named(chunks, cores)
        if is_chatter([core for position, core in enumerate(cores) if position not in named]):
            kept = [_bare(chunks[at]) for at in sorted(named) if cores[at] not in self._named]
        else:
            kept = list(_kept(chunks, cores, named))
        self._named.update(cores[position] for position in named)
        return " ".join(kept).rstrip(",;:|- ")


def _told_in(language: Language | None, bare: str, chunks: Sequence[str], cores: Sequence[str]) -> str:
    """A sentence that is not English: without the words that `language` drops, or not at all when it is filler."""
    if language is None:
        return bare
    named = _named(chunks, cores)
    has_facts = (bool(named) and not language.capitalises_nouns) or any(map(str.isdigit, bare))
    if not has_facts and is_filler(bare, language, words_max=COURTESY_WORDS_MAX) and not names_in(bare, language):
        return ""
    if not language.dropped:
        return bare
    kept = [
        _bare(chunk)
        for at, (chunk, core) in enumerate(zip(chunks, cores, strict=True))
        if (core and (at in named or core not in language.dropped)) or (chunk and all(c in _SYMBOLS for c in chunk))
    ]
    return " ".join(kept).rstrip(",;:|- ")


def _named(chunks: Sequence[str], cores: Sequence[str]) -> set[int]:
    """Positions of words that may be names."""
    return {at for at, chunk in enumerate(chunks) if not chunk.islower() and _is_named(chunks, cores, at)}


def _kept(chunks: Sequence[str], cores: Sequence[str], named: set[int]) -> Iterator[str]:
    """The words that stay; a comma stays with the word before it."""
    opens = True
    started = False
    position = 0
    while position < len(chunks):
        chunk, core = chunks[position], cores[position]
        length = phrase_length(cores, position) if core in PHRASE_BEGINNINGS else 0
        if length and named.isdisjoint(range(position, position + length)):
            position += length
            continue
        if not core:
            if started and all(character in _SYMBOLS for character in chunk):
                yield chunk
            opens = opens or [chunk] in _DASHES
        elif position in named or not (core in DROPPED or (opens and _is_exclaimed(chunks, core, position))):
            dash = chunks[position + 1 : position + 2] in _DASHES
            yield f"{_bare(chunk)}," if dash and chunk[-1] not in _CLAUSE_ENDS else _bare(chunk)
            opens, started = chunk[-1] in _CLAUSE_ENDS, True
        else:
            opens = chunk[-1] in _CLAUSE_ENDS or (opens and core not in DROPPED)
        position += 1


def _is_exclaimed(chunks: Sequence[str], core: str, position: int) -> bool:
    """Whether a word that begins a clause is there for its sound."""
    alone = chunks[position][-1] in ",;!.…" or chunks[position + 1 : position + 2] in _DASHES
    return core in INTERJECTIONS or (core in EXCLAMATIONS and alone)


def _is_named(chunks: Sequence[str], cores: Sequence[str], position: int) -> bool:
    """Whether a word has a capital letter that no sentence gave it, so that it may be a name."""
    if not position or not cores[position] or chunks[position - 1][-1] in _SENTENCE_ENDS:
        return False
    first = next(character for character in chunks[position] if character.isalnum())
    return first.isupper() and cores[position] != "i" and not cores[position].startswith("i'")


def undecorated(sentence: str) -> str:
    """A line without markdown's marks of headings, lists, quotes and tables at its edges."""
    mark = _DECORATION.match(sentence)
    bare = sentence if mark is None else sentence[mark.end() :]
    return "" if _RULE.fullmatch(bare) else bare.strip("| \t")


def core_of(chunk: str) -> str:
    """The word in lower case; empty for what has no letter or digit."""
    return _remembered_core(chunk) if len(chunk) <= WORD_CHARS_CACHED_MAX else _core(chunk)


def _core(chunk: str) -> str:
    core = chunk.strip(_EDGES).lower().replace("’", "'")
    return core if core.isalnum() or any(map(str.isalnum, core)) else ""


_remembered_core = lru_cache(maxsize=WORDS_CACHED)(_core)


def _bare(chunk: str) -> str:
    """A word without emphasis, quotes and the full stop behind it."""
    if chunk.isalnum():
        return chunk
    bare = _EMPHASIS.sub("", chunk)
    return bare.rstrip("!.…") if bare[-1:] in ("!", ".", "…") else bare
