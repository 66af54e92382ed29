"""Start a stack on this machine, do some work with it, and keep it up until a signal ends it."""

import asyncio
import json
import os
import signal
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from rich.text import Text

from pagekeeper.app.printing import Printer, say
from pagekeeper.app.target import STACK_FILE
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.local.child import ChildFailed
from pagekeeper.local.options import StackOptions
from pagekeeper.local.stack import SUBJECT, TENANT, LocalStack, Topology
from pagekeeper.local.sweeper import Sweeper
from pagekeeper.runtime.clock import SystemClock

FAILED_STATUS: Final = 1
CANNOT_START_STATUS: Final = 2
INTERRUPTED_STATUS: Final = 130
_ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Work = Callable[[LocalStack], Coroutine[Any, Any, int]]
"""What to do with a running stack; the answer is the exit status."""


def run(options: StackOptions, work: Work, console: Printer, *, once: bool) -> int:
    """Start a stack, do `work`, and stay until a signal unless `once`. Answers the exit status.

    The status is 2 when something could not start, 130 when a signal came before the work was done.
    """
    return asyncio.run(_until_signal(_Run(options, work, console, once=once)))


async def _until_signal(run: "_Run") -> int:
    """SIGINT, SIGTERM and SIGHUP end the run in good order; a second one ends it at once."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    for number in _ENDING:
        loop.add_signal_handler(number, task.cancel)
    try:
        await run.to_end()
    except asyncio.CancelledError:
        return run.status
    except ChildFailed as failed:
        return refuse(str(failed))
    except PagekeeperError as refused:
        return refuse(f"{refused} ({refused.reason})", FAILED_STATUS)
    return run.status


class _Run:
    """One run. `status` is what to exit with, as far as is known."""

    def __init__(self, options: StackOptions, work: Work, console: Printer, *, once: bool) -> None:
        self._options = options
        self._work = work
        self._console = console
        self._once = once
        self.status = INTERRUPTED_STATUS

    async def to_end(self) -> None:
        clock = SystemClock()
        started = clock.monotonic()
        with ExitStack() as files:
            sweeper = files.enter_context(Sweeper())
            directory = self._options.directory or _temporary(sweeper)
            options = self._options
            async with LocalStack(
                directory,
                options.topology,
                replicas=options.replicas,
                nats_servers=options.nats_servers,
                tls=options.tls,
            ) as stack:
                files.enter_context(_announced(stack, sweeper))
                self._introduce(stack, clock.monotonic() - started)
                self.status = await stack.watched(self._work(stack))
                if not self._once:
                    self._say("The stack goes on running; `pagekeeper --help` looks at it. Ctrl-C ends it.")
                    await stack.watch()

    def _introduce(self, stack: LocalStack, seconds: float) -> None:
        processes, services = len(stack.processes), len(stack.topology.services)
        if stack.topology is Topology.FIVE:
            what = "five services" if processes == services else f"five services in {processes} processes"
        else:
            what = "one process" if processes == services else f"{processes} processes with all services"
        servers = len(stack.nats_servers)
        nats = stack.nats.name if servers == 1 else f"{servers} nats-servers"
        ready = f" {what}, {nats} and {stack.s3.name}, ready in {seconds:.1f} s"
        self._say(Text.assemble(("Pagekeeper", "bold"), ready))
        self._say(f"  gRPC at {stack.endpoint}, tenant {TENANT}, subject {SUBJECT}; logs in {stack.directory}")

    def _say(self, line: str | Text) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)


def _temporary(sweeper: Sweeper) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="pagekeeper-"))
    sweeper.remove_at_end(directory)
    return directory


@contextmanager
def _announced(stack: LocalStack, sweeper: Sweeper) -> Iterator[None]:
    """Let the command line of this directory find the stack, while it runs, by a link to a file that is swept."""
    announcement = stack.directory / STACK_FILE.name
    sweeper.remove_at_end(announcement)
    announcement.touch(mode=0o600)
    announcement.write_text(
        json.dumps({"endpoint": stack.endpoint, "token": stack.token(), "environment": stack.environment}, indent=2)
    )
    STACK_FILE.parent.mkdir(exist_ok=True)
    link = STACK_FILE.with_name(f"{STACK_FILE.name}.{os.getpid()}")
    link.symlink_to(announcement)
    link.replace(STACK_FILE)
    try:
        yield
    finally:
        if STACK_FILE.is_symlink() and STACK_FILE.readlink() == announcement:
            STACK_FILE.unlink()


def refuse(problem: str, status: int = CANNOT_START_STATUS) -> int:
    """Say in one line on standard error why nothing was run, and answer the exit status."""
    say(f"pagekeeper: {problem}", err=True)
    return status
