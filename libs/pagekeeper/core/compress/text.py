"""Prose by what it says: REDUCED is a telegram of it, ABSTRACT that telegram's best lines, REFERENCE its topics.

REDUCED keeps every number, name and content word and leaves out what carries none; fenced code stands as its outline
with the words of it that nothing else on the page says. A script without spaces, and a language whose function words
`languages` does not have, cannot be told with fewer words: of such a text, REDUCED keeps the sentences with numbers and
names and fills up with those that say most. ABSTRACT chooses clauses by what is said per character. Every word is the
page's own, in its order; nothing is rephrased and nothing is just cut off.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from pagekeeper.core.compress.code import new_terms, outline, words_of
from pagekeeper.core.compress.compressor import Compressed, Source, if_shorter
from pagekeeper.core.compress.english import COMMONPLACE, english_balance
from pagekeeper.core.compress.telegraph import Telegraph, core_of
from pagekeeper.core.compress.topics import topics
from pagekeeper.core.languages import ENGLISH, Language, language_of
from pagekeeper.core.pages import CompressionLevel
from pagekeeper.core.sentences import Facts, Sentence, content_words, facts_of, names_in, split_sentences

SHARES: Final = {CompressionLevel.REDUCED: 0.55, CompressionLevel.ABSTRACT: 0.28}
"""What a level that has to choose may take of a text's characters, ..."""
JUDGED_CHARS_MAX: Final = 20_000
"""How much of a text tells its language."""
UNSPACED_SHARES: Final = {CompressionLevel.REDUCED: 0.85, CompressionLevel.ABSTRACT: 0.42}
"""... and where no spaces are written, so that no words can go: about what English has left without its grammar."""
UNSPACED_ABSTRACT_CHARS_MIN: Final = 36
"""Whatever its share is, there a long clause fits."""
UNSPACED_CHARS: Final = 3
"""A character of a script without spaces says as much as this many letters."""
SHORT_CHARS: Final = 400
"""Of a short text every sentence may be the one that matters."""
CLAUSE_CHARS_MIN: Final = 40
_CLAUSE_END: Final = re.compile(r"(?<=[,;:]) |(?<=[，；：、])")
SHORT_CODE_CHARS: Final = 120
"""A command or two stand as they are."""
_SAME_SHARE: Final = 0.8
"""Two sentences with this share of their content words in common say the same."""
_SENTENCE_COST_CHARS: Final = 24
"""Keeps very short sentences with a name in them from looking dense."""
_CODE_WEIGHT: Final = 4.0
_FIRST_BONUS: Final = 2.0
_COMMONPLACE_DISCOUNT: Final = 0.8

_LABEL: Final = re.compile(r"[^\W\d_][\w.'’-]{0,30}(?: [^\W\d_][\w.'’-]{0,30}){0,2}: ")
"""Who speaks, where a text says so at its beginning: whatever is left of it, that stays."""
_DIGIT: Final = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class _Piece:
    """Facts of a sentence."""

    position: int
    sentence: Sentence
    text: str


@dataclass(frozen=True, slots=True)
class _Reading:
    """The facts of a text's sentences, for each sentence that has any, and the speaker."""

    label: str
    pieces: tuple[_Piece, ...]
    language: Language | None
    """None when it is none that `languages` knows."""


@dataclass(frozen=True, slots=True)
class _Candidate:
    piece: _Piece
    facts: Facts
    words: frozenset[str]
    weight: float
    cost_chars: int

    @property
    def chars(self) -> int:
        return len(self.piece.text) + 2

    @property
    def density(self) -> float:
        return self.weight / (self.chars + self.cost_chars)


class ExtractiveCompressor:
    @property
    def name(self) -> str:
        return "extract/3"

    def compress(self, source: Source, level: CompressionLevel, count: Callable[[str], int]) -> Compressed | None:
        return if_shorter(self.name, source, level, extract(source.readable, level), count)


def extract(text: str, level: CompressionLevel) -> str:
    """Return the form of `text` at `level`; empty for a text without content."""
    if level is CompressionLevel.REFERENCE:
        return ", ".join(topics(text))
    read = _read(text)
    pieces: Sequence[_Piece] = read.pieces
    language = read.language or ENGLISH
    unspaced = language.content is not None
    chars_min = UNSPACED_ABSTRACT_CHARS_MIN if unspaced else 0
    chars_max = (UNSPACED_SHARES if unspaced else SHARES)[level] * len(text)
    if level is CompressionLevel.ABSTRACT:
        pieces = _chosen(list(_clauses(pieces, language)), level, max(chars_max, chars_min), language)
    elif unspaced or read.language is None:
        chars_max = max(chars_max, SHORT_CHARS // UNSPACED_CHARS if unspaced else SHORT_CHARS)
        pieces = _chosen(pieces, level, chars_max, language, frozenset(names_in(text, language)))
    return f"{read.label}{_joined(pieces, language).rstrip(',;:，；：、')}" if pieces else ""


@lru_cache(maxsize=1)
def _read(text: str) -> _Reading:
    """`text` with fewer words, the same for every level; code last, since it repeats what prose says."""
    label = _LABEL.match(text)
    language = _language_of(text[:JUDGED_CHARS_MAX])
    telegraph = Telegraph(language)
    pieces = [
        _Piece(position, sentence, _outlined(sentence.text) if sentence.code else telegraph.send(sentence.text))
        for position, sentence in enumerate(split_sentences(text[label.end() if label else 0 :]))
    ]
    if any(piece.sentence.code for piece in pieces):
        said = {part for piece in pieces for part in words_of(piece.text)}
        pieces = [_with_terms(piece, said) if piece.sentence.code else piece for piece in pieces]
    return _Reading(label[0] if label else "", tuple(piece for piece in pieces if piece.text), language)


def _language_of(text: str) -> Language | None:
    cores = [core_of(chunk) for chunk in text.split()]
    if english_balance(cores) > 0:
        return ENGLISH
    language = language_of(text, set(cores))
    return None if language is ENGLISH else language


def _outlined(block: str) -> str:
    """A fenced block as its language and the outline of its code."""
    opening, *lines = block.split("\n")
    if len(block) <= SHORT_CODE_CHARS:
        return "\n".join(lines[:-1] if lines and lines[-1].lstrip()[:1] in ("`", "~") else lines).strip("\n")
    language = opening.strip("`~ \t")
    kept = outline("\n".join(lines), CompressionLevel.REDUCED)
    return f"{language}:\n{kept}" if language and kept else language or kept


def _with_terms(piece: _Piece, said: set[str]) -> _Piece:
    """The outline of a block, and the words and numbers of the block that nobody has said yet."""
    terms = " ".join(new_terms(piece.sentence.text, said))
    return _Piece(piece.position, piece.sentence, "\n".join(filter(None, [piece.text, terms])))


def _clauses(pieces: Iterable[_Piece], language: Language) -> Iterator[_Piece]:
    """The pieces, long sentences clause by clause: whoever types without full stops has more than one thing to say."""
    chars_min = CLAUSE_CHARS_MIN if language.content is None else CLAUSE_CHARS_MIN // UNSPACED_CHARS
    position = 0
    for piece in pieces:
        texts = [piece.text] if piece.sentence.code else _clauses_of(piece.text, chars_min)
        for text in texts:
            yield _Piece(position, piece.sentence, text)
            position += 1


def _clauses_of(text: str, chars_min: int) -> list[str]:
    clauses: list[str] = []
    for part in _CLAUSE_END.split(text):
        if clauses and min(len(clauses[-1]), len(part)) < chars_min:
            clauses[-1] += f"{'' if clauses[-1][-1:] in '，；：、' else ' '}{part}"
        else:
            clauses.append(part)
    return clauses


def _chosen(
    pieces: Sequence[_Piece],
    level: CompressionLevel,
    chars_max: float,
    language: Language,
    names: frozenset[str] = frozenset(),
) -> list[_Piece]:
    """The piece that says most, at REDUCED whatever has numbers or `names`, the rest by what is said per character."""
    candidates = _candidates(pieces, language)
    by_density = sorted(candidates, key=lambda candidate: (-candidate.density, candidate.piece.position))
    chosen = sorted(candidates, key=lambda candidate: (-candidate.weight, candidate.piece.position))[:1]
    if level is CompressionLevel.REDUCED:
        chosen += [candidate for candidate in by_density if candidate is not chosen[0] and _has_facts(candidate, names)]
    said = _Said(Counter(word for candidate in candidates for word in candidate.words), chosen)
    there = {candidate.piece.position for candidate in chosen}
    chars = sum(candidate.chars for candidate in chosen)
    for candidate in by_density:
        new = candidate.piece.position not in there and not candidate.facts.filler
        if new and chars + candidate.chars <= chars_max and not said.already(candidate):
            chosen.append(candidate)
            said.add(candidate)
            chars += candidate.chars
    return [candidate.piece for candidate in sorted(chosen, key=lambda candidate: candidate.piece.position)]


def _has_facts(candidate: _Candidate, names: frozenset[str]) -> bool:
    text = candidate.piece.text
    return _DIGIT.search(text) is not None or any(name in text for name in names)


def _candidates(pieces: Sequence[_Piece], language: Language) -> list[_Candidate]:
    words = [frozenset(content_words(piece.text, language)) for piece in pieces]
    shared = Counter(word for said in words for word in said)
    every = [facts_of(piece.text, language) for piece in pieces]
    first = next((at for at, facts in enumerate(every) if not facts.filler), 0)
    cost_chars = _SENTENCE_COST_CHARS if language.content is None else _SENTENCE_COST_CHARS // UNSPACED_CHARS
    bonus = [_FIRST_BONUS if at == first else 0.0 for at in range(len(pieces))]
    return [
        _Candidate(piece, facts, said, _weight(piece, facts, said, shared) + bonus[at], cost_chars)
        for at, (piece, facts, said) in enumerate(zip(pieces, every, words, strict=True))
    ]


def _weight(piece: _Piece, facts: Facts, said: frozenset[str], shared: Counter[str]) -> float:
    if piece.sentence.code:
        return _CODE_WEIGHT
    commonplace = len(said & COMMONPLACE)
    weight = facts.weight - _COMMONPLACE_DISCOUNT * (0.5 * commonplace if facts.question else commonplace)
    return weight + 0.5 * sum([shared[word] > 1 for word in said])


class _Said:
    """The facts of the chosen sentences. Numbers count as words, so sentences with other numbers differ.

    Two sentences that say the same have one of their rarest words in common, so a sentence is compared only with those
    that have: a page may have tens of thousands.
    """

    def __init__(self, frequency: Counter[str], chosen: Iterable[_Candidate]) -> None:
        self._frequency = frequency
        self._by_rare_word: dict[str, list[frozenset[str]]] = {}
        for candidate in chosen:
            self.add(candidate)

    def add(self, candidate: _Candidate) -> None:
        for word in self._rarest(candidate.words):
            self._by_rare_word.setdefault(word, []).append(candidate.words)

    def already(self, candidate: _Candidate) -> bool:
        words = candidate.words
        return any(
            len(words & other) > _SAME_SHARE * len(words | other)
            for word in self._rarest(words)
            for other in self._by_rare_word.get(word, ())
        )

    def _rarest(self, words: frozenset[str]) -> list[str]:
        """So many that a sentence with none of them cannot share enough of the others."""
        in_order = sorted(words, key=lambda word: (self._frequency[word], word))
        return in_order[: len(words) - int(_SAME_SHARE * len(words))]


def _joined(pieces: Iterable[_Piece], language: Language) -> str:
    """On one line but for code. A sentence ends with a full stop unless the next one's capital tells as much."""
    text = ""
    for piece in pieces:
        if text and (piece.sentence.code or text.endswith("\n")):
            text = text.rstrip("\n") + "\n"
        elif text and (language.content is None or text[-1] not in "。！？，；：、"):
            visibly = not language.capitalises_nouns and _begins_visibly(piece.text, text)
            text += " " if visibly or text[-1] in ".,;?!:…。！？" else ". "
        text += f"{piece.text}\n" if piece.sentence.code else piece.text
    return text.rstrip("\n")


def _begins_visibly(after: str, before: str) -> bool:
    last = before[before.rfind(" ") + 1 :]
    return after[0].isupper() and after[1:2].islower() and last.islower() and not last[-1].isdigit()
