"""What becomes of a handler whose caller is cancelled."""

import asyncio
import gc
from typing import Any

from pagekeeper.runtime.queue.handling import run
from pagekeeper.runtime.queue.port import WorkItem
from tests.unit.stack import key


async def test_a_handler_that_fails_while_it_is_cancelled_is_looked_at() -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    begun = asyncio.Event()

    async def handler(_: WorkItem) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise TimeoutError

    async def nothing() -> None:
        """A worker that nobody waits for."""

    item = WorkItem("kind", key("s1"), "work", b"", delivery=1)
    caller = asyncio.ensure_future(run(handler, item, still_at_it=nothing, interval_seconds=60))
    await begun.wait()
    caller.cancel()
    await asyncio.wait({caller})
    assert caller.cancelled()
    del caller
    gc.collect()
    await asyncio.sleep(0)
    assert said == []
