"""Conversations with questions about them, and the turns that hold the answers.

Two public data sets by the shape of their JSON, LoCoMo samples and BEAM chats, and the conversations that ship, for
when neither is at hand. One turn is one page: a BEAM turn is a message with its role, a LoCoMo turn is an utterance
with its speaker and, where the data has it, the day of its session; both speakers are users. Nothing else of the data
is read into a page, and of a question only its words are shown to a system.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from demo.corpus.generate import DEFAULT_FILE
from pagekeeper.core.pages import MessageRole

LOCOMO: Final = "locomo"
BEAM: Final = "beam"
GENERATED: Final = "generated"
_ADVERSARIAL: Final = 5
"""The category of LoCoMo's questions that have no answer in the conversation."""
_SESSION: Final = re.compile(r"session_(\d+)")
_DAY: Final = re.compile(r"\d{1,2} [A-Z][a-z]+,? \d{4}")
_GOLD: Final = (
    "answer",
    "ideal_answer",
    "ideal_summary",
    "ideal_response",
    "instruction_being_tested",
    "preference_being_tested",
)
"""Where BEAM has what a good answer says: some kinds of questions ask for what the user once wished."""


class UnknownShape(ValueError):
    """A file that is neither of the two formats."""


@dataclass(frozen=True, slots=True)
class Turn:
    text: str
    role: MessageRole


@dataclass(frozen=True, slots=True)
class Question:
    """`evidence` are positions of turns."""

    text: str
    gold: str
    evidence: tuple[int, ...]
    kind: str


@dataclass(frozen=True, slots=True)
class Conversation:
    dataset: str
    name: str
    turns: tuple[Turn, ...]
    questions: tuple[Question, ...]


def read(path: Path) -> list[Conversation]:
    """The conversations of one file. Raises UnknownShape, OSError."""
    if path.suffix == ".jsonl":
        return [_generated(path)]
    content = json.loads(path.read_text())
    if isinstance(content, dict) and "chat" in content:
        return [_beam(content, path.stem)]
    if isinstance(content, list) and all("conversation" in sample for sample in content):
        return [_locomo(sample, f"{path.stem}-{number}") for number, sample in enumerate(content)]
    raise UnknownShape(f"{path} has neither LoCoMo samples nor a BEAM chat")


def shipped() -> list[Conversation]:
    return read(DEFAULT_FILE)


def _locomo(sample: Mapping[str, Any], name: str) -> Conversation:
    said = sample["conversation"]
    turns: list[Turn] = []
    position: dict[str, int] = {}
    for session in sorted(filter(_SESSION.fullmatch, said), key=lambda key: int(key.removeprefix("session_"))):
        day = _day(said.get(f"{session}_date_time", ""))
        for utterance in said[session]:
            position[utterance["dia_id"]] = len(turns)
            turns.append(Turn(f"{utterance['speaker']}{day}: {utterance.get('text', '')}", MessageRole.USER))
    questions = [
        Question(one["question"], str(one.get("answer", "")), evidence, f"category {one.get('category')}")
        for one in sample["qa"]
        if one.get("category") != _ADVERSARIAL and (evidence := _known(_listed(one.get("evidence", ())), position))
    ]
    return Conversation(LOCOMO, name, tuple(turns), tuple(questions))


def _day(when: str) -> str:
    """`, 8 May 2023`: the hour is left out."""
    day = _DAY.search(when)
    return f", {day[0].replace(',', '')}" if day else f", {when}" if when else ""


def _listed(references: Sequence[str]) -> Iterator[str]:
    """Turn ids; some lists have several in one string."""
    for reference in references:
        yield from re.split(r"[;,\s]+", reference)


def _beam(content: Mapping[str, Any], name: str) -> Conversation:
    turns: list[Turn] = []
    position: dict[Any, int] = {}
    every = (message for batch in content["chat"] for turn in batch["turns"] for message in turn)
    for message in (message for message in every if message["content"].strip()):
        position[message["id"]] = len(turns)
        turns.append(Turn(message["content"], MessageRole(message["role"])))
    questions = [
        Question(one["question"], _gold(one), evidence, kind)
        for kind, asked in content["questions"].items()
        for one in asked
        if (evidence := _known(_ids(one.get("source_chat_ids", [])), position))
    ]
    return Conversation(BEAM, str(content.get("id", name)), tuple(turns), tuple(questions))


def _gold(question: Mapping[str, Any]) -> str:
    return next((str(question[key]) for key in _GOLD if question.get(key)), "")


def _ids(nested: Any) -> Iterator[Any]:  # noqa: ANN401 - ids in lists, or in objects of lists
    match nested:
        case dict():
            yield from _ids(list(nested.values()))
        case list():
            for inner in nested:
                yield from _ids(inner)
        case _:
            yield nested


def _known(references: Iterator[Any], position: Mapping[Any, int]) -> tuple[int, ...]:
    return tuple(sorted({position[reference] for reference in references if reference in position}))


def _generated(path: Path) -> Conversation:
    """A conversation of ours: some questions say which message decided what they ask for."""
    turns: list[Turn] = []
    position: dict[str, int] = {}
    questions = []
    for record in map(json.loads, path.read_text().splitlines()):
        if record.get("recall") and record["recall"]["decision_message"] in position:
            evidence = (position[record["recall"]["decision_message"]],)
            questions.append(Question(record["content"], " ".join(record["recall"]["answer"]), evidence, "decision"))
        elif record["content"]:
            position[record["id"]] = len(turns)
            turns.append(Turn(record["content"], MessageRole(record["role"])))
    return Conversation(GENERATED, path.stem, tuple(turns), tuple(questions))
