"""A long conversation to measure with: the one that ships, and its siblings of other seeds, one after the other."""

from collections.abc import Iterator
from functools import cache
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory

from pagekeeper.platform.conversation.generate import SEED as CONVERSATION_SEED
from pagekeeper.platform.conversation.generate import generate
from pagekeeper.platform.conversation.load import load_conversations
from pagekeeper.platform.conversation.types import Message, Turn

__all__ = ["CONVERSATION_SEED", "messages", "turns"]


@cache
def turns(number: int) -> tuple[Turn, ...]:
    """The first `number` turns. Ids of messages repeat from one sibling to the next."""
    return tuple(islice(_endless(), number))


def _endless() -> Iterator[Turn]:
    for sibling in count(CONVERSATION_SEED):
        with TemporaryDirectory() as directory:
            path = Path(directory, "conversation.jsonl")
            path.write_text(generate(sibling))
            (conversation,) = load_conversations(path)
        yield from conversation.turns


def messages(number: int) -> list[Message]:
    """The first `number` messages that say something."""
    said = (message for turn in _endless() for message in (*turn.question, *turn.reply))
    return list(islice((message for message in said if message.text.strip()), number))
