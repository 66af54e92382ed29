"""What Pagekeeper stands beside: ways to fill a budget with a conversation that a system may take without a model.

Each shows pages verbatim, with a header of the same shape as Pagekeeper's, and counts the same tokens.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from bench.quality.conversations import Conversation
from bench.quality.guide import RESERVED_TOKENS, guide_memory
from pagekeeper.core.packing import ContextPrefix, prefix_of, render_line
from pagekeeper.core.pages import Modality, PageType
from pagekeeper.core.search import SessionIndex
from pagekeeper.core.sentences import facts_of, split_sentences

SUMMARY_SHARE: Final = 0.25
"""Of a sliding window's budget, for what went before it."""
SUMMARY_SENTENCE_CHARS: Final = 400

Count = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a prompt has of the turns: verbatim, and in a summary's words."""

    turns: frozenset[int]
    tokens: int
    summary: str = ""


class Baselines:
    """Every baseline over one conversation."""

    def __init__(self, conversation: Conversation, count: Count) -> None:
        self._turns = conversation.turns
        self._count = count
        self._sizes = [
            count(render_line(prefix_of(Modality.TEXT, PageType.TRANSCRIPT, turn.role), page_id(number), 0, turn.text))
            for number, turn in enumerate(self._turns)
        ]
        self._index = SessionIndex()
        for number, turn in enumerate(self._turns):
            self._index.add(page_id(number), turn.text)
        self._sentences = self._by_weight()
        self._guides: dict[int, _Guide] = {}

    def tail(self, _: str, budget_tokens: int) -> Shown:
        """The last turns, as long as they fit."""
        first, room_tokens = len(self._turns), budget_tokens
        while first and self._sizes[first - 1] <= room_tokens:
            first -= 1
            room_tokens -= self._sizes[first]
        return Shown(frozenset(range(first, len(self._turns))), budget_tokens - room_tokens)

    def window_and_summary(self, question: str, budget_tokens: int) -> Shown:
        """The last turns, and of those before them the sentences that say most."""
        summary_max = int(budget_tokens * SUMMARY_SHARE)
        window = self.tail(question, budget_tokens - summary_max)
        room_tokens = summary_max - self._count(render_line(ContextPrefix.SUMMARY, "summary", 0, ""))
        chosen = []
        for turn, at, text, tokens in self._sentences:
            if turn not in window.turns and tokens <= room_tokens:
                room_tokens -= tokens
                chosen.append((turn, at, text))
        summary = " ".join(text for _, _, text in sorted(chosen))
        line = render_line(ContextPrefix.SUMMARY, "summary", 0, summary)
        return Shown(window.turns, window.tokens + self._count(line), summary)

    def bm25(self, question: str, budget_tokens: int) -> Shown:
        """The turns that match best, as long as they fit."""
        return self._filled(self._ranked(question), budget_tokens)

    def bm25_and_neighbours(self, question: str, budget_tokens: int) -> Shown:
        """The same, each with the turn before and the turn after it."""
        around = (number + step for number in self._ranked(question) for step in (0, -1, 1))
        return self._filled((number for number in around if 0 <= number < len(self._turns)), budget_tokens)

    def guide(self, question: str, budget_tokens: int) -> Shown:
        """The guide's system with its own pre-pass; its manifest is not counted."""
        if budget_tokens not in self._guides:
            self._guides[budget_tokens] = _Guide([turn.text for turn in self._turns], self._sizes, budget_tokens)
        turns = self._guides[budget_tokens].ask(question)
        return self._filled(turns, budget_tokens)

    def _ranked(self, question: str) -> list[int]:
        return [int(found.page_id) for found in self._index.rank(question, limit=len(self._turns))]

    def _filled(self, turns: Iterable[int], budget_tokens: int) -> Shown:
        shown: set[int] = set()
        room_tokens = budget_tokens
        for number in turns:
            if number not in shown and self._sizes[number] <= room_tokens:
                shown.add(number)
                room_tokens -= self._sizes[number]
        return Shown(frozenset(shown), budget_tokens - room_tokens)

    def _by_weight(self) -> list[tuple[int, int, str, int]]:
        """Sentences as (turn, position, text, tokens), those first that say most for their length."""
        every = [
            (turn, at, sentence.text[:SUMMARY_SENTENCE_CHARS])
            for turn, said in enumerate(self._turns)
            for at, sentence in enumerate(split_sentences(said.text))
        ]
        weighed = sorted(every, key=lambda one: (-facts_of(one[2]).weight / (len(one[2]) + 1), one[0], one[1]))
        return [(turn, at, text, self._count(f" {text}")) for turn, at, text in weighed]


class _Guide:
    """The guide's system after the whole conversation; the questions come one after the other."""

    def __init__(self, texts: Sequence[str], sizes: Sequence[int], budget_tokens: int) -> None:
        self._memory = guide_memory(budget_tokens + RESERVED_TOKENS)
        asyncio.run(self._replay(texts, sizes))

    async def _replay(self, texts: Sequence[str], sizes: Sequence[int]) -> None:
        for number, text in enumerate(texts):
            self._memory.new_turn()
            page = self._memory.create_page(text, page_id=page_id(number), size_tokens=sizes[number], hint=text[:80])
            await self._memory.add_to_working_set(page)

    def ask(self, question: str) -> list[int]:
        """The turns in its L0, those first that its pre-pass brought in."""
        brought = asyncio.run(self._memory.demand_pre_pass(question))
        resident = [page.page_id for page in self._memory.get_l0_pages()]
        return [int(one) for one in dict.fromkeys([*brought, *reversed(resident)])]


def page_id(number: int) -> str:
    """Short, as an application would choose it that pays for every header."""
    return str(number)
