"""An asyncio loop in virtual time that picks what runs next by its dice.

Two runs with equal dice take the same steps, and a sleep takes no time. There is no I/O and there are no threads: what
would run in one runs at once. Callbacks belong to the process in whose context they were made; a process that is held
runs nothing until it is let go, so a crash is a hold that never ends and nobody's `finally` gets a chance.

A loop raises what a callback let escape, and RuntimeError when everybody waits for everybody.
"""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any, Final, TypeVar, TypeVarTuple, Unpack, cast

CANCELLATIONS_MAX: Final = 20
"""How often the tasks that are left at the end are cancelled: some clean up with calls of their own."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Process:
    """What runs together, stands still together and dies together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.held = False
        self.waiting: list[asyncio.Handle] = []
        self.context = copy_context()
        self.context.run(_PROCESS.set, self)


_PROCESS: ContextVar[Process | None] = ContextVar("_PROCESS", default=None)


class _Task(asyncio.Task[T]):
    """A task whose place in a set does not depend on where it lies in memory."""

    __slots__ = ("_number",)

    def __init__(self, number: int, coro: Coroutine[Any, Any, T], loop: "SimulatedLoop", **kwargs: Any) -> None:  # noqa: ANN401 - a task's
        self._number = number
        super().__init__(coro, loop=loop, **kwargs)

    def __hash__(self) -> int:
        return self._number

    def __eq__(self, other: object) -> bool:
        return self is other


class SimulatedLoop(asyncio.BaseEventLoop):
    """Runs one main coroutine, with `run`, once."""

    def __init__(self, random: Random) -> None:
        self._runs = False
        super().__init__()
        self._random = random
        self._now = 0.0
        self._soon: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._numbers = count()
        self._tasks: list[asyncio.Task[Any]] = []
        self._held: list[Process] = []
        self._escaped: BaseException | None = None
        self.steps = 0

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Return what `main` returns; cancel all that it has left behind."""
        collects = gc.isenabled()
        gc.disable()  # what it finds, and when, would be up to the machine
        asyncio._set_running_loop(self)  # noqa: SLF001 - made for loops
        self._runs = True
        try:
            task = self.create_task(main)
            while not task.done():
                self._step()
            return cast(T, task.result())
        finally:
            self._end()
            self._runs = False
            asyncio._set_running_loop(None)  # noqa: SLF001 - made for loops
            self.close()
            if collects:
                gc.enable()

    def hold(self, process: Process) -> None:
        process.held = True
        self._held.append(process)

    def let_go(self, process: Process) -> None:
        process.held = False
        self._held.remove(process)
        self._soon += process.waiting
        process.waiting.clear()

    def _step(self) -> None:
        if not self._soon:
            if not self._timers:
                raise RuntimeError("everybody waits, and no timer is set")
            self._now = max(self._now, self._timers[0][0])
        while self._timers and self._timers[0][0] <= self._now:
            self._soon.append(heappop(self._timers)[2])
        self._run_one()
        if self._escaped is not None:
            raise self._escaped

    def _run_one(self) -> None:
        self.steps += 1
        at = self._random.randrange(len(self._soon))
        handle, self._soon[at] = self._soon[at], self._soon[-1]
        self._soon.pop()
        if handle.cancelled():
            return
        context: Context = cast(Any, handle)._context  # noqa: SLF001 - nothing else tells whose it is
        process = context.get(_PROCESS)
        if process is not None and process.held:
            process.waiting.append(handle)
        else:
            cast(Any, handle)._run()  # noqa: SLF001 - made for loops

    def _end(self) -> None:
        for process in list(self._held):
            self.let_go(process)
        for _ in range(CANCELLATIONS_MAX):
            left = [task for task in self._tasks if not task.done()]
            for task in left:
                task.cancel()
            while self._soon:
                self._run_one()
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.exception()  # now somebody has looked at it
        self._tasks.clear()

    # What asyncio asks of a loop

    def time(self) -> float:
        return self._now

    def is_running(self) -> bool:
        return self._runs

    def call_soon(
        self,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._soon.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self,
        when: float,
        callback: Callable[[Unpack[Ts]], object],
        *args: *Ts,
        context: Context | None = None,
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:  # noqa: ANN401 - as in asyncio
        task: asyncio.Task[Any] = _Task(next(self._numbers), coro, self, **kwargs)
        self._tasks.append(task)
        return task

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]  # noqa: ANN401, ARG002
        future: asyncio.Future[T] = self.create_future()
        future.set_result(func(*args))
        return future

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "handle" in context:  # not what a task ended with that nobody asked
            self._escaped = self._escaped or context.get("exception")

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It is passed over when its time comes."""
