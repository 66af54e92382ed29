"""The three questions that the log asks of JetStream, without nats-py's JetStream client.

`ask` is the JSON API, answered by a leader; `read_batch` reads a range of messages from any replica without a consumer;
`fetch` reads one message from the stream's leader. All three only read, or are safe to repeat, so they are repeated
until the deadline.
"""

import asyncio
import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.msg import Msg

from pagekeeper.runtime.log.client import parse_headers, status_of
from pagekeeper.runtime.log.connection import Connection, Unreachable, now

PATIENCE_SECONDS: Final = 2.0
"""How long to wait for one answer. A request to a replica that has just ceased to lead gets no answer."""
PAUSE_SECONDS_MIN: Final = 0.01
PAUSE_SECONDS_MAX: Final = 0.5

BATCH_MESSAGES: Final = 512
BATCH_BYTES: Final = 2 * 1024 * 1024

SEQUENCE: Final = "Nats-Sequence"
LAST_SEQUENCE: Final = "Nats-Last-Sequence"
PENDING: Final = "Nats-Num-Pending"

_DESCRIPTION: Final = "Description"
_END_OF_BATCH: Final = "204"
_NOT_FOUND: Final = "404"
_UNAVAILABLE: Final = 503
_MESSAGE_NOT_FOUND: Final = 10037
_FULL_CODES: Final = frozenset({10002, 10023, 10028, 10047})
"""Resources of the account or of the server: JSAccountResourcesExceeded, JSInsufficientResources,
JSMemoryResourcesExceeded, JSStorageResourcesExceeded of nats-server's `errors.json`."""
_STORE_FAILED: Final = 10077
"""JSStreamStoreFailed: a stream's own limits, a disk without space and all else that a store refuses."""
_NOT_FOR_ROOM: Final = frozenset({"store is closed", "message too large"})
"""Texts of `_STORE_FAILED` that more room would not change: a server that stops, and a record that never fits."""
_HEADER_LINE: Final = b"NATS/1.0\r\n"


class Refused(Exception):
    """The server understood and said no. `error_code` is one of its published codes."""

    def __init__(self, subject: str, status: int, error_code: int, description: str) -> None:
        super().__init__(f"{subject}: {description} ({error_code})")
        self.status = status
        self.error_code = error_code
        self.description = description


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as a stream keeps it."""

    subject: str
    sequence: int
    headers: Mapping[str, str]
    data: bytes


@dataclass(frozen=True, slots=True)
class Batch:
    """Messages in sequence; `more` says that the replica has others after them."""

    messages: list[Stored]
    more: bool


class Attempts:
    """Paces the repetitions of one operation until its deadline."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._pause_seconds = PAUSE_SECONDS_MIN

    async def pause(self) -> bool:
        """Wait before the next attempt. False, at once, when there is no time for another."""
        if now() + self._pause_seconds >= self.deadline:
            return False
        await asyncio.sleep(self._pause_seconds)
        self._pause_seconds = min(2 * self._pause_seconds, PAUSE_SECONDS_MAX)
        return True


async def ask(connection: Connection, operation: str, body: Mapping[str, object], *, deadline: float) -> dict[str, Any]:
    """One request of the JSON API, `STREAM.INFO.<name>` and the like. Errors: Refused, Unreachable."""
    subject = f"$JS.API.{operation}"
    payload = json.dumps(body).encode() if body else b""
    attempts = Attempts(deadline)
    while True:
        try:
            message = await connection.request(subject, payload, deadline=deadline, patience_seconds=PATIENCE_SECONDS)
            return check_answer(subject, message)
        except Unreachable:
            if not await attempts.pause():
                raise
        except Refused as refusal:
            # 503: no leader yet, or the server is still starting. A server without room says 503 too, for long.
            if refusal.status != _UNAVAILABLE or is_full(refusal):
                raise
            if not await attempts.pause():
                raise Unreachable(str(refusal), sent=False) from refusal


def check_answer(subject: str, message: Msg) -> dict[str, Any]:
    """The JSON object in an answer. Errors: Refused."""
    answer: dict[str, Any] = json.loads(message.data)
    error = answer.get("error")
    if error is not None:
        raise Refused(subject, error["code"], error.get("err_code", 0), error.get("description", ""))
    return answer


def is_full(refusal: Refused) -> bool:
    """Whether there was no room for a message: in its stream, in the account, on the server or on its disk."""
    if refusal.error_code == _STORE_FAILED:
        return refusal.description not in _NOT_FOR_ROOM
    return refusal.error_code in _FULL_CODES


async def fetch(connection: Connection, stream: str, body: Mapping[str, object], *, deadline: float) -> Stored | None:
    """One message from the stream's leader, or None: never stale. Errors: Refused, Unreachable.

    `body` is `last_by_subj`, or `seq` alone, or `seq` with `next_by_subj`.
    """
    try:
        answer = await ask(connection, f"STREAM.MSG.GET.{stream}", body, deadline=deadline)
    except Refused as refusal:
        if refusal.error_code == _MESSAGE_NOT_FOUND:
            return None
        raise
    message = answer["message"]
    return Stored(
        subject=message["subject"],
        sequence=message["seq"],
        headers=parse_headers(base64.b64decode(message.get("hdrs", "")).removeprefix(_HEADER_LINE)),
        data=base64.b64decode(message.get("data", "")),
    )


async def read_batch(
    connection: Connection,
    stream: str,
    body: Mapping[str, object],
    *,
    deadline: float,
    messages_max: int = BATCH_MESSAGES,
) -> Batch:
    """Messages from any replica, which may lag behind: `seq` to start at, `next_by_subj` to filter by.

    Errors: Refused, Unreachable.
    """
    subject = f"$JS.API.DIRECT.GET.{stream}"
    payload = json.dumps({**body, "batch": messages_max, "max_bytes": BATCH_BYTES}).encode()
    attempts = Attempts(deadline)
    while True:
        try:
            replies = await connection.gather(
                subject, payload, is_last=_is_status, deadline=deadline, patience_seconds=PATIENCE_SECONDS
            )
        except Unreachable:
            if not await attempts.pause():
                raise
            continue
        batch = _batch_of(subject, replies)
        if batch is not None:
            return batch
        if not await attempts.pause():
            raise Unreachable(f"{subject}: answers are lost on their way", sent=True)


def _batch_of(subject: str, replies: list[Msg]) -> Batch | None:
    """Return the content of a batch, or None if one of its messages is missing."""
    *messages, end = replies
    status, description = status_of(end), (end.headers or {}).get(_DESCRIPTION, "")
    if status not in (_END_OF_BATCH, _NOT_FOUND):
        raise Refused(subject, int(status or 0), 0, description)
    stored = []
    previous = 0
    for message in messages:
        headers = message.headers or {}
        sequence = int(headers[SEQUENCE])
        # Each says which one the server sent before it.
        if int(headers[LAST_SEQUENCE]) != previous:
            return None
        stored.append(Stored(headers["Nats-Subject"], sequence, headers, message.data))
        previous = sequence
    if status == _NOT_FOUND:
        return Batch(stored, more=False)
    ending = end.headers or {}
    if int(ending[LAST_SEQUENCE]) != previous:
        return None
    return Batch(stored, more=int(ending[PENDING]) > 0)


def _is_status(message: Msg) -> bool:
    return status_of(message) is not None
