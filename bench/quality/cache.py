"""How much of each prompt a provider's prompt cache has seen before, and what that costs.

    python -m bench.quality.cache [--turns N]

Every system assembles the same conversation turn by turn at the same budget. What the cache serves of a prompt is the
prefix that it has in common with the prompt before it, tools included, as long as that one was asked for within the
cache's life. Tokens are counted line by line in o200k_base. Everything that is not served is written to the cache, by
every system alike.
"""

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Protocol

import click
import uvloop

from bench.quality.chatter import CONVERSATION_SEED, turns
from bench.quality.guide import RESERVED_TOKENS, guide_memory
from bench.quality.plot import draw_lines, smoothed
from bench.quality.report import Figure, Wanted, show, write
from demo.corpus.types import Message, Turn
from pagekeeper.client import Session, connect
from pagekeeper.core.search import SessionIndex
from pagekeeper.local.stack import LocalStack, Topology
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from pagekeeper.v1 import page_pb2, session_pb2

TURNS: Final = 500
BUDGET_TOKENS: Final = 32_000
RESERVE_TOKENS: Final = 1_000
TURN_SECONDS: Final = 60
LIFE_SECONDS: Final = 300
WRITE: Final = 1.25
READ: Final = 0.1
BROKEN_BELOW: Final = 0.5
"""A turn of which the cache serves less than this share is a break."""
RECALLED: Final = 3
"""Messages that index-0 injection looks up for the user's words."""

SMOOTHED_TURNS: Final = 20
TALK: Final = "tools 1 in 10"
TOOLS_EVERY: Final[Mapping[str, int]] = {TALK: 10, "tools 1 in 3": 3}
"""Conversations. Of prompts that grow by the second's 600 tokens a turn and are emptied whenever they reach 24,000, a
cache would serve 0.95 at best."""

GUIDE: Final = "the guide's system"
OURS: Final = "ours"
OURS_AS: Final[Mapping[str, Mapping[str, Any]]] = {
    OURS: {},
    "ours, no recall": {"demand_paging": session_pb2.DEMAND_PAGING_MODEL},
    "ours, evicting down to 0.70": {"target_utilization": 0.70},
    "ours, classic layout": {"layout": session_pb2.PROMPT_LAYOUT_CLASSIC},
}
"""As it is configured when nobody says anything, and with one thing said."""

_O200K: Final = tokenizer(EncodingName.O200K_BASE)
_ROLE: Final = {
    "user": page_pb2.MESSAGE_ROLE_USER,
    "assistant": page_pb2.MESSAGE_ROLE_ASSISTANT,
    "tool": page_pb2.MESSAGE_ROLE_TOOL,
}
_INSTRUCTIONS: Final = "You are the assistant of the Lantern team.\n"


class System(Protocol):
    """Something that makes a prompt for every turn."""

    async def ask(self, turn: Turn) -> str:
        """The whole request when the user has spoken, as one text in the provider's order: tools, messages."""
        ...

    async def answer(self, turn: Turn) -> None: ...


class SlidingWindow:
    """As many of the last messages as fit, word for word."""

    def __init__(self, room_tokens: int) -> None:
        self._room_tokens = room_tokens
        self._messages: list[str] = []

    async def ask(self, turn: Turn) -> str:
        self._messages += map(_chat_line, turn.question)
        return _INSTRUCTIONS + self._window(self._room_tokens - count_tokens(_INSTRUCTIONS))

    async def answer(self, turn: Turn) -> None:
        self._messages += map(_chat_line, turn.reply)

    def _window(self, room_tokens: int) -> str:
        first = len(self._messages)
        while first and (tokens := count_tokens(self._messages[first - 1])) <= room_tokens:
            room_tokens -= tokens
            first -= 1
        return "".join(self._messages[first:])


class IndexZeroInjection(SlidingWindow):
    """The same, with what a search finds for the user's words at the head of the instructions."""

    def __init__(self, room_tokens: int) -> None:
        super().__init__(room_tokens)
        self._index = SessionIndex()
        self._texts: dict[str, str] = {}

    async def ask(self, turn: Turn) -> str:
        words = " ".join(message.text for message in turn.question)
        found = [self._texts[ranked.page_id] for ranked in self._index.rank(words, limit=RECALLED)]
        self._messages += map(_chat_line, turn.question)
        self._remember(turn.question)
        head = f"Relevant memories:\n{''.join(found)}{_INSTRUCTIONS}"
        return head + self._window(self._room_tokens - count_tokens(head))

    async def answer(self, turn: Turn) -> None:
        await super().answer(turn)
        self._remember(turn.reply)

    def _remember(self, messages: Sequence[Message]) -> None:
        for message in messages:
            page_id = f"m{len(self._texts)}"
            self._texts[page_id] = _chat_line(message)
            self._index.add(page_id, message.text)


class GuideLayout:
    """Rules, manifest and context in the developer message, by the system that the guide documents."""

    def __init__(self, budget_tokens: int, reserved_tokens: int) -> None:
        self._room_tokens = budget_tokens - reserved_tokens
        self._memory = guide_memory(budget_tokens, reserved_tokens)

    async def ask(self, turn: Turn) -> str:
        self._memory.new_turn()
        await self._add(turn.question)
        context = self._memory.build_context(system_prompt=_INSTRUCTIONS, token_budget=self._room_tokens)
        words = "\n".join(message.text for message in turn.question)
        return f"{json.dumps(context['tools'])}\n{context['developer_message']}\n{words}\n"

    async def answer(self, turn: Turn) -> None:
        await self._add(turn.reply)

    async def _add(self, messages: Sequence[Message]) -> None:
        for message in messages:
            page = self._memory.create_page(
                message.text, size_tokens=count_tokens(message.text) + 12, hint=message.text[:80]
            )
            await self._memory.add_to_working_set(page)


class Ours:
    """Through the public API of a running platform, as configured by `settings`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def ask(self, turn: Turn) -> str:
        await self._session.append(*map(_page, turn.question))
        prompt = await self._session.assemble(reserve_tokens=RESERVE_TOKENS, system_prompt=_INSTRUCTIONS)
        return "\n".join([prompt.tools_json, *(message.content for message in prompt.messages)])

    async def answer(self, turn: Turn) -> None:
        if turn.reply:
            await self._session.append(*map(_page, turn.reply))


@dataclass(frozen=True, slots=True)
class Served:
    """One prompt: its tokens, and those of them that the cache served."""

    tokens: int
    from_cache: int

    @property
    def cost(self) -> float:
        """In tokens at the price of input without a cache."""
        return self.from_cache * READ + (self.tokens - self.from_cache) * WRITE


class PromptCache:
    """A provider's cache, which holds the prompt before."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def serve(self, request: str) -> Served:
        lines = request.splitlines(keepends=True)
        tokens = sum(map(_line_tokens, lines))
        common = next((i for i, (new, old) in enumerate(zip(lines, self._lines, strict=False)) if new != old), None)
        if common is None:
            common = min(len(lines), len(self._lines))
        from_cache = sum(map(_line_tokens, lines[:common]))
        if common < min(len(lines), len(self._lines)):
            from_cache += _line_tokens(_common_prefix(lines[common], self._lines[common]))
        self._lines = lines
        return Served(tokens, from_cache if TURN_SECONDS < LIFE_SECONDS else 0)


def count_tokens(text: str) -> int:
    return sum(map(_line_tokens, text.splitlines(keepends=True)))


@lru_cache(maxsize=2**17)
def _line_tokens(line: str) -> int:
    return _O200K.count(line)


def _common_prefix(one: str, other: str) -> str:
    """By halving, since it is long and `os.path.commonprefix` goes letter by letter."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return one[:low]


def _chat_line(message: Message) -> str:
    return f"{message.role.value}: {message.text}\n"


def _page(message: Message) -> page_pb2.PageInput:
    calls = "".join(f"{call.name}({call.arguments})" for call in message.tool_calls)
    return page_pb2.PageInput(role=_ROLE[message.role.value], text=message.text or calls, tool_name=message.tool_name)


@click.command()
@click.option("--turns", "number", type=click.IntRange(10), default=TURNS, show_default=True)
def main(number: int) -> None:
    """Measure what a prompt cache serves."""
    run(number)


def run(number: int = TURNS) -> list[Figure]:
    figures: list[Figure] = []
    details: dict[str, Any] = {
        "turns": number,
        "budget_tokens": BUDGET_TOKENS,
        "turn_seconds": TURN_SECONDS,
        "life_seconds": LIFE_SECONDS,
        "price": {"write": WRITE, "read": READ},
    }
    for name, tools_every in TOOLS_EVERY.items():
        conversation = turns(number, tools_every)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            served = runner.run(_measure(conversation))
        shown = _figures(name, served)
        show(f"C. Prompt cache: {number} turns, {name}, at {BUDGET_TOKENS:,} tokens", shown)
        figures += shown
        details[name] = {
            "tokens_a_turn": sum(map(_turn_tokens, conversation)) / number,
            "mean_prompt_tokens": {who: sum(p.tokens for p in prompts) / number for who, prompts in served.items()},
        }
        if name == TALK:
            _draw(served)
    write("cache", figures, details, seed=CONVERSATION_SEED)
    return figures


def _draw(served: Mapping[str, Sequence[Served]]) -> None:
    shares = {name: [prompt.from_cache / prompt.tokens for prompt in prompts] for name, prompts in served.items()}
    draw_lines(
        "cache",
        {name: smoothed(values, SMOOTHED_TURNS) for name, values in shares.items()},
        x_label="turn",
        y_label=f"served from cache, mean of {SMOOTHED_TURNS} turns",
    )


async def _measure(conversation: Sequence[Turn]) -> dict[str, list[Served]]:
    served = {
        "sliding window": await _replay(SlidingWindow(BUDGET_TOKENS - RESERVE_TOKENS), conversation),
        "index-0 injection": await _replay(IndexZeroInjection(BUDGET_TOKENS - RESERVE_TOKENS), conversation),
        GUIDE: await _replay(GuideLayout(BUDGET_TOKENS, RESERVED_TOKENS), conversation),
    }
    with TemporaryDirectory() as directory:
        async with (
            LocalStack(Path(directory), Topology.ONE) as stack,
            connect(stack.endpoint, stack.token("bench"), call_seconds=120) as pagekeeper,
        ):
            for name, settings in OURS_AS.items():
                session = await pagekeeper.open_session(max_l0_tokens=BUDGET_TOKENS, **settings)
                served[name] = await _replay(Ours(session), conversation)
    return served


async def _replay(system: System, conversation: Sequence[Turn]) -> list[Served]:
    cache, served = PromptCache(), []
    for turn in conversation:
        served.append(cache.serve(await system.ask(turn)))
        await system.answer(turn)
    return served


def _figures(conversation: str, served: Mapping[str, Sequence[Served]]) -> list[Figure]:
    costs = {name: sum(prompt.cost for prompt in prompts) for name, prompts in served.items()}
    shares, ratios, others = [], [], []
    for name, prompts in served.items():
        share = sum(prompt.from_cache for prompt in prompts) / sum(prompt.tokens for prompt in prompts)
        breaks = sum(prompt.from_cache < prompt.tokens * BROKEN_BELOW for prompt in prompts) * 100 / len(prompts)
        wanted = name == OURS and conversation == TALK
        at_least, at_most = (Wanted.AT_LEAST, Wanted.AT_MOST) if wanted else (Wanted.REPORTED, Wanted.REPORTED)
        share_target, ratio_target = (0.95, 0.35) if wanted else (None, None)
        shares.append(Figure(f"served from cache, {conversation}", name, share, "", at_least, share_target))
        ratio = costs[name] / costs[GUIDE]
        ratios.append(Figure(f"cost / the guide's, {conversation}", name, ratio, "", at_most, ratio_target))
        others.append(Figure(f"breaks per 100 turns, {conversation}", name, breaks))
        others.append(Figure(f"cost a turn, {conversation}", name, costs[name] / len(prompts), "tokens"))
    return [*shares, *ratios, *sorted(others, key=lambda figure: figure.name)]


def _turn_tokens(turn: Turn) -> int:
    return sum(count_tokens(message.text) for message in (*turn.question, *turn.reply))


if __name__ == "__main__":
    main()
