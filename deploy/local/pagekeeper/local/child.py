"""A process that this one started, and that does not outlive it.

A child has a session of its own, so no key of the terminal reaches it and a signal to its group reaches whatever it
started. Its output goes to a file. Nothing here is tied to an event loop: a child that one loop started may be stopped
from another.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pagekeeper.local.ports import is_free

LOG_LINES_SHOWN: Final = 15
POLL_SECONDS: Final = 0.01
_LEASH: Final = Path(__file__).with_name("leash.py")


class StartFailed(Exception):
    """Something did not start. The message says what, why as far as can be told, and how its log ends."""


class PortTaken(StartFailed):
    """Another process was faster to listen on one of the ports that were chosen. Choose again."""


class Child:
    """A process by `name`, started by `start` and running until `stop` or `kill`, or until it ends by itself."""

    def __init__(self, name: str, log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The pid of the process that was started last."""
        assert self._process is not None, f"{self.name} was never started"
        return self._process.pid

    def start(self, command: Sequence[str], environment: Mapping[str, str], directory: Path) -> None:
        """Start `command`, an absolute path and arguments, in `directory`. Its output is appended to the log."""
        assert not self.running, f"{self.name} is running"
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LEASH), str(os.getpid()), *command],
                env=dict(environment),
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    async def wait_until(
        self, ready: Callable[[], Awaitable[bool]], timeout_seconds: float, ports: Sequence[int]
    ) -> None:
        """Wait until `ready` says so. Raises StartFailed or PortTaken, and the process no longer runs then."""
        is_ready = False
        try:
            async with asyncio.timeout(timeout_seconds):
                while not (is_ready := await ready()):
                    if not self.running:
                        raise self._ended_early(ports)
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            raise StartFailed(f"{self.name} was not ready within {timeout_seconds:g} s; {self._log_end()}") from None
        finally:
            if not is_ready:
                self.kill()

    async def stop(self, grace_seconds: float) -> bool:
        """Send SIGTERM, after `grace_seconds` SIGKILL. Return whether the process ended by itself, with status 0."""
        if self.running:
            self._signal(signal.SIGTERM)
            with suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    while self.running:  # noqa: ASYNC110 - an event would belong to one loop
                        await asyncio.sleep(POLL_SECONDS)
        self.kill()
        return self._process is not None and self._process.returncode == 0

    def kill(self) -> None:
        """Send SIGKILL to the process and to all that it started; it is gone on return."""
        if self._process is not None:
            self._signal(signal.SIGKILL)
            self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        # Once it was waited for, its group's number may be that of another one.
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    def _ended_early(self, ports: Sequence[int]) -> StartFailed:
        assert self._process is not None
        taken = [port for port in ports if not is_free(port)]
        if taken:
            return PortTaken(f"{self.name} ended because a port is taken: {taken}; {self._log_end()}")
        return StartFailed(f"{self.name} ended with status {self._process.returncode}; {self._log_end()}")

    def _log_end(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n    ".join([f"its log {self.log_path} ends:", *lines])
