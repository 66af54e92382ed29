"""Prose by extraction: the sentences that say most, word for word and in their order.

REDUCED keeps what nobody can guess (numbers, dates, decisions) and fills up to half of the tokens with whatever says
most per token; greetings, thanks and offers of help go first. ABSTRACT keeps a fifth. REFERENCE is the text's topics.
Fenced code inside prose stands as its outline at REDUCED and goes below. Nothing is rephrased, and a text is never just
cut off.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from pagekeeper.memory.compress.code import outline
from pagekeeper.memory.compress.compressor import Compressed, Source, if_shorter
from pagekeeper.memory.pages import CompressionLevel
from pagekeeper.memory.sentences import STOPWORDS, WORD, Facts, Sentence, facts_of, names_in, split_sentences

TOPICS_MAX: Final = 12
TOPIC_CHARS_MAX: Final = 40
NAMES_COUNTED_MAX: Final = 512
"""A long list of names is looked through only so far: each is searched for in all of the text."""
SHARES: Final = {CompressionLevel.REDUCED: 0.5, CompressionLevel.ABSTRACT: 0.2}
"""What a level may take of a long text's tokens, ..."""
SHARES_OF_SHORT: Final = {CompressionLevel.REDUCED: 0.8, CompressionLevel.ABSTRACT: 0.4}
"""... and of a short one's, of which every sentence may be the one that matters, ..."""
SHARE_FOR_FACTS: Final = 0.25
"""... and what REDUCED may take more for sentences that have numbers or decisions."""
SHORT_TOKENS: Final = 100
LONG_TOKENS: Final = 500
_SAME_SHARE: Final = 0.8
"""Two sentences with this share of their content words in common say the same."""
_SENTENCE_COST_TOKENS: Final = 6
"""Keeps very short sentences with a name in them from looking dense."""
_CODE_WEIGHT: Final = 4.0
_FIRST_BONUS: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Candidate:
    position: int
    sentence: Sentence
    text: str
    tokens: int
    facts: Facts
    words: frozenset[str]
    weight: float

    @property
    def density(self) -> float:
        return self.weight / (self.tokens + _SENTENCE_COST_TOKENS)

    @property
    def indispensable(self) -> bool:
        return not self.sentence.code and not self.facts.filler and bool(self.facts.numbers or self.facts.decisions)


class ExtractiveCompressor:
    @property
    def name(self) -> str:
        return "extract/1"

    def compress(self, source: Source, level: CompressionLevel, count: Callable[[str], int]) -> Compressed | None:
        return if_shorter(self.name, source, level, extract(source.readable, level, count), count)


def extract(text: str, level: CompressionLevel, count: Callable[[str], int]) -> str:
    """What stands for `text` at `level`; empty when there is nothing in it."""
    if level is CompressionLevel.REFERENCE:
        return ", ".join(topics(text))
    candidates = _candidates(text, level, count)
    total_tokens = count(text)
    share = share_of(total_tokens, level)
    for_facts = SHARE_FOR_FACTS if level is CompressionLevel.REDUCED else 0.0
    return _joined(_choose(candidates, share * total_tokens, (share + for_facts) * total_tokens))


def share_of(tokens: int, level: CompressionLevel) -> float:
    """What `level` may take of a text of `tokens` tokens."""
    least, most = SHARES[level], SHARES_OF_SHORT[level]
    length = min(max(tokens - SHORT_TOKENS, 0) / (LONG_TOKENS - SHORT_TOKENS), 1.0)
    return most - (most - least) * length


def topics(text: str) -> list[str]:
    """Names first, then the words that come up most, as they are written."""
    found = [name for name in names_in(text) if len(name) <= TOPIC_CHARS_MAX][:NAMES_COUNTED_MAX]
    names = Counter({name: text.count(name) for name in found})
    words = Counter(
        word
        for word in WORD.findall(text)
        if word.islower() and 3 < len(word) <= TOPIC_CHARS_MAX and word not in STOPWORDS
    )
    chosen = [name for name, _ in names.most_common(TOPICS_MAX // 2)]
    return [*chosen, *(word for word, _ in words.most_common(TOPICS_MAX - len(chosen)))]


def _candidates(text: str, level: CompressionLevel, count: Callable[[str], int]) -> list[_Candidate]:
    sentences = split_sentences(text)
    words = [frozenset(WORD.findall(sentence.text.lower())) - STOPWORDS for sentence in sentences]
    shared = Counter(word for said in words for word in said)
    every = [facts_of(sentence.text) for sentence in sentences]
    first = next((position for position, facts in enumerate(every) if not facts.filler), 0)
    candidates = []
    for position, (sentence, said, facts) in enumerate(zip(sentences, words, every, strict=True)):
        shown = _outlined(sentence.text, level) if sentence.code else sentence.text
        weight = _CODE_WEIGHT if sentence.code else facts.weight + 0.5 * sum(1 for word in said if shared[word] > 1)
        weight += _FIRST_BONUS if position == first else 0.0
        if shown:
            candidates.append(_Candidate(position, sentence, shown, count(shown) + 1, facts, said, weight))
    return candidates


def _outlined(block: str, level: CompressionLevel) -> str:
    """A fenced block with the outline of its code, fences kept; empty when it has none or is too long for the level."""
    if level is not CompressionLevel.REDUCED:
        return ""
    opening, *lines = block.split("\n")
    closing = [lines.pop()] if lines and lines[-1].lstrip().startswith(opening.lstrip()[:3]) else []
    kept = outline("\n".join(lines), level)
    return "\n".join([opening, kept, *closing]) if kept else ""


def _choose(candidates: list[_Candidate], tokens_max: float, tokens_max_with_facts: float) -> list[_Candidate]:
    """The sentence that says most, those with facts while they fit, then the rest by what they say per token."""
    by_density = sorted(candidates, key=lambda candidate: (-candidate.density, candidate.position))
    chosen = sorted(candidates, key=lambda candidate: (-candidate.weight, candidate.position))[:1]
    said = _Said(Counter(word for candidate in candidates for word in candidate.words), chosen)
    tokens = sum(candidate.tokens for candidate in chosen)
    for allowed, limit in (
        ([c for c in by_density if c.indispensable], tokens_max_with_facts),
        ([c for c in by_density if not c.indispensable and not c.facts.filler], tokens_max),
    ):
        for candidate in allowed:
            fits = tokens + candidate.tokens <= limit and candidate is not chosen[0]
            if fits and not said.already(candidate):
                chosen.append(candidate)
                said.add(candidate)
                tokens += candidate.tokens
    return sorted(chosen, key=lambda candidate: candidate.position)


class _Said:
    """What the chosen sentences say. Numbers make sentences differ, since they count as words.

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


def _joined(chosen: list[_Candidate]) -> str:
    """Sentences of one line of the source stand on one line."""
    text = ""
    line = -1
    for candidate in chosen:
        separator = "" if not text else " " if candidate.sentence.line == line else "\n"
        text += separator + candidate.text
        line = candidate.sentence.line
    return text
