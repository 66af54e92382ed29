"""What applying an event did to the working set: derived, never logged, the same on every replica."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from hashlib import sha256


class Pressure(Enum):
    LOW = 1
    MEDIUM = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True, slots=True)
class Evicted:
    page_id: str
    size_tokens: int


@dataclass(frozen=True, slots=True)
class Compressed:
    page_id: str
    level_before: int
    level_after: int
    freed_tokens: int


@dataclass(frozen=True, slots=True)
class Admitted:
    page_id: str
    level: int
    size_tokens: int
    faulted: bool
    thrash: bool


@dataclass(frozen=True, slots=True)
class NotAdmitted:
    page_id: str
    size_tokens: int
    room_tokens: int


@dataclass(frozen=True, slots=True)
class PressureChanged:
    before: Pressure
    after: Pressure


@dataclass(frozen=True, slots=True)
class TurnStarted:
    pass


Happened = Evicted | Compressed | Admitted | NotAdmitted | PressureChanged | TurnStarted


@dataclass(frozen=True, slots=True)
class Happening:
    """`what` happened, at which revision and in which turn."""

    what: Happened
    revision: int
    turn: int


def decisions_digest(happenings: Iterable[Happening]) -> bytes:
    """SHA-256 over decisions in order: equal for two folds exactly when they decided alike."""
    digest = sha256()
    for happening in happenings:
        digest.update(repr(happening).encode())
    return digest.digest()
