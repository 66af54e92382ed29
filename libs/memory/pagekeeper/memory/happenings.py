"""What applying an event did to the working set: derived, never logged, the same on every replica."""

from dataclasses import dataclass
from enum import Enum


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
