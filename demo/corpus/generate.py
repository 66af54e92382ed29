"""Makes the conversation that `make run` replays when it is given no other.

A team builds "Lantern", delivery tracking for bakeries and florists, over half a year. Five topics get one decision
each in the first half; in the last third the user asks for them. In between lies everything that makes this hard: tool
results of thousands of tokens, code, JSON, a dozen languages, and talk about the same topics before and after they are
decided.

The same seed gives the same bytes. The file is JSON Lines of OpenAI-style messages with two more fields: `id`, the page
id, and, on a question about a decision, `recall`: the topic, the strings that the answer must hold, and the id of the
message that decided.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any, Final

from demo.corpus.material.draft import TODAY, Draft, Exchange, user
from demo.corpus.material.talk import code_exchanges, talk_exchanges
from demo.corpus.material.tool_output import TOOL_OUTPUTS
from demo.corpus.material.topics import Question, Thread, draw_threads
from demo.corpus.types import Role

SEED: Final = 20260302
"""The seed of the committed conversation."""

DEFAULT_FILE: Final = Path(str(files(__package__).joinpath("default.jsonl")))

SYSTEM_PROMPT: Final = (
    "You are the assistant of the Lantern team, who build delivery tracking for bakeries and florists. Answer in the "
    "language of the question, briefly, and say so when you do not know."
)

_TOOL_TURNS: Final = 106
_CODE_TURNS: Final = 48
_LANGUAGE_TURNS: Final = 44
_TALK_TURNS: Final = 51
_FIRST_DAY: Final = date(2026, 3, 2)
_DAYS: Final = 200
_DECISIONS_END: Final = 0.5
_RECALLS_BEGIN: Final = 0.68


@dataclass(frozen=True, slots=True)
class _Placed:
    """A turn with its place in the conversation, from 0 to 1."""

    place: float
    exchange: Exchange
    decides: str = ""
    decision_index: int = 0
    question: Question | None = None


def generate(seed: int) -> str:
    """The conversation for a seed, as JSON Lines."""
    random = Random(seed)
    turns = sorted([*_topics(random), *_filling(random)], key=lambda turn: turn.place)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in _records(turns))


def _topics(random: Random) -> Iterator[_Placed]:
    threads = list(draw_threads(random))
    random.shuffle(threads)
    for number, thread in enumerate(threads):
        decided = (number + 0.5 + random.randrange(-20, 21) / 100) / len(threads) * _DECISIONS_END
        yield _Placed(decided, thread.decision, decides=thread.topic, decision_index=thread.decision_index)
        yield from _spread(thread.before, 0.0, decided)
        yield from _spread(thread.after, decided, 1.0)
    yield from _recalls(threads, random)


def _recalls(threads: list[Thread], random: Random) -> Iterator[_Placed]:
    """Each topic is asked for once, in a new order, and then once more from another side."""
    asked = [random.sample(threads, len(threads)), random.sample(threads, len(threads))]
    questions = [thread.questions[side] for side, order in enumerate(asked) for thread in order]
    for number, question in enumerate(questions):
        place = _RECALLS_BEGIN + (number + 0.5) / len(questions) * (1 - _RECALLS_BEGIN)
        yield _Placed(place, (user(question.text),), question=question)


def _filling(random: Random) -> Iterator[_Placed]:
    kinds: tuple[list[Exchange], ...] = (
        [TOOL_OUTPUTS[number % len(TOOL_OUTPUTS)](random) for number in range(_TOOL_TURNS)],
        code_exchanges(random, _CODE_TURNS),
        talk_exchanges(random, "languages.toml", _LANGUAGE_TURNS),
        talk_exchanges(random, "talk.toml", _TALK_TURNS),
    )
    for exchanges in kinds:
        for number, exchange in enumerate(exchanges):
            yield _Placed((number + random.randrange(1, 100) / 100) / len(exchanges), exchange)


def _spread(exchanges: Iterable[Exchange], first: float, last: float) -> Iterator[_Placed]:
    """The exchanges at equal distances strictly between two places."""
    given = tuple(exchanges)
    for number, exchange in enumerate(given):
        yield _Placed(first + (number + 0.5) / len(given) * (last - first), exchange)


def _records(turns: Iterable[_Placed]) -> Iterator[dict[str, Any]]:
    yield {"id": "system", "role": Role.SYSTEM.value, "content": SYSTEM_PROMPT}
    written = 0
    decisions: dict[str, str] = {}
    for turn in turns:
        today = _FIRST_DAY + timedelta(days=int(turn.place * _DAYS))
        for index, draft in enumerate(turn.exchange):
            written += 1
            record = _record(draft, written, f"{today.day} {today:%B} {today.year}")
            if turn.decides and index == turn.decision_index:
                decisions[turn.decides] = record["id"]
            if turn.question is not None:
                record["recall"] = {
                    "topic": turn.question.topic,
                    "answer": list(turn.question.answer),
                    "decision_message": decisions[turn.question.topic],
                }
            yield record


def _record(draft: Draft, number: int, today: str) -> dict[str, Any]:
    """The message as OpenAI's API writes it. A tool's result answers the call in the message before it."""
    record: dict[str, Any] = {"id": f"m{number:04d}", "role": draft.role.value}
    if draft.role is Role.TOOL:
        return record | {"tool_call_id": f"call_{number - 1:04d}", "name": draft.tool_name, "content": draft.text}
    if draft.tool_name:
        function = {"name": draft.tool_name, "arguments": draft.arguments}
        call = {"id": f"call_{number:04d}", "type": "function", "function": function}
        return record | {"content": None, "tool_calls": [call]}
    return record | {"content": draft.text.replace(TODAY, today)}


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description="Generate the default conversation.")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--output", type=Path, default=DEFAULT_FILE)
    arguments = parser.parse_args()
    arguments.output.write_bytes(generate(arguments.seed).encode())


if __name__ == "__main__":
    main()
