"""Which pages of a whole session a message calls for, before a model sees it.

A page is worth what it says of the message's words (full text), what it means (vectors, where there is a model), and
what its neighbours say, since a conversation answers in the next turn what it asked in this one. That is weighed by
whose words they are, by whether the message names who speaks, and by what the page takes of a prompt: two short pages
that say something are worth more than one long page that says a little more. Every weight is a constant of this file;
nothing is learned from a session. A page that says just what the message says, as the page that the message itself has
become, is worth nothing: it would be the best of all, and every other would be measured against it.

Deterministic, without a model of language, and linear in the pages of the session.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pagekeeper.core.embedding import Floats
from pagekeeper.core.recall_intent import asks_what_the_model_said, subject_of
from pagekeeper.core.search import IndexedPages, SessionIndex

MEANING_WEIGHT: Final = 0.55
"""Beside the words' 1."""
FEEDBACK_WEIGHT: Final = 0.3
FEEDBACK_PAGES: Final = 8
"""What the best pages mean together is looked for too: it has the words that a question lacks."""
SHARPNESS: Final = 1.2
"""An exponent: what is very like it counts for more than twice what is half as like."""
NEIGHBOUR_WEIGHTS: Final = (0.3, 0.2, 0.15, 0.1, 0.1)
"""What a page is worth for what pages one, two, ... places away say."""
FIXED_COST_TOKENS: Final = 200
COST_EXPONENT: Final = 0.6
"""How much a page's length counts against it: hardly between short ones."""
ASKED_OF_MODEL_WEIGHT: Final = 2.0
"""Of the model's own words, when the message is after them."""
NAMED_SPEAKER_WEIGHT: Final = 2.0
"""Of what someone said whom the message names: who is asked about has mostly said it."""
BESIDE_SHARE_MIN: Final = 0.1
"""What is worth less than this, of the best page that is not at hand, is not worth its tokens beside residents that all
have their place. Where a few pages say it all, a prompt then has these and no more."""
_SCORE_MIN: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Recalled:
    """`worth` from 0 to 1, of the best page's; already by what the page takes of a prompt."""

    page_id: str
    worth: float


def recall(index: SessionIndex, query: str, *, limit: int) -> list[Recalled]:
    """The pages that `query` calls for, those worth most first; ties in the order they were added."""
    pages = index.pages()
    if not len(pages.rows) or limit < 1:
        return []
    repeating = np.searchsorted(pages.rows, index.rows_saying(query))
    said = _normed(index.word_scores(query)[pages.rows], repeating)
    said += MEANING_WEIGHT * _normed(index.likeness(index.meaning(subject_of(query)))[pages.rows], repeating)
    said += FEEDBACK_WEIGHT * _normed(_feedback(index, pages, _spread(said)), repeating)
    worth = _spread(said**SHARPNESS) * pages.weights
    worth[repeating] = 0.0
    if asks_what_the_model_said(query):
        worth[pages.by_model] *= ASKED_OF_MODEL_WEIGHT
    for speaker in index.speakers_named(query):
        worth[pages.speakers == speaker] *= NAMED_SPEAKER_WEIGHT
    worth /= (pages.sizes_tokens + FIXED_COST_TOKENS) ** COST_EXPONENT
    best = float(worth.max())
    if best <= 0.0:
        return []
    order = _highest(worth, limit)
    order = order[worth[order] > 0.0]
    rows, shares = pages.rows[order].tolist(), (worth[order] / best).tolist()
    return [Recalled(index.page_id(row), share) for row, share in zip(rows, shares, strict=True)]


def _feedback(index: SessionIndex, pages: IndexedPages, scores: Floats) -> Floats:
    """How like each page is to the best ones; nothing is like none."""
    best = _highest(scores, FEEDBACK_PAGES)
    return index.likeness(index.meaning_of(pages.rows[best], scores[best]))[pages.rows]


def _highest(scores: Floats, number: int) -> NDArray[np.int64]:
    """Where the highest scores are, in falling order; of equal ones the first. Sorts no more than it has to."""
    if number >= len(scores):
        return np.argsort(-scores, kind="stable")
    least = np.partition(scores, len(scores) - number)[len(scores) - number]
    candidates = np.flatnonzero(scores >= least)
    return candidates[np.argsort(-scores[candidates], kind="stable")[:number]]


def _normed(scores: Floats, repeating: NDArray[np.int64]) -> Floats:
    """Each page's share of the best page's score; pages that repeat the message have none."""
    positive = np.maximum(scores, 0.0)
    positive[repeating] = 0.0
    return (positive / max(float(positive.max()), _SCORE_MIN)).astype(np.float32)


def _spread(scores: Floats) -> Floats:
    """Each page's score with its share of its neighbours'."""
    spread = scores.copy()
    for distance, weight in enumerate(NEIGHBOUR_WEIGHTS, start=1):
        spread[distance:] += weight * scores[:-distance]
        spread[:-distance] += weight * scores[distance:]
    return spread
