"""Which pages of a whole session a message calls for, before a model sees it.

A page's utility is computed in four steps, each linear in the pages of the session:

    relevance = lexical + semantic_weight * semantic + feedback_weight * feedback
    smoothed  = relevance ** sharpness, and of the page d places away neighbour_weight * neighbour_decay ** (d - 1)
    weighted  = smoothed * the factors of the page's role, form and speaker
    utility   = weighted / (tokens + fixed_cost_tokens) ** cost_exponent

`lexical` is BM25 of the message's words, `semantic` the similarity of vectors where there is a model, `feedback` the
similarity to the best pages together (pseudo-relevance feedback). Each is a share of the best page's. Smoothing is
there because a conversation answers in the next turn what it asked in this one; the last step because a prompt pays
for a page by its tokens. A page that says just what the message says, as the page that the message has become, has no
utility: it would be the best of all, and every other would be measured against it.

Every number is a field of `RecallWeights`, and `bench.quality.recall_ablation` says what each of them gains. Nothing is
learned from a session. Deterministic, without a model of language.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from pagekeeper.core.embedding import Floats
from pagekeeper.core.recall_intent import asks_what_the_model_said, subject_of
from pagekeeper.core.search import IndexedPages, SessionIndex

BESIDE_SHARE_MIN: Final = 0.1
"""When all residents fit, recalled pages are dropped that have less than this share of the utility of the best page
that is not resident. Where a few pages hold the answer, a prompt then has these and no more."""
_SCORE_MIN: Final = 1e-9


@dataclass(frozen=True, slots=True)
class RecallWeights:
    """The numbers of the formula at the head of this module. A factor of 1 and a weight of 0 leave a term out."""

    semantic_weight: float = 0.55
    """Of semantic similarity, beside 1 for words."""
    feedback_weight: float = 0.4
    """Of the similarity to the best pages: they have the words that a question lacks."""
    feedback_pages: int = 8
    """How many pages, those of the highest smoothed relevance, are the best ones. Each counts by its relevance."""
    sharpness: float = 1.25
    """An exponent: above 1, twice the relevance is more than twice the utility."""
    neighbour_weight: float = 0.35
    """Share of its relevance that a page gives to the page before it and the page after it."""
    neighbour_decay: float = 0.65
    """By which that share falls with each place further away."""
    neighbour_reach: int = 5
    """Pages on each side that are given a share."""
    fixed_cost_tokens: float = 200.0
    """Added to a page's length before lengths are compared: short pages cost about the same."""
    cost_exponent: float = 0.65
    """0 would rank by what pages say, 1 by what each token of them says."""
    generated_factor: float = 0.3
    """Of a page that a model or a tool wrote: people ask for what people said."""
    question_factor: float = 0.7
    """Of a page that ends by asking: what it asks is said in the pages after it."""
    wish_factor: float = 1.8
    """Of a page by which a user says how things are to be done from now on: it concerns every question."""
    asked_of_model_factor: float = 2.5
    """Of the model's pages, when the message asks what the model said."""
    named_speaker_factor: float = 2.5
    """Of the pages of a speaker whom the message names: who is asked about has mostly said it."""


WEIGHTS: Final = RecallWeights()
"""Found by search on LoCoMo samples 1 and 3 and BEAM chats 1, 3, 5, 7 and 9; see `bench/quality/README.md`."""


@dataclass(frozen=True, slots=True)
class Recalled:
    """`utility` is above 0 and at most 1: the share of the best page's."""

    page_id: str
    utility: float


def recall(index: SessionIndex, query: str, *, limit: int, weights: RecallWeights = WEIGHTS) -> list[Recalled]:
    """The pages that `query` calls for, those of the highest utility first; ties in the order they were added."""
    pages = index.pages()
    if not len(pages.rows) or limit < 1:
        return []
    utility = _utility(index, pages, query, weights)
    best = float(utility.max())
    if best <= 0.0:
        return []
    order = _highest(utility, limit)
    order = order[utility[order] > 0.0]
    rows, shares = pages.rows[order].tolist(), (utility[order] / best).tolist()
    return [Recalled(index.page_id(row), share) for row, share in zip(rows, shares, strict=True)]


def _utility(index: SessionIndex, pages: IndexedPages, query: str, weights: RecallWeights) -> Floats:
    repeating = np.searchsorted(pages.rows, index.rows_saying(query))
    relevance = _normed(index.lexical_scores(query)[pages.rows], repeating)
    direction = index.direction(subject_of(query))
    relevance += weights.semantic_weight * _normed(index.similarity(direction)[pages.rows], repeating)
    feedback = _feedback(index, pages, _smoothed(relevance, weights), weights.feedback_pages)
    relevance += weights.feedback_weight * _normed(feedback, repeating)
    utility = _smoothed(relevance**weights.sharpness, weights) * _page_factors(pages, weights)
    utility[repeating] = 0.0
    if asks_what_the_model_said(query):
        utility[pages.by_model] *= weights.asked_of_model_factor
    for speaker in index.speakers_named(query):
        utility[pages.speakers == speaker] *= weights.named_speaker_factor
    utility /= (pages.sizes_tokens + weights.fixed_cost_tokens) ** weights.cost_exponent
    return utility


def _page_factors(pages: IndexedPages, weights: RecallWeights) -> Floats:
    """Return the factor of a page's role and form in its utility, for any message."""
    factors = np.ones(len(pages.rows), np.float32)
    factors[pages.by_model | pages.by_tool] *= weights.generated_factor
    factors[pages.asking] *= weights.question_factor
    factors[pages.wishing] *= weights.wish_factor
    return factors


def _feedback(index: SessionIndex, pages: IndexedPages, scores: Floats, number: int) -> Floats:
    """The similarity of each page to the `number` best ones together."""
    best = _highest(scores, number)
    return index.similarity(index.direction_of(pages.rows[best], scores[best]))[pages.rows]


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


def _smoothed(scores: Floats, weights: RecallWeights) -> Floats:
    """Each page's score and its share of its neighbours'."""
    smoothed = scores.copy()
    share = weights.neighbour_weight
    for distance in range(1, weights.neighbour_reach + 1):
        smoothed[distance:] += share * scores[:-distance]
        smoothed[:-distance] += share * scores[distance:]
        share *= weights.neighbour_decay
    return smoothed
