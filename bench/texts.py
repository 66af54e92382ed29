"""Messages as conversations have them: pieces of the conversation that ships, which tokenizers see in life."""

from collections.abc import Sequence
from functools import cache
from random import Random
from typing import Final

from demo.corpus.generate import DEFAULT_FILE
from demo.corpus.load import load_conversations
from pagekeeper.client import assistant, tool_result, user
from pagekeeper.v1 import page_pb2

QUESTION_BYTES: Final = 300
ANSWER_BYTES: Final = 1024
TOOL_RESULT_BYTES: Final = 2048
TURNS_A_TOOL_CALL: Final = 3
"""Every third turn has the result of one tool call between its question and its answer: 2.3 pages and 2 KiB a turn."""
QUERY_WORDS: Final = 3


class Texts:
    """Texts drawn with one seed. Characters are bytes: everything else is left out."""

    def __init__(self, seed: int) -> None:
        self._prose = _prose()
        self._words = _words()
        self.random = Random(seed)

    def piece(self, size_bytes: int) -> str:
        """A text of just this size."""
        start = self.random.randrange(len(self._prose) - size_bytes)
        return self._prose[start : start + size_bytes]

    def query(self) -> str:
        """Words to search for."""
        return " ".join(self.random.sample(self._words, QUERY_WORDS))

    def question(self) -> page_pb2.PageInput:
        return user(self.piece(QUESTION_BYTES))

    def answer(self) -> page_pb2.PageInput:
        return assistant(self.piece(ANSWER_BYTES))

    def result(self) -> page_pb2.PageInput:
        return tool_result(self.piece(TOOL_RESULT_BYTES), tool_name="read_file")

    def turn(self, number: int) -> Sequence[page_pb2.PageInput]:
        """The pages of a whole turn, the question first."""
        middle = [self.result()] if number % TURNS_A_TOOL_CALL == 0 else []
        return [self.question(), *middle, self.answer()]


@cache
def _prose() -> str:
    (conversation,) = load_conversations(DEFAULT_FILE)
    texts: list[str] = []
    for turn in conversation.turns:
        texts += [message.text for message in turn.question]
        texts += [message.text for message in turn.reply]
    return " ".join(texts).encode("ascii", "ignore").decode()


@cache
def _words() -> tuple[str, ...]:
    return tuple(word for word in _prose().split() if word.isalpha())
