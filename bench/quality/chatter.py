"""A long conversation to measure with, made of what `demo.corpus` generates."""

from collections.abc import Iterator
from functools import cache
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from demo.corpus.generate import SEED as FIRST_SEED
from demo.corpus.generate import generate
from demo.corpus.load import load_conversations
from demo.corpus.types import Message, Role, Turn

CONVERSATION_SEED: Final = FIRST_SEED
"""Of the first that is drawn from; the others follow it."""


@cache
def turns(number: int, tools_every: int) -> tuple[Turn, ...]:
    """`number` turns, every `tools_every`-th with a tool's result; all others are talk, code and other languages."""
    talk = (turn for turn in _endless() if not has_tool(turn))
    with_tool = (turn for turn in _endless() if has_tool(turn))
    return tuple(next(with_tool) if place % tools_every == 0 else next(talk) for place in range(1, number + 1))


def messages(number: int) -> list[Message]:
    """The first `number` messages that say something."""
    said = (message for turn in _endless() for message in (*turn.question, *turn.reply))
    return list(islice((message for message in said if message.text.strip()), number))


def has_tool(turn: Turn) -> bool:
    return any(message.role is Role.TOOL for message in (*turn.question, *turn.reply))


def _endless() -> Iterator[Turn]:
    for seed in count(CONVERSATION_SEED):
        yield from _conversation(seed)


@cache
def _conversation(seed: int) -> tuple[Turn, ...]:
    with TemporaryDirectory() as directory:
        path = Path(directory, "conversation.jsonl")
        path.write_text(generate(seed))
        (conversation,) = load_conversations(path)
    return conversation.turns
