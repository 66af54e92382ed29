"""Scoring a reply to a recall question, and which questions of a conversation are asked at all."""

import re
import unicodedata
from typing import Final

from demo.corpus.types import Conversation, Recall
from pagekeeper.core.ids import ID

RECALL_QUESTIONS_MAX: Final = 20
"""Questions that a replay asks of one conversation; research files hold hundreds."""

_CITATION: Final = re.compile(r"\[ref:\s*([^\]]+)\]")
_LOOSE: Final = re.compile(r"[\s\-‐-―*_`]+")


def cited_pages(reply: str) -> tuple[str, ...]:
    """The page ids that a reply cites, each once: `[ref: a]`, also `[ref: a, b]`."""
    # A full stop or a colon behind an id is the sentence's, though an id may hold one.
    ids = (page_id.rstrip(".:") for citation in _CITATION.findall(reply) for page_id in ID.findall(citation))
    return tuple(dict.fromkeys(ids))


def is_correct(recall: Recall, reply: str, shown: frozenset[str]) -> bool:
    """Whether the reply answers. Letter case, spaces, hyphens and markup do not count."""
    cited = set(cited_pages(reply))
    if not recall.answer:
        return (shown | cited).issuperset(recall.evidence)
    said = _loose(reply)
    return not cited.isdisjoint(recall.evidence) and all(_loose(part) in said for part in recall.answer)


def with_questions_at_most(conversation: Conversation, questions_max: int) -> Conversation:
    """The conversation with its recall questions thinned out evenly to `questions_max`."""
    asked = [index for index, turn in enumerate(conversation.turns) if turn.recall is not None]
    if len(asked) <= questions_max:
        return conversation
    kept = {asked[number * len(asked) // questions_max] for number in range(questions_max)}
    turns = (turn for index, turn in enumerate(conversation.turns) if turn.recall is None or index in kept)
    return Conversation(conversation.name, conversation.system, tuple(turns))


def _loose(text: str) -> str:
    return _LOOSE.sub("", unicodedata.normalize("NFKC", text).casefold())
