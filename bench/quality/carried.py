"""Whether a text that stands for a turn says what an answer needs of that turn.

It does when it keeps every content word, name, number and date that the gold answer has in common with the turn. Where
they have nothing in common (a yes, a count, a day reckoned from a "yesterday"), it must keep every number of the turn
and nine tenths of its content words, so that a list of topics never does. Words are compared as they are written, but
for case; what English says out of courtesy or for emphasis alone is no content word.
"""

import re
from functools import lru_cache
from typing import Final

from pagekeeper.core.languages import STOPWORDS

KEPT_SHARE: Final = 0.9
_WORD: Final = re.compile(r"[^\W_]+(?:['.,:/-][^\W_]+)*")
_COURTESY_WORDS: Final = """
hey hi hello hiya thanks thank great yeah yep yup yes awesome wow woah cool amazing oh ah aww nice sure sounds congrats
totally definitely super well ok okay haha lol actually btw much lot bit wonderful fantastic glad truly especially hmm
bye way
"""
_COURTESY: Final = frozenset(_COURTESY_WORDS.split())


def carries(text: str, turn: str, gold: str) -> bool:
    """Whether `text` keeps what `gold` shares with `turn`."""
    said, kept = _content_words(turn), _content_words(text)
    needed = _content_words(gold) & said
    if needed:
        return needed <= kept
    numbers = {word for word in said if any(map(str.isdigit, word))}
    told = said - _COURTESY
    return numbers <= kept and len(told & kept) >= KEPT_SHARE * len(told)


@lru_cache(maxsize=16_384)
def _content_words(text: str) -> frozenset[str]:
    words = (word.removesuffix("'s") for word in _WORD.findall(text.lower().replace("’", "'")))
    return frozenset(word for word in words if word not in STOPWORDS)
