"""Topics of a text, in words of the text."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from pagekeeper.core.languages import Language, language_of
from pagekeeper.core.sentences import WORD, names_in

TOPICS_MAX: Final = 12
TOPIC_CHARS_MAX: Final = 40
NAMES_COUNTED_MAX: Final = 512
"""A long list of names is looked through only so far: each is searched for in all of the text."""


def topics(text: str) -> list[str]:
    """Names first, then the words that come up most, as they are written."""
    language = language_of(text, {word.lower() for word in WORD.findall(text)})
    found = [name for name in names_in(text, language) if len(name) <= TOPIC_CHARS_MAX][:NAMES_COUNTED_MAX]
    names = Counter({name: text.count(name) for name in found})
    words = Counter(word for word in _words(text, language) if word not in names)
    chosen = [name for name, _ in names.most_common(TOPICS_MAX // 2)]
    return [*chosen, *(word for word, _ in words.most_common(TOPICS_MAX - len(chosen)))]


def _words(text: str, language: Language) -> Iterator[str]:
    """Words that may be a topic: small ones, German nouns, and runs of a script that writes no spaces."""
    if language.content is not None:
        yield from (word for word in language.content.findall(text) if 1 < len(word) <= TOPIC_CHARS_MAX)
        return
    for word in WORD.findall(text):
        noun = language.capitalises_nouns and word[0].isupper() and word[1:].islower()
        if (word.islower() or noun) and 3 < len(word) <= TOPIC_CHARS_MAX:
            lowered = word.lower()
            if lowered not in language.function_words:
                yield word
