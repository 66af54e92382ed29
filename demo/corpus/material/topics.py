"""The topics on which the conversation decides, drawn from `topics.toml`, whose head says how they are written."""

import tomllib
from dataclasses import dataclass
from importlib.resources import files
from random import Random

from pydantic import BaseModel, ConfigDict, TypeAdapter

from demo.corpus.material.draft import PEOPLE, Exchange, assistant, user
from demo.corpus.types import Role


class QuestionTemplate(BaseModel):
    """A recall question; the answer must hold each string of `answer`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str
    answer: tuple[str, ...]


class Topic(BaseModel):
    """One topic's templates."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    options: tuple[str, str, str, str]
    figures: tuple[str, ...]
    decided_by: Role
    decision: tuple[str, str]
    questions: tuple[QuestionTemplate, QuestionTemplate]
    before: tuple[tuple[str, str], ...]
    after: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A recall question and the strings its answer must hold."""

    topic: str
    text: str
    answer: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Thread:
    """One topic, drawn: what is said about it, in order. `decision[decision_index]` is the message that decides."""

    topic: str
    before: tuple[Exchange, ...]
    decision: Exchange
    decision_index: int
    after: tuple[Exchange, ...]
    questions: tuple[Question, ...]


def draw_threads(random: Random) -> tuple[Thread, ...]:
    """One history of each topic."""
    table = tomllib.loads(files(__package__).joinpath("topics.toml").read_text(encoding="utf-8"))
    return tuple(_draw(topic, random) for topic in TypeAdapter(tuple[Topic, ...]).validate_python(table["topic"]))


def _draw(topic: Topic, random: Random) -> Thread:
    winner, *rivals = random.sample(topic.options, len(topic.options))
    values = {
        "winner": winner,
        "figure": random.choice(topic.figures),
        "person": random.choice(PEOPLE),
        "odd": str(random.randrange(61, 97)),
    }
    said, answered = (text.format(**values) for text in topic.decision)
    return Thread(
        topic=topic.name,
        before=tuple(_talk(pair, winner, rivals, random) for pair in topic.before),
        decision=(user(said), assistant(answered)),
        decision_index=0 if topic.decided_by is Role.USER else 1,
        after=tuple(_talk(pair, winner, rivals, random) for pair in topic.after),
        questions=tuple(
            Question(topic.name, question.text, tuple(part.format(**values) for part in question.answer))
            for question in topic.questions
        ),
    )


def _talk(pair: tuple[str, str], winner: str, rivals: list[str], random: Random) -> Exchange:
    """Talk around the topic. A talk's `{odd}` is never the decision's: the ranges are apart."""
    loser, other = random.sample(rivals, 2)
    values = {
        "winner": winner,
        "loser": loser,
        "other": other,
        "person": random.choice(PEOPLE),
        "odd": str(random.randrange(11, 60)),
    }
    said, answered = pair
    return (user(said.format(**values)), assistant(answered.format(**values)))
