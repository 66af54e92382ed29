"""A conversation as it is replayed: messages grouped into turns, with what is needed to score recall.

Invariant: page ids are unique, and the evidence of a question lies in earlier turns. A `Recall` is for whoever scores;
it is never shown to a model.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """The role of a message."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool call by the assistant; `arguments` is JSON text, as models send it."""

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Message:
    """One message, which becomes one page."""

    page_id: str
    role: Role
    text: str
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str = ""
    tool_name: str = ""
    speaker: str = ""
    said_unix_ms: int = 0


@dataclass(frozen=True, slots=True)
class Recall:
    """The right answer to a turn's question.

    With an `answer`, the reply must hold each of its strings and cite an evidence page. Without one (nobody fixed a
    wording), every evidence page must have been before the model in full, or be cited.
    """

    topic: str
    answer: tuple[str, ...]
    evidence: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn: the user's side, and the recorded reply; without a recorded reply, the model answers."""

    question: tuple[Message, ...]
    reply: tuple[Message, ...]
    recall: Recall | None = None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A whole conversation. `system` holds the application's instructions, said before the first turn."""

    name: str
    system: tuple[Message, ...]
    turns: tuple[Turn, ...]

    def messages(self) -> Iterator[Message]:
        """All messages, in order."""
        yield from self.system
        for turn in self.turns:
            yield from turn.question
            yield from turn.reply
