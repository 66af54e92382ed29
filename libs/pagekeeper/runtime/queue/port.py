"""The port of the work queue: the promises of every implementation.

An accepted item is handled at least once. A handler must be idempotent, because an item comes again in three cases: its
worker died, its acknowledgement was lost, or its worker was late to say that it is still working. An item whose handler
fails comes again after a growing pause. After `DELIVERIES_MAX` deliveries the item becomes a dead letter, with its last
error. No item is ever dropped.

Items of one kind have no order.
"""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.ids import SessionKey
from pagekeeper.runtime.log.port import RECORD_BYTES_MAX

DELIVERIES_MAX: Final = 5
RETRY_SECONDS_MIN: Final = 1.0
RETRY_SECONDS_MAX: Final = 300.0
RETRY_FACTOR: Final = 8.0
"""1, 8, 64 and 300 seconds: a dependency may be away for six minutes before its work becomes dead letters."""
SILENCE_SECONDS_MAX: Final = 30.0
"""A worker silent for longer has died, and its item is given to another. A working one is never silent."""

PUBLISH_TIMEOUT_SECONDS: Final = 5.0
LIST_TIMEOUT_SECONDS: Final = 5.0
DEAD_LETTERS_LIMIT_MAX: Final = 1000
ERROR_LENGTH_MAX: Final = 512

_KIND: Final = re.compile(r"[a-z][a-z_-]{0,31}")
_WORK_ID: Final = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class WorkItem:
    """One delivery of an item. `delivery` counts from 1."""

    kind: str
    key: SessionKey
    work_id: str
    data: bytes
    delivery: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An item that was given up, and why."""

    item: WorkItem
    error: str


@dataclass(frozen=True, slots=True)
class Retries:
    """How often an item is delivered, how long it rests in between, and when its worker counts as dead."""

    deliveries_max: int = DELIVERIES_MAX
    seconds_min: float = RETRY_SECONDS_MIN
    seconds_max: float = RETRY_SECONDS_MAX
    silence_seconds_max: float = SILENCE_SECONDS_MAX

    def pause_seconds(self, delivery: int) -> float:
        """The rest after a delivery that failed."""
        return float(min(self.seconds_max, self.seconds_min * RETRY_FACTOR ** (delivery - 1)))


Handler = Callable[[WorkItem], Awaitable[None]]


class QueueError(Exception):
    """The queue did not do what it was asked to."""


class QueueFull(QueueError):
    """No room for another item. Definite."""


class QueueUnavailable(QueueError):
    """No answer within the deadline. Publishing the same `work_id` again is safe."""


class WorkQueue(Protocol):
    """Work by kind. Safe to share between tasks of one event loop."""

    async def publish(
        self,
        kind: str,
        key: SessionKey,
        work_id: str,
        data: bytes,
        *,
        timeout_seconds: float = PUBLISH_TIMEOUT_SECONDS,
    ) -> None:
        """Accept an item. On return it is durable.

        The same `work_id` for the same kind and session, published again within two minutes, is the same item, even
        when it was carried out already: so an id names the work to do ("snapshot-9"), not only what it is done to.
        Errors: QueueFull, QueueUnavailable, InvalidField.
        """
        ...

    async def consume(self, kind: str, handler: Handler, *, concurrency: int) -> None:
        """Handle items of a kind, `concurrency` at a time, until cancelled. Run it as a task of your own.

        A cancelled consumer cancels its handlers and gives their items back.
        """
        ...

    async def dead_letters(
        self, kind: str, *, limit: int, timeout_seconds: float = LIST_TIMEOUT_SECONDS
    ) -> list[DeadLetter]:
        """The oldest dead letters of a kind. Errors: QueueUnavailable, InvalidField."""
        ...


def check_item(kind: str, work_id: str, data: bytes) -> None:
    """Refuse what can never be an item. Errors: InvalidField."""
    check_kind(kind)
    if _WORK_ID.fullmatch(work_id) is None:
        raise InvalidField("work_id", "must be 1 to 200 printable ASCII characters without spaces")
    if len(data) > RECORD_BYTES_MAX:
        raise InvalidField("data", f"must be at most {RECORD_BYTES_MAX:,} bytes, not {len(data):,}")


def check_kind(kind: str) -> None:
    """Errors: InvalidField."""
    if _KIND.fullmatch(kind) is None:
        raise InvalidField("kind", f"must be 1 to 32 characters of a-z _ -, not {kind!r}")


def check_limit(limit: int) -> None:
    """Errors: InvalidField."""
    if not 1 <= limit <= DEAD_LETTERS_LIMIT_MAX:
        raise InvalidField("limit", f"must be 1 to {DEAD_LETTERS_LIMIT_MAX}, not {limit}")


def error_text(error: BaseException) -> str:
    """Return the error of a dead letter as one line."""
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return text[:ERROR_LENGTH_MAX]
