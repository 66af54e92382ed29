"""One load per key at a time, shared by all callers that ask meanwhile.

Guarantees:
- While a load for a key runs, no caller starts another: later callers wait for the load and get its value or its error.
- The load belongs to no caller. A caller that is cancelled leaves the others undisturbed. When the last caller leaves,
  the load is cancelled.
- No result is remembered. A caller that comes after a load has ended, well or badly, starts a new load.

Accepted: a load that is slow to obey its cancellation may still be ending while its successor runs. A load runs in the
context of the caller that started it, so the load's log lines carry that caller's trace.

A load must not inherit the deadline of the caller that started it, because the load serves callers with different
deadlines: each caller's deadline ends that caller's wait.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Flight(Generic[V]):
    """A running load and the number of callers that wait for it."""

    __slots__ = ("task", "waiters")

    def __init__(self, task: asyncio.Task[V]) -> None:
        self.task = task
        self.waiters = 0


class SingleFlight(Generic[K, V]):
    """Loads by key, at most one at a time for each."""

    def __init__(self) -> None:
        self._flights: dict[K, _Flight[V]] = {}

    def __len__(self) -> int:
        """Number of keys that somebody waits for."""
        return len(self._flights)

    async def do(self, key: K, load: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return what the running load for `key` returns, or what `load` returns when none is running.

        Raises what the load raises.
        """
        flight = self._flights.get(key)
        # A load that is done but whose callers have not woken yet is over: joining it would give its error to a
        # caller that came after it.
        if flight is None or flight.task.done():
            flight = self._flights[key] = _Flight(asyncio.get_running_loop().create_task(load()))
        flight.waiters += 1
        try:
            return await asyncio.shield(flight.task)
        finally:
            flight.waiters -= 1
            if flight.waiters == 0:
                flight.task.cancel()
                # Unless a successor has taken its place meanwhile.
                if self._flights.get(key) is flight:
                    del self._flights[key]
