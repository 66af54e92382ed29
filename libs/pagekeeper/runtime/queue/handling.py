"""Running a handler that may fail, hang, or be cancelled."""

import asyncio
from collections.abc import Awaitable, Callable

from pagekeeper.runtime.queue.port import Handler, WorkItem


async def run(
    handler: Handler, item: WorkItem, *, still_at_it: Callable[[], Awaitable[None]], interval_seconds: float
) -> BaseException | None:
    """Run a handler and return its failure, or None after success. Calls `still_at_it` while the handler runs.

    A handler fails by any exception, so it runs as a task, whose outcome can be looked at without catching anything.
    When the caller is cancelled the handler is too, and has ended before this returns.
    """
    task = asyncio.ensure_future(handler(item))
    try:
        while True:
            await asyncio.wait({task}, timeout=interval_seconds)
            if task.done():
                break
            await still_at_it()
    finally:
        task.cancel()
        await asyncio.wait({task})
        # Here, so that the loop is not told of an exception that nobody looked at when the caller was cancelled.
        error = asyncio.CancelledError("the handler was cancelled") if task.cancelled() else task.exception()
    return error
