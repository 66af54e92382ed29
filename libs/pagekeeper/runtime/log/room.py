"""The room that a partition has for records that make the log longer.

A server refuses every record once a stream holds its `max_bytes`, rollups and tombstones too, although these make the
stream shorter. Part of each stream is therefore kept back (`port.reserve_bytes`): a record that makes the log longer is
refused here once the rest is used.

A writer knows the bytes of a stream from the stream's information, and counts its own records from there on. The
writer asks again when it has appended a share of the room that it found (`GRANT_SHARE`), and when its knowledge is old.
Sixteen writers that find the same room therefore stay within it together, and what more writers append in excess is far
below the reserve unless the log is nearly full, when each of them asks for each record.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from pagekeeper.runtime.log.connection import Connection, Unreachable, now
from pagekeeper.runtime.log.jetstream import Refused, ask
from pagekeeper.runtime.log.port import reserve_bytes

GRANT_SHARE: Final = 16
KNOWN_SECONDS_MAX: Final = 10.0
"""How long a writer goes by what it found, whatever others append meanwhile."""
ASK_SECONDS_MAX: Final = 0.5
"""A writer waits no longer for the answer; the append itself then says what is wrong."""
REFUSED_SECONDS: Final = 0.5
"""How long a full partition is not asked again: so long after room has returned records are refused still."""
UNLIMITED_BYTES: Final = 1 << 60
"""The room of a stream that an operator gave no limit."""
RECORD_OVERHEAD_BYTES: Final = 64
"""What JetStream's file store adds to subject, headers and data is 34 bytes; the rest is for separators."""


class Room:
    """The room of one partition, as one process knows it."""

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._asking = asyncio.Lock()
        self._granted_bytes = 0
        self._known_until = 0.0
        self._refused_bytes = 0
        self._refused_until = 0.0

    async def take(self, size_bytes: int, *, deadline: float) -> bool:
        """Whether a record of so many bytes may make the log longer. True as well when nobody can be asked."""
        if self._has(size_bytes):
            return True
        async with self._asking:
            if self._has(size_bytes):
                return True
            if now() < self._refused_until and size_bytes >= self._refused_bytes:
                return False
            try:
                left_bytes = await self._ask(min(deadline, now() + ASK_SECONDS_MAX))
            except (Unreachable, Refused):
                return True
            if size_bytes > left_bytes:
                self._refused_bytes, self._refused_until = size_bytes, now() + REFUSED_SECONDS
                return False
            self._granted_bytes = max(size_bytes, left_bytes // GRANT_SHARE) - size_bytes
            self._known_until = now() + KNOWN_SECONDS_MAX
            return True

    async def fill(self, *, deadline: float) -> float:
        """The share of the room that is used. Errors: Unreachable, Refused."""
        answer = await ask(self._connection, f"STREAM.INFO.{self._stream}", {}, deadline=deadline)
        return int(answer["state"]["bytes"]) / _room_bytes(answer)

    def _has(self, size_bytes: int) -> bool:
        if size_bytes > self._granted_bytes or now() >= self._known_until:
            return False
        self._granted_bytes -= size_bytes
        return True

    async def _ask(self, deadline: float) -> int:
        answer = await ask(self._connection, f"STREAM.INFO.{self._stream}", {}, deadline=deadline)
        return _room_bytes(answer) - int(answer["state"]["bytes"])


def _room_bytes(answer: Mapping[str, Any]) -> int:
    """The bytes of a stream but for the reserve, by the stream's information."""
    max_bytes = int(answer["config"]["max_bytes"])
    return max_bytes - reserve_bytes(max_bytes) if max_bytes > 0 else UNLIMITED_BYTES


def record_bytes(subject: str, headers: Mapping[str, str], data: bytes) -> int:
    """The bytes that a record takes in its stream, rounded up."""
    header_bytes = sum(len(name) + len(value) + 4 for name, value in headers.items())
    return len(subject) + header_bytes + len(data) + RECORD_OVERHEAD_BYTES
