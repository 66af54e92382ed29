"""Computation whose cost grows with what callers send, away from the event loop that answers them.

`ProcessPool` computes in processes of its own, `InlinePool` where it is called. A thread would not do: parsers and
regular expressions hold the interpreter's lock for as long as one call of them takes, and what is left of the lock is
shared with the loop in slices of 5 ms.

Rules for callers:
- What is small is computed in place: HERE_BYTES_MAX says how small. A hop to a process costs more than such work.
- A function that is handed over stands at the top of a module, is pure, and takes and returns values that `pickle`
  knows. It raises PagekeeperError or ValueError; anything else is a defect.

Guarantees of `ProcessPool`:
- A tenant has at most all processes but one, and tenants take turns (`fair_share`).
- A computation that takes more than `seconds_max` is ended with its process, and DeadlineExceeded is raised.
- A process starts when it is first needed, ends after IDLE_SECONDS without work, has a lower priority, has none of
  our settings in its environment, and ends with this one.
- A computation whose caller has gone is finished, and its place is taken until then: nobody gets more than their share
  by asking and going.
"""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from typing import IO, Any, Final, Protocol, TypeVar, TypeVarTuple

from pagekeeper.core.errors import DeadlineExceeded, PagekeeperError
from pagekeeper.runtime.fair_share import FairShare, ShareLimits

HERE_BYTES_MAX: Final = 16 * 1024
"""The most, in bytes or characters of a request's texts, that is computed on the loop. Measured on 2 quiet cores:
escaping and tokenising take 0.15 ms a KiB of prose and 1.4 ms a KiB of NUL, a hop to a process takes 0.28 ms. So much
prose holds the loop for 2.4 ms, and hostile text for 23 ms."""
PROCESSES: Final = 2
WAITING_PER_TENANT: Final = 64
WAIT_SECONDS: Final = 20.0
COMPUTING_SECONDS_MAX: Final = 120.0
"""The largest request that the API takes needs seven seconds of a processor that nobody else wants."""
IDLE_SECONDS: Final = 600.0
NICENESS: Final = 5
_SETTINGS: Final = "PK_"
_LENGTH_BYTES: Final = 8

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Pool(Protocol):
    """Computes functions for tenants."""

    async def run(self, tenant: str, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Return `function(*args)`. Raises what the function raises, TooManyRequests, DeadlineExceeded."""
        ...

    async def close(self) -> None:
        """Compute nothing more."""
        ...


class InlinePool:
    """Computes in place: for programs with one user, and for simulations, which have no processes."""

    async def run(self, tenant: str, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """See `Pool`."""
        del tenant
        return function(*args)

    async def close(self) -> None:
        """See `Pool`."""


class ProcessPool:
    """A `Pool` of processes."""

    def __init__(self, processes: int = PROCESSES, seconds_max: float = COMPUTING_SECONDS_MAX) -> None:
        self._seconds_max = seconds_max
        self._share = FairShare(
            ShareLimits(
                "large requests",
                total=processes,
                per_tenant=max(1, processes - 1),
                waiting_per_tenant=WAITING_PER_TENANT,
                wait_seconds=WAIT_SECONDS,
            )
        )
        self._threads = ThreadPoolExecutor(processes, thread_name_prefix="pool")
        self._idle = [_Process() for _ in range(processes)]
        self._busy: set[_Process] = set()
        self._retirement: asyncio.TimerHandle | None = None

    async def run(self, tenant: str, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """See `Pool`."""
        await self._share.wait(tenant)
        process = self._idle.pop()
        self._busy.add(process)
        loop = asyncio.get_running_loop()
        computing = loop.run_in_executor(self._threads, process.computed, function, args)
        too_long = loop.call_later(self._seconds_max, process.end)

        def done(computed: asyncio.Future[T]) -> None:
            too_long.cancel()
            computed.exception()  # which nobody else looks at when the caller has gone
            self._busy.remove(process)
            self._idle.append(process)
            self._share.leave(tenant)
            self._rest()

        computing.add_done_callback(done)
        try:
            return await asyncio.shield(computing)
        except _Ended:
            raise DeadlineExceeded(f"the request needs more than {self._seconds_max:g} s of a processor") from None

    async def close(self) -> None:
        """See `Pool`."""
        if self._retirement is not None:
            self._retirement.cancel()
        for process in self._busy:
            process.end()
        self._retire()
        self._threads.shutdown(wait=False)

    def _rest(self) -> None:
        """End the processes that have nothing to do for a while."""
        if self._retirement is not None:
            self._retirement.cancel()
        self._retirement = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._retire)

    def _retire(self) -> None:
        for process in self._idle:
            process.retire()


@asynccontextmanager
async def open_pool() -> AsyncIterator[ProcessPool]:
    """A pool that is closed at the end of the block."""
    pool = ProcessPool()
    try:
        yield pool
    finally:
        await pool.close()


class _Ended(Exception):
    """The process was ended in the midst of a computation."""


class _Process:
    """A process that starts when it is needed; one thread at a time asks it, and any may end it."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def computed(self, function: Callable[..., T], args: tuple[Any, ...]) -> T:
        """Return what the process computes. Raises _Ended, and what `function` raises."""
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, (function, args))
            well, result = _received(process.stdout)
        except (OSError, EOFError) as failure:
            was_ended = self._process is None
            self.end()
            _reap(process)
            if was_ended:
                raise _Ended from failure
            raise RuntimeError(f"a process of the pool died while it computed {function.__qualname__}") from failure
        if not well:
            raise result
        return result  # type: ignore[no-any-return]  # of the function that was sent

    def end(self) -> None:
        """Kill the process, if there is one; the thread that asks it clears up."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def retire(self) -> None:
        """Kill the process, if there is one, while no thread asks it."""
        process = self._process
        self.end()
        if process is not None:
            _reap(process)

    def _start(self) -> subprocess.Popen[bytes]:
        # In a session of its own, so that Ctrl-C ends it by the end of its input and not in the middle of a text.
        self._process = subprocess.Popen(
            (sys.executable, "-m", "pagekeeper.runtime.pool"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith(_SETTINGS)},
            start_new_session=True,
        )
        return self._process


def _reap(process: subprocess.Popen[bytes]) -> None:
    """Close the pipes of a process that was killed, and wait for its end."""
    with suppress(BrokenPipeError), process:
        pass


def _send(stream: IO[bytes], value: object) -> None:
    data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    stream.write(len(data).to_bytes(_LENGTH_BYTES, "big"))
    stream.write(data)
    stream.flush()


def _received(stream: IO[bytes]) -> Any:  # noqa: ANN401 - what was sent
    """Raises EOFError when there is no more."""
    length = int.from_bytes(_exactly(stream, _LENGTH_BYTES), "big")
    return pickle.loads(_exactly(stream, length))  # noqa: S301 - of a process that we started, or that started us


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return data


def serve(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Compute what is asked for, until there is no more."""
    while True:
        try:
            function, args = _received(requests)
        except EOFError:
            return
        try:
            answer = (True, function(*args))
        except (PagekeeperError, ValueError) as refusal:
            answer = (False, refusal)
        except Exception as defect:  # noqa: BLE001 - the edge of the process: whoever asked raises it
            answer = (False, RuntimeError(f"{function.__qualname__}: {defect!r}"))
        _send(answers, answer)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    # What a library prints goes to the logs.
    answers_only = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    serve(sys.stdin.buffer, answers_only)
