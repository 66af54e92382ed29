"""The life of a process: one event loop, from its start to the signal that ends it."""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import uvloop

from pagekeeper.runtime.errors import CannotStart

CANNOT_START_STATUS: Final = 2


def run(main: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `main` to its end. SIGTERM and SIGINT set the event that `main` is given, and `main` then has to return.

    A second such signal ends the process at once. CannotStart ends it with one line and no traceback.
    """

    async def supervised() -> None:
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def on_signal() -> None:
            stop.set()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, on_signal)
        await main(stop)

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(supervised())
    except CannotStart as refusal:
        print(f"pagekeeper: {refusal}", file=sys.stderr)  # noqa: T201 - there may be no logging yet
        raise SystemExit(CANNOT_START_STATUS) from None
