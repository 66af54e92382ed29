"""The owner of work that outlives a call: consumers, followers, write-back.

    async with Background(clock, random) as background:
        background.start("write-back", writer.run)
        ...

Guarantees:
- Work that fails with an error that `errors.to_public_error` knows (a store does not answer, a deadline passed) starts
  again after a pause. The pause grows while the work keeps failing.
- Any other error is a defect: the block is cancelled and raises the error, so the process ends.
- Leaving the block cancels all work and waits CLOSE_SECONDS for it. Work that has not ended by then is named in the
  logs and abandoned.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from random import Random
from types import TracebackType
from typing import Any, Final, Self

from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.errors import FORESEEN, to_public_error

PAUSE_SECONDS_MIN: Final = 0.1
PAUSE_SECONDS_MAX: Final = 10.0
HEALTHY_SECONDS: Final = 60.0
"""Work that ran so long before it failed is not failing repeatedly."""
CLOSE_SECONDS: Final = 10.0

_log: Final = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]


class Background:
    """Runs work beside the block that it guards."""

    def __init__(self, clock: Clock, random: Random, close_seconds: float = CLOSE_SECONDS) -> None:
        self._clock = clock
        self._random = random
        self._close_seconds = close_seconds
        self._tasks: set[asyncio.Task[None]] = set()
        self._owner: asyncio.Task[Any] | None = None
        self._defects: list[BaseException] = []
        self._closing = False
        self._interrupted = False

    def start(self, name: str, work: Work) -> None:
        """Run `work` until it returns, is cancelled with the block, or shows a defect. Only inside the block."""
        if self._owner is None or self._closing:
            raise RuntimeError(f"{name} has no owner: the block is not entered, or already left")
        task = asyncio.get_running_loop().create_task(self._persist(name, work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    async def __aenter__(self) -> Self:
        self._owner = asyncio.current_task()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing = True
        interrupted = isinstance(error, asyncio.CancelledError)
        try:
            await self._end()
        except asyncio.CancelledError:
            # It was on its way when the block came to its end by itself.
            interrupted = True
            await self._end()
        assert self._owner is not None
        if self._interrupted and self._owner.uncancel() == 0:
            interrupted = False  # by nobody but us
        if interrupted:
            raise asyncio.CancelledError
        if self._defects:
            raise self._defects[0]

    async def _end(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=self._close_seconds)
            for task in late:
                _log.error("work does not end", extra={"work": task.get_name(), "seconds": self._close_seconds})

    async def _persist(self, name: str, work: Work) -> None:
        pause_seconds_max = PAUSE_SECONDS_MIN
        while True:
            started = self._clock.monotonic()
            try:
                await work()
                return
            except FORESEEN as error:
                refusal = to_public_error(error)
                if refusal is None:
                    raise
                _log.warning("work is started again: %s", error, extra={"work": name, "reason": refusal.reason})
            if self._clock.monotonic() - started > HEALTHY_SECONDS:
                pause_seconds_max = PAUSE_SECONDS_MIN
            await asyncio.sleep(self._random.uniform(PAUSE_SECONDS_MIN / 2, pause_seconds_max))
            pause_seconds_max = min(2 * pause_seconds_max, PAUSE_SECONDS_MAX)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            if self._closing:
                return
            defect: BaseException = RuntimeError(f"{task.get_name()} was cancelled, and not by its owner")
        elif (failure := task.exception()) is not None:
            defect = failure
        else:
            return
        _log.error("a defect in %s", task.get_name(), exc_info=defect)
        self._defects.append(defect)
        if len(self._defects) == 1 and not self._closing:
            assert self._owner is not None
            self._interrupted = self._owner.cancel()
