"""A message before it has a page id, and the people who speak."""

from dataclasses import dataclass

from demo.corpus.types import Role


@dataclass(frozen=True, slots=True)
class Draft:
    """A message to be. An assistant's draft may call one tool; the tool's draft follows it."""

    role: Role
    text: str
    tool_name: str = ""
    arguments: str = ""


Exchange = tuple[Draft, ...]
"""One turn: what the user says, then the reply."""

PEOPLE = ("Jonas", "Amélie", "Lucía", "Kenji", "Wei", "Yousef", "Priya", "Tomasz")
PILOTS = ("Havenbrot", "Boulangerie Marchand", "Panadería del Sol", "Bloom & Stem", "Nordkorn", "Kiku Flowers")
ENTITIES = (
    "stop",
    "vehicle",
    "depot",
    "parcel",
    "driver",
    "route",
    "quote",
    "invoice",
    "alert",
    "zone",
    "shift",
    "tariff",
)
TODAY = "@TODAY@"
"""Stands for the day on which a message is said, which is known only when turns have their places."""


def user(text: str) -> Draft:
    """A message of the user."""
    return Draft(Role.USER, text)


def assistant(text: str) -> Draft:
    """An answer of the assistant."""
    return Draft(Role.ASSISTANT, text)
