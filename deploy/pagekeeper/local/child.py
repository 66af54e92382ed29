"""A process that this one started, and that does not outlive it.

A child has a session of its own, so no key of the terminal reaches it and a signal to its group reaches whatever it
started. The child's output goes to a file. Nothing here is tied to an event loop: a child that one loop started may be
stopped from another.
"""

import asyncio
import os
import signal
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from pagekeeper.local.leash import leashed
from pagekeeper.local.ports import is_free, is_listening

LOG_LINES_SHOWN: Final = 15
POLL_SECONDS: Final = 0.03
PRIVATE_UMASK: Final = 0o077
"""Whatever a child writes, and each socket that it makes, is for this user alone."""


class ChildFailed(Exception):
    """A child ended that should run. The message says with what status, and how its log ends."""


class StartFailed(ChildFailed):
    """Something did not start. The message says what, and why as far as can be told."""


class PortTaken(StartFailed):
    """Another process was faster to listen on one of the ports that were chosen. Choose again."""


class Child(ABC):
    """One process at a time, that can be ended and started again. Inside `async with` it runs."""

    def __init__(self, name: str, log_path: Path, *, stop_seconds_max: float) -> None:
        self.name = name
        self.log_path = log_path
        self._stop_seconds_max = stop_seconds_max
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The pid of the process that was started last."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    @abstractmethod
    async def start(self) -> None:
        """Start, and return when it does its work. Raises StartFailed, and then it does not run."""

    async def stop(self) -> bool:
        """Send SIGTERM and, if it takes too long, SIGKILL. Return whether it ended by itself, with status 0."""
        if self.running:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._stop_seconds_max):
                    while self.running:  # noqa: ASYNC110 - an event would belong to one loop
                        await asyncio.sleep(POLL_SECONDS)
        self.kill()
        return self._process is not None and self._process.returncode == 0

    def kill(self) -> None:
        """Send SIGKILL to it and to all that it started: nothing is written any more. The child is gone on return."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()

    async def restart(self) -> None:
        """Start again on the same files and ports, after `stop` or `kill` or instead of them. Raises StartFailed."""
        await self.stop()
        await self.start()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            self.kill()

    def failure(self) -> ChildFailed:
        """Describe the end of a process that should run."""
        assert self._process is not None
        return ChildFailed(f"{self.name} ended with status {self._process.returncode}; {self._log_end()}")

    async def _run(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path,
        *,
        ready: Callable[[], Awaitable[bool]],
        timeout_seconds: float,
        ports: Sequence[int],
    ) -> None:
        """Run `command`, an absolute path and arguments, in `directory`, and wait until it is ready.

        The child has started when it listens on the first of `ports`, the port for its clients, and `ready` agrees.
        Raises StartFailed, PortTaken.
        """
        self._spawn(command, environment, directory)
        is_ready = False
        try:
            async with asyncio.timeout(timeout_seconds):
                while not (is_ready := is_listening(self.pid, ports[0]) and await ready()):
                    if not self.running:
                        raise self._ended_early(ports)
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise StartFailed(f"{self.name} was not ready within {timeout_seconds:g} s; {self._log_end()}") from None
        finally:
            if not is_ready:
                self.kill()

    def _spawn(self, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        assert not self.running, f"{self.name} is running"
        with os.fdopen(os.open(self.log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            self._process = subprocess.Popen(
                leashed(command),
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=PRIVATE_UMASK,
            )

    def _ended_early(self, ports: Sequence[int]) -> StartFailed:
        assert self._process is not None
        taken = [port for port in ports if not is_free(port)]
        if taken:
            return PortTaken(f"{self.name} ended because ports are taken: {taken}; {self._log_end()}")
        return StartFailed(f"{self.name} ended with status {self._process.returncode}; {self._log_end()}")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        # Once it was waited for, its group's number may be that of another one.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _log_end(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n    ".join([f"its log {self.log_path} ends:", *lines])


async def stop_all(children: Iterable[Child]) -> None:
    """Stop children side by side. None of them runs on return, whatever happens meanwhile."""
    children = list(children)
    try:
        await all_of(child.stop() for child in children)
    finally:
        for child in children:
            child.kill()


async def all_of(steps: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Take steps side by side. When one fails the others are cancelled, and what it raised is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
