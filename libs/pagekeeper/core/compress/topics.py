"""What a text is about, in some of its own words."""

from collections import Counter
from typing import Final

from pagekeeper.core.sentences import STOPWORDS, WORD, names_in

TOPICS_MAX: Final = 12
TOPIC_CHARS_MAX: Final = 40
NAMES_COUNTED_MAX: Final = 512
"""A long list of names is looked through only so far: each is searched for in all of the text."""


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
