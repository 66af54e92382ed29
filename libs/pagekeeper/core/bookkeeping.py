"""A session's accounts besides its pages: counters, recent evictions, checkpoints, and requests carried out."""

from dataclasses import dataclass
from enum import Enum
from typing import Final


class SessionState(Enum):
    OPEN = 1
    CLOSED = 2


THRASH_OF_FAULTS_MIN: Final = 4
"""Fewer faults count as so many in the thrash index: one that undid an eviction by chance is no thrashing."""


@dataclass(slots=True)
class Counters:
    faults_this_turn: int = 0
    fault_tokens_this_turn: int = 0
    evictions_total: int = 0
    compressions_total: int = 0
    thrash_faults_total: int = 0


@dataclass(frozen=True, slots=True)
class EvictionMark:
    page_id: str
    turn: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    checkpoint_id: str
    name: str
    revision: int
    turn: int
    page_count: int
    used_tokens: int
    created_unix_ms: int


@dataclass(frozen=True, slots=True)
class Operation:
    operation_id: str
    request_digest: bytes
    revision: int
