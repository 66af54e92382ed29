"""Everyday turns: code on request, messages in many languages, the team's own talk.

The texts are in the TOML files beside this module.
"""

import tomllib
from importlib.resources import files
from random import Random
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter

from demo.corpus.material.draft import ENTITIES, PEOPLE, PILOTS, Exchange, assistant, user

T = TypeVar("T")


class CodeSample(BaseModel):
    """A request for code, the code, and a word about it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    language: str
    said: str
    code: str
    answered: str


class Talk(BaseModel):
    """Something said and answered; English when no language is named."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    said: str
    answered: str
    language: str = "English"


def code_exchanges(random: Random, count: int) -> list[Exchange]:
    """Code in many programming languages: every sample once before any comes again, with another subject."""
    samples = TypeAdapter(tuple[CodeSample, ...]).validate_python(_table("code.toml")["sample"])
    exchanges: list[Exchange] = []
    for sample in _rounds(samples, random, count):
        entity = random.choice(ENTITIES)
        drawn = {"@entity@": entity, "@Entity@": entity.capitalize(), "@number@": str(random.randrange(3, 30))}
        answer = f"```{sample.language}\n{sample.code}```\n\n{sample.answered}"
        exchanges.append((user(_filled(sample.said, drawn)), assistant(_filled(answer, drawn))))
    return exchanges


def talk_exchanges(random: Random, file_name: str, count: int) -> list[Exchange]:
    """Talk from `talk.toml` or `languages.toml`, each entry once before any comes again."""
    entries = TypeAdapter(tuple[Talk, ...]).validate_python(_table(file_name)["exchange"])
    exchanges: list[Exchange] = []
    for entry in _rounds(entries, random, count):
        person, other = random.sample(PEOPLE, 2)
        drawn = {
            "@person@": person,
            "@other@": other,
            "@pilot@": random.choice(PILOTS),
            "@entity@": random.choice(ENTITIES),
            "@service@": random.choice(("dispatch", "tracking", "billing", "planner", "importer")),
            "@number@": str(random.randrange(4, 29)),
        }
        exchanges.append((user(_filled(entry.said, drawn)), assistant(_filled(entry.answered, drawn))))
    return exchanges


def _rounds(entries: tuple[T, ...], random: Random, count: int) -> list[T]:
    """The entries in a drawn order, again and again, so that equal ones are as far apart as they can be."""
    order = random.sample(entries, len(entries))
    return [order[number % len(order)] for number in range(count)]


def _filled(template: str, drawn: dict[str, str]) -> str:
    for mark, value in drawn.items():
        template = template.replace(mark, value)
    return template


def _table(file_name: str) -> dict[str, object]:
    return tomllib.loads(files(__package__).joinpath(file_name).read_text(encoding="utf-8"))
