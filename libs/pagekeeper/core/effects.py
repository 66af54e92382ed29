"""Effects of an event on the working set: derived, never logged, the same on every replica."""

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


Effect = Evicted | Compressed | Admitted | NotAdmitted | PressureChanged | TurnStarted


@dataclass(frozen=True, slots=True)
class RecordedEffect:
    """An effect, the revision whose transaction had it, and the turn in which it had."""

    what: Effect
    revision: int
    turn: int


def decisions_digest(effects: Iterable[RecordedEffect]) -> bytes:
    """SHA-256 over decisions in order: equal for two folds exactly when they decided alike.

    Releases side by side compare these digests, so the text that is hashed never changes, nor does the word in it.
    """
    digest = sha256()
    for effect in effects:
        digest.update(f"Happening(what={effect.what!r}, revision={effect.revision}, turn={effect.turn})".encode())
    return digest.digest()
