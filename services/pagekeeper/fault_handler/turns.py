"""Turns at a few workers, shared fairly by tenants.

Invariant: a tenant that waits gets its turn after at most one turn of every other tenant that waits, however many
requests the others have sent. A line has a bound, so a tenant that sends more than is done is refused, and it alone.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from pagekeeper.core.errors import TooManyRequests
from pagekeeper.core.ids import TenantId

WAITING_PER_LINE_MAX: Final = 16
WAITING_MAX: Final = 256
"""Over all lines: each that waits holds its pages' bytes."""


class Line(NamedTuple):
    """Requests that wait behind each other: of a tenant's callers, or of the background for a tenant."""

    tenant: TenantId
    background: bool = False
    """The background waits whatever the bounds say: whoever runs it takes on no more than a few items at a time."""


class Turns:
    """`workers` turns at a time."""

    def __init__(
        self, workers: int, *, per_line_max: int = WAITING_PER_LINE_MAX, waiting_max: int = WAITING_MAX
    ) -> None:
        self._free = workers
        self._per_line_max = per_line_max
        self._waiting_max = waiting_max
        self._lines: dict[Line, deque[asyncio.Future[None]]] = {}
        """Lines in which somebody waits; the first is the next."""

    @asynccontextmanager
    async def turn(self, line: Line) -> AsyncIterator[None]:
        """Have a turn inside the block. Raises TooManyRequests when too many wait already."""
        if self._free:
            self._free -= 1
        else:
            await self._wait(line)
        try:
            yield
        finally:
            self._pass_on()

    async def _wait(self, line: Line) -> None:
        waiting = self._lines.get(line, ())
        if not line.background and (len(waiting) >= self._per_line_max or self._total() >= self._waiting_max):
            raise TooManyRequests(f"{len(waiting)} compressions of this tenant wait already; {self._total()} of all")
        given = asyncio.get_running_loop().create_future()
        self._lines.setdefault(line, deque()).append(given)
        try:
            await given
        except asyncio.CancelledError:
            if given.done() and not given.cancelled():
                self._pass_on()  # the turn was given at the very moment
            else:
                self._leave(line, given)
            raise

    def _leave(self, line: Line, given: asyncio.Future[None]) -> None:
        waiting = self._lines[line]
        waiting.remove(given)
        if not waiting:
            del self._lines[line]

    def _total(self) -> int:
        return sum(map(len, self._lines.values()))

    def _pass_on(self) -> None:
        """Give a turn that has ended to the next line, and let that line stand behind the others."""
        while self._lines:
            line = next(iter(self._lines))
            waiting = self._lines.pop(line)
            given = waiting.popleft()
            if waiting:
                self._lines[line] = waiting
            if not given.cancelled():
                given.set_result(None)
                return
        self._free += 1
