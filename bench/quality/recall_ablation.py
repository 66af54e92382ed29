"""What each constant of recall gains: the share of evidence in the prompt with it, less the share without it.

    python -m bench.quality.recall_ablation [FILE ...]

In process, with the code that the services run: index, recall, packing, lower levels, page lines with the ids that the
product makes. A conversation is one session that does not fit, so all of a budget goes to what the question calls for;
`Evidence in the prompt` measures the same through a running stack and agrees within .006. `carried` says when a turn's
evidence is in the prompt.

A constant is left out by its neutral value, all others as they ship. The gain is paired by question; its interval is
the middle 95 % of the means of resamples. A constant stays when its interval is above 0 in one of the columns: either
data set, at its smallest budget or over all four. Numbers were searched for on LoCoMo samples 1 and 3 and BEAM chats 1,
3, 5, 7 and 9; `held out` has the gains on the others.

`residents fit` is the other case: the newest pages that fit into half the budget are resident, and the constants that
bound what recall may add beside them are left out. There `tokens` is what they cost: more recall for more tokens.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from bench.quality.carried import carries
from bench.quality.conversations import Conversation, Question, read, shipped
from bench.quality.evidence import BUDGETS, FITTING, found_files, interval, tuned_on
from bench.quality.report import Figure, show, write
from pagekeeper.core import prompt
from pagekeeper.core.compress.compressor import Source
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.embedding import Embedder, Floats
from pagekeeper.core.packing import (
    VERBATIM_SHARE,
    ContextPage,
    PackedContext,
    PackedLine,
    pack_by_utility,
    prefix_of,
    render_line,
)
from pagekeeper.core.pages import Modality, PageType
from pagekeeper.core.recall import BESIDE_SHARE_MIN, WEIGHTS, RecallWeights, recall
from pagekeeper.core.recall_intent import RecallIntent, recall_intent_of, recall_room
from pagekeeper.core.search import SessionIndex
from pagekeeper.runtime.embedder import StaticEmbedder
from pagekeeper.runtime.tokens import EncodingName, tokenizer

SHIPPED: Final = "as shipped"
NEUTRAL: Final[Mapping[str, float]] = {
    "semantic_weight": 0.0,
    "feedback_weight": 0.0,
    "feedback_pages": 1,
    "sharpness": 1.0,
    "neighbour_weight": 0.0,
    "neighbour_decay": 1.0,
    "neighbour_reach": 1,
    "fixed_cost_tokens": 0.0,
    "cost_exponent": 0.0,
    "generated_factor": 1.0,
    "question_factor": 1.0,
    "wish_factor": 1.0,
    "asked_of_model_factor": 1.0,
    "named_speaker_factor": 1.0,
}
"""The value of each weight that leaves it out."""
VERBATIM: Final = "VERBATIM_SHARE"
RESIDENT_SHARE: Final = 0.5
"""Of the budget, in pages that are resident where residents fit: what an eviction leaves."""
FAULT_TOKENS_MAX: Final = 16_384
CALLS_BEFORE: Final = 1
"""Recall turns before the question, as in a conversation that was appended in one turn."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One way to recall and pack. Where residents fit, `room` says what recall may take by intent and budget."""

    name: str
    weights: RecallWeights = WEIGHTS
    verbatim_share: float = VERBATIM_SHARE
    beside_share_min: float = BESIDE_SHARE_MIN
    room: Callable[[RecallIntent, int], int] = field(
        default=partial(recall_room, fault_tokens_max=FAULT_TOKENS_MAX, calls_before=CALLS_BEFORE)
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """One question under one setting: its share of evidence, and the conversation's tokens, at each budget."""

    dataset: str
    held_out: bool
    recall: tuple[float, ...]
    tokens: tuple[int, ...]


def settings() -> list[Setting]:
    """As shipped, and without each constant that ranks or packs."""
    without = [Setting(name, RecallWeights(**(asdict(WEIGHTS) | {name: value}))) for name, value in NEUTRAL.items()]
    return [Setting(SHIPPED), *without, Setting(VERBATIM, verbatim_share=1.0)]


def settings_beside_residents() -> list[Setting]:
    """As shipped, and without each constant that bounds recall beside residents."""

    def as_a_question(_: RecallIntent, budget_tokens: int) -> int:
        return recall_room(RecallIntent.QUESTION, budget_tokens, FAULT_TOKENS_MAX)

    def for_recall_alone(intent: RecallIntent, budget_tokens: int) -> int:
        return shipped_room(RecallIntent.RECALL if intent is RecallIntent.RECALL else RecallIntent.NONE, budget_tokens)

    shipped_room = Setting(SHIPPED).room
    return [
        Setting(SHIPPED),
        Setting("BESIDE_SHARE_MIN", beside_share_min=0.0),
        Setting("RECALL_TOKENS_MIN, TURN_SHARE", room=as_a_question),
        Setting("QUESTION_TOKENS_MIN, QUESTION_SHARE", room=for_recall_alone),
    ]


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(files: tuple[Path, ...]) -> None:
    """Measure on FILES, or on what PAGEKEEPER_DATA has, or on the conversation that ships."""
    conversations = [one for path in files or found_files() for one in read(path)] or shipped()
    indexed = [Indexed(conversation) for conversation in conversations]
    click.echo(f"  {len(indexed)} conversations indexed", err=True)
    asked = {one.name: list(_asked(indexed, one, Indexed.ask)) for one in settings()}
    beside = {one.name: list(_asked(indexed, one, Indexed.ask_beside)) for one in settings_beside_residents()}
    figures = [*gains(asked), *_costs(beside)]
    show("What each constant of recall gains", figures)
    write("recall-ablation", figures, {"held_out": [_json(figure) for figure in gains(_held_out(asked))]})


def gains(asked: Mapping[str, Sequence[Asked]]) -> list[Figure]:
    """Per constant and data set, at the smallest budget and over all: the gain, and half the width of its interval."""
    figures = []
    for dataset in dict.fromkeys(one.dataset for one in asked[SHIPPED]):
        at_first, over_all = f"{dataset} {BUDGETS[dataset][0]:,}", f"{dataset}, all budgets"
        ours = np.array([one.recall for one in asked[SHIPPED] if one.dataset == dataset])
        figures.append(Figure(at_first, SHIPPED, round(float(ours[:, 0].mean()), 4)))
        figures.append(Figure(over_all, SHIPPED, round(float(ours.mean()), 4)))
        for name, without in asked.items():
            if name == SHIPPED:
                continue
            gain = ours - np.array([one.recall for one in without if one.dataset == dataset])
            figures += _with_interval(at_first, name, gain[:, 0])
            figures += _with_interval(over_all, name, gain.mean(axis=1))
    return figures


def _with_interval(place: str, name: str, gain: Any) -> Iterator[Figure]:  # noqa: ANN401 - an array of numpy's
    low, high = interval(gain)
    yield Figure(f"{place}: gain", name, round(float(gain.mean()), 4))
    yield Figure(f"{place}: from", name, low)
    yield Figure(f"{place}: to", name, high)


def _costs(asked: Mapping[str, Sequence[Asked]]) -> Iterator[Figure]:
    """Where residents fit: evidence and tokens, as shipped and without each constant."""
    for name, every in asked.items():
        for dataset in dict.fromkeys(one.dataset for one in every):
            of_set = [one for one in every if one.dataset == dataset]
            yield Figure(f"{dataset}, residents fit", name, _mean(one.recall[0] for one in of_set))
            yield Figure(f"{dataset}, residents fit: tokens", name, _mean(one.tokens[0] for one in of_set))


def _held_out(asked: Mapping[str, Sequence[Asked]]) -> dict[str, list[Asked]]:
    return {name: [one for one in every if one.held_out] for name, every in asked.items()}


class _Remembering(SessionIndex):
    """An index that is asked the same questions under every setting, and whose pages do not change meanwhile."""

    def __init__(self, embedder: Embedder) -> None:
        super().__init__(embedder)
        self._scores: dict[str, Floats] = {}
        self._directions: dict[str, Floats] = {}
        self._repeating: dict[str, NDArray[np.int64]] = {}

    def lexical_scores(self, query: str) -> Floats:
        if query not in self._scores:
            self._scores[query] = super().lexical_scores(query)
        return self._scores[query]

    def direction(self, query: str) -> Floats:
        if query not in self._directions:
            self._directions[query] = super().direction(query)
        return self._directions[query]

    def rows_saying(self, text: str) -> NDArray[np.int64]:
        if text not in self._repeating:
            self._repeating[text] = super().rows_saying(text)
        return self._repeating[text]


class Indexed:
    """A conversation as the product has it: every page searchable, with its lines at all levels."""

    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._index = _Remembering(_EMBEDDER)
        self._texts: list[dict[int, str]] = []
        self._pages: list[ContextPage] = []
        for number, turn in enumerate(conversation.turns):
            self._index.add(_page_id(number), turn.text, role=turn.role)
            made = _REGISTRY.compress_all(Source(_page_id(number), Modality.TEXT, turn.text), _COUNT)
            texts = {0: turn.text} | {int(one.level): one.text for one in made}
            prefix = prefix_of(Modality.TEXT, PageType.TRANSCRIPT, turn.role)
            lines = [
                PackedLine(_page_id(number), level, "", _COUNT(render_line(prefix, _page_id(number), level, text)))
                for level, text in texts.items()
            ]
            self._texts.append(texts)
            self._pages.append(ContextPage(lines[0], tuple(lines[1:])))
        self._carried: dict[tuple[str, int, int], bool] = {}

    def ask(self, question: Question, setting: Setting) -> Asked:
        """Without room for what is resident: at every budget."""
        found = recall(self._index, question.text, limit=len(self._pages), weights=setting.weights)
        utility = {one.page_id: one.utility for one in found}
        packed = [
            pack_by_utility(
                (self._pages,),
                budget_tokens=budget_tokens - _TAGS_TOKENS,
                utility=utility,
                verbatim_share=setting.verbatim_share,
            )[0]
            for budget_tokens in BUDGETS[self._conversation.dataset]
        ]
        return self._answered(question, packed)

    def ask_beside(self, question: Question, setting: Setting) -> Asked:
        """With the newest pages resident, at the budget into which they fit."""
        budget_tokens = FITTING[self._conversation.dataset]
        first, resident_tokens = len(self._pages), 0
        while first and resident_tokens + self._pages[first - 1].line.tokens <= RESIDENT_SHARE * budget_tokens:
            first -= 1
            resident_tokens += self._pages[first].line.tokens
        found = recall(self._index, question.text, limit=len(self._pages), weights=setting.weights)
        others = {one.page_id: one.utility for one in found if int(one.page_id[1:]) <= first}
        least = setting.beside_share_min * max(others.values(), default=0.0)
        utility = {page_id: value for page_id, value in others.items() if value >= least}
        room_tokens = min(
            setting.room(recall_intent_of(question.text), budget_tokens),
            budget_tokens - resident_tokens - _TAGS_TOKENS,
        )
        offered = [page for page in self._pages[:first] if page.line.page_id in utility]
        (recalled,) = pack_by_utility((offered,), budget_tokens=max(room_tokens, 0), utility=utility)
        lines = (*recalled.included, *(page.line for page in self._pages[first:]))
        texts = tuple([line.text for line in lines])
        shown = PackedContext(resident_tokens + recalled.tokens, lines, texts, (), ())
        return self._answered(question, [shown])

    def _answered(self, question: Question, packed: Sequence[PackedContext]) -> Asked:
        shares = []
        for one in packed:
            levels = {line.page_id: line.level for line in one.included}
            carried = [
                _page_id(turn) in levels and self._carries(question, turn, levels[_page_id(turn)])
                for turn in question.evidence
            ]
            shares.append(sum(carried) / len(carried))
        dataset, name = self._conversation.dataset, self._conversation.name
        return Asked(dataset, not tuned_on(dataset, name), tuple(shares), tuple(one.tokens for one in packed))

    def _carries(self, question: Question, turn: int, level: int) -> bool:
        key = (question.text, turn, level)
        if key not in self._carried:
            texts = self._texts[turn]
            self._carried[key] = level == 0 or carries(texts[level], texts[0], question.gold)
        return self._carried[key]

    @property
    def questions(self) -> tuple[Question, ...]:
        return self._conversation.questions


def _asked(
    indexed: Iterable[Indexed], setting: Setting, ask: Callable[[Indexed, Question, Setting], Asked]
) -> Iterator[Asked]:
    for conversation in indexed:
        yield from (ask(conversation, question, setting) for question in conversation.questions)
    click.echo(f"  {setting.name}", err=True)


def _page_id(number: int) -> str:
    """As the product numbers a session's pages."""
    return f"p{number + 1}"


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean([*values])), 4)


def _json(figure: Figure) -> dict[str, object]:
    return {"name": figure.name, "constant": figure.system, "value": figure.value}


_COUNT: Final = tokenizer(EncodingName.O200K_BASE).count
_EMBEDDER: Final = StaticEmbedder()
_REGISTRY: Final = CompressorRegistry.default()
_TAGS_TOKENS: Final = sum(
    map(
        _COUNT,
        (
            prompt.CONTEXT_OPENS,
            prompt.CONTEXT_CLOSES,
            prompt.FAULTED_OPENS,
            prompt.FAULTED_CLOSES,
            prompt.MANIFEST_OPENS,
            prompt.MANIFEST_CLOSES,
            '{"available_pages":{\n',
            '},"not_listed":999}\n',
        ),
    )
)
"""What stands around the pages and is counted as theirs: their sections' tags and a manifest without entries."""


if __name__ == "__main__":
    main()
