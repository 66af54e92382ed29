"""A model without weights: reads its prompt, searches, faults pages in, and quotes the sentence that answers.

A pure function of messages and tools. The model says nothing that no page says: the answer is a quotation with the
page's id, or an admission of not knowing. The model measures no intelligence, and is an honest and repeatable caller of
the memory.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from demo.corpus.types import ToolCall
from demo.model.port import ChatMessage, Reply, ToolSchema
from demo.model.reading import Hit, SeenPage, Sight, read_prompt
from pagekeeper.core.ids import ID

FAULTS_MAX: Final = 2
SEARCH_WORDS_MAX: Final = 9
SEARCH_CHARS_MAX: Final = 80
SEARCH_RESULTS: Final = 8
QUOTE_SENTENCES_MAX: Final = 3

NOT_KNOWN: Final = "I do not know: nothing that I can see or find here says so."
NOTED: Final = "Noted."

_ENOUGH_FOR_A_DECISION: Final = 0.45
_ENOUGH: Final = 0.6

_WORD: Final = re.compile(r"[^\W_]+(?:[-.'’][^\W_]+)*")
_WIDE: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])[\"”»]?\s+(?=[^\W\d_]|[\"“«*\-])|(?<=[。！？])|\n+")
_CITATION: Final = re.compile(rf"\[ref: ({ID.pattern})\]")

_DECIDED: Final = re.compile(
    r"\b(?:decided|decision (?:on|about|for|is|was|\()|we (?:go|went) with|we chose|we picked|agreed on"
    r"|entschieden|entscheidung|beschlossen|décidé|décision|decidido|decisión)",
    re.IGNORECASE,
)
_ASKS_FOR_A_DECISION: Final = re.compile(
    r"\b(?:decid\w+|decisi\w+|choose|chose|chosen|agreed?|settled?|picked"
    r"|entsch(?:ie|ei)d\w*|beschlossen|décid\w+|décision\w*)\b",
    re.IGNORECASE,
)
_OPEN: Final = re.compile(
    r"\b(?:undecided|nothing (?:is|was) (?:decided|settled)|not (?:yet )?(?:been )?(?:decided|settled|agreed)"
    r"|ha(?:ve|s)n'?t (?:been )?decided|before we (?:decide|commit)|until we decide|leaning towards"
    r"|noch nicht entschieden|pas encore décidé|no (?:hemos|está) decidido)",
    re.IGNORECASE,
)
_SCAFFOLD: Final = frozenset(files(__package__).joinpath("scaffold.txt").read_text(encoding="utf-8").split())
"""Words that questions are built with and that say nothing of their subject."""
_ASKS: Final = re.compile(
    r"[?？؟]|^(?:as we decided|which|what|who|when|where|why|how|did|do|does|is|are|was|were|can|could)\b",
    re.IGNORECASE,
)
_SUFFIXES: Final = ("ies", "ing", "ed", "es", "s")


_Sentence = tuple[str, set[str]]
"""A sentence, or a run of them, and the question's words in it."""


@dataclass(frozen=True, slots=True)
class _Support:
    """The passage of a page that answers best, and how well: the weighted share of the question's words in it."""

    page: SeenPage
    passage: str
    share: float


class ScriptedModel:
    """The `Model` that replays use when no endpoint is given."""

    name = "scripted model"
    counted_as = "gpt-4o"

    async def complete(self, messages: Sequence[ChatMessage], tools: Sequence[ToolSchema]) -> Reply:
        """The next step: search, fault a page in, or answer."""
        return decide(read_prompt(messages), {_tool_name(tool) for tool in tools})

    async def close(self) -> None:
        """Nothing is held."""


def decide(sight: Sight, tools: Iterable[str]) -> Reply:
    """Decide between an answer and tool calls."""
    if not _is_question(sight.question):
        return Reply(NOTED)
    available = set(tools)
    may_fault = "page_fault" in available and len(sight.asked_for) < FAULTS_MAX
    support = _best_support(sight)
    if support is not None:
        source = _source(support, sight)
        if source is None:
            return Reply(_quotation(support))
        if may_fault:
            return _call("page_fault", page_id=source, target_level=0)
    if may_fault and not sight.searches and "search_pages" in available:
        return _call("search_pages", query=" ".join(_query(sight.question)), limit=SEARCH_RESULTS)
    promising = _most_promising(sight)
    if may_fault and promising is not None:
        return _call("page_fault", page_id=promising.page_id, target_level=0)
    if support is not None and support.page.exact:
        return Reply(_quotation(support))
    return Reply(NOT_KNOWN)


def _source(support: _Support, sight: Sight) -> str | None:
    """The page to read before answering from `support`: the same at full level, or the one that it cites."""
    if not support.page.exact:
        return None if support.page.page_id in sight.asked_for else support.page.page_id
    cited = _CITATION.search(support.page.text)
    return None if cited is None or cited[1] in sight.asked_for else cited[1]


def _best_support(sight: Sight) -> _Support | None:
    asked = _subject(sight.question)
    if not asked:
        return None
    decision = _ASKS_FOR_A_DECISION.search(sight.question) is not None
    enough = _ENOUGH_FOR_A_DECISION if decision else _ENOUGH
    pages = [(page, _sentences(page, asked)) for page in sight.pages if page.text.strip() != sight.question]
    weights = _weights(asked, [sentences for _, sentences in pages])
    candidates = [
        _Support(page, passage, sum(weights[word] for word in found))
        for page, sentences in pages
        for passage, found in _passages(sentences, decision=decision)
    ]
    return max((one for one in candidates if one.share >= enough), key=_strength, default=None)


def _strength(support: _Support) -> tuple[float, bool, bool]:
    """Return the sort key of evidence: statements before repetitions, exact pages before shortened ones."""
    return support.share, support.page.exact, _CITATION.search(support.page.text) is None


def _sentences(page: SeenPage, asked: set[str]) -> list[_Sentence]:
    split = (sentence.strip() for sentence in _SENTENCE_END.split(page.text) if sentence)
    return [(sentence, asked.intersection(_words(sentence))) for sentence in split if sentence]


def _weights(asked: set[str], pages: Sequence[Sequence[_Sentence]]) -> dict[str, float]:
    """The question's words, rare ones heavier; together they weigh 1."""
    spread = Counter(word for sentences in pages for word in set().union(*(found for _, found in sentences)))
    raw = {word: math.log(2 + len(pages) / (1 + spread[word])) for word in asked}
    total = sum(raw.values())
    return {word: weight / total for word, weight in raw.items()}


def _passages(sentences: Sequence[_Sentence], *, decision: bool) -> Iterable[_Sentence]:
    """Runs of sentences that may answer: none of them asks, and for a decision the first one decides."""
    for start, (first, _) in enumerate(sentences):
        if first.endswith("?") or (decision and (not _DECIDED.search(first) or _OPEN.search(first))):
            continue
        run, words = "", set[str]()
        for sentence, found in sentences[start : start + QUOTE_SENTENCES_MAX]:
            if sentence.endswith("?"):
                break
            run, words = f"{run} {sentence}".strip(), words | found
            yield run, words


def _most_promising(sight: Sight) -> Hit | None:
    """The best search result that is not in view already and is not itself a question."""
    exact = {page.page_id for page in sight.pages if page.exact}
    asked = _subject(sight.question)
    open_hits = [
        hit
        for hit in sight.hits
        if hit.page_id not in exact and hit.page_id not in sight.asked_for and not _is_question(hit.hint)
    ]
    if not open_hits:
        return None

    def promise(hit: Hit) -> float:
        share = len(asked.intersection(_words(hit.hint))) / max(1, len(asked))
        return hit.relevance + share + 0.5 * (_DECIDED.search(hit.hint) is not None)

    return max(open_hits, key=promise)


def _query(question: str) -> list[str]:
    """Few words, the question's own, in its order."""
    words = [word for word in dict.fromkeys(_WORD.findall(question)) if word.lower() not in _SCAFFOLD]
    kept = words[:SEARCH_WORDS_MAX] or [question[:SEARCH_CHARS_MAX]]
    return [*kept, "decision"] if _ASKS_FOR_A_DECISION.search(question) else kept


def _subject(question: str) -> set[str]:
    """Return the subject of the question: its words without the scaffold, stemmed."""
    return set(_words(" ".join(word for word in _WORD.findall(question) if word.lower() not in _SCAFFOLD)))


def _words(text: str) -> list[str]:
    words = [_stem(word.lower()) for word in _WORD.findall(_WIDE.sub(" ", text))]
    for run in _WIDE.findall(text):
        words += [run[start : start + 2] for start in range(max(1, len(run) - 1))]
    return words


def _stem(word: str) -> str:
    word = word.removesuffix("'s").removesuffix("’s")
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 4:
            return word.removesuffix(suffix)
    return word


def _is_question(text: str) -> bool:
    return _ASKS.search(text) is not None


def _quotation(support: _Support) -> str:
    return f"“{_CITATION.sub('', support.passage).strip()}” [ref: {support.page.page_id}]"


def _call(name: str, **arguments: object) -> Reply:
    written = json.dumps(arguments, ensure_ascii=False)
    return Reply("", (ToolCall(f"call_{name}_{_digest(written)}", name, written),))


def _digest(text: str) -> str:
    """Short, and the same for the same text: ids of calls need no more."""
    return f"{sum(index * ord(character) for index, character in enumerate(text, 1)) % 16**6:06x}"


def _tool_name(tool: ToolSchema) -> str:
    function = tool.get("function")
    return str(function.get("name")) if isinstance(function, dict) else ""
