"""The work queue in memory: the same promises, for tests and simulations. Nothing survives the process."""

import asyncio
from collections import defaultdict
from dataclasses import replace
from typing import Final

from pagekeeper.core.ids import SessionKey
from pagekeeper.runtime.log.subjects import session_token
from pagekeeper.runtime.queue.handling import run
from pagekeeper.runtime.queue.port import (
    LIST_TIMEOUT_SECONDS,
    PUBLISH_TIMEOUT_SECONDS,
    DeadLetter,
    Handler,
    QueueFull,
    Retries,
    WorkItem,
    check_item,
    check_kind,
    check_limit,
    error_text,
)

_INTERVAL_SECONDS: Final = 60.0


class MemoryQueue:
    """Items of all kinds, of which at most `items_max` may wait."""

    def __init__(self, retries: Retries, *, items_max: int = 1_000_000) -> None:
        self._retries = retries
        self._items_max = items_max
        self._items: dict[str, asyncio.Queue[WorkItem]] = defaultdict(asyncio.Queue)
        self._known: set[tuple[str, SessionKey, str]] = set()
        self._dead: dict[str, list[DeadLetter]] = defaultdict(list)

    async def publish(
        self,
        kind: str,
        key: SessionKey,
        work_id: str,
        data: bytes,
        *,
        timeout_seconds: float = PUBLISH_TIMEOUT_SECONDS,  # noqa: ARG002 - memory answers at once
    ) -> None:
        check_item(kind, work_id, data)
        session_token(key)
        await asyncio.sleep(0)
        if (kind, key, work_id) in self._known:
            return
        if sum(items.qsize() for items in self._items.values()) >= self._items_max:
            raise QueueFull(f"{self._items_max:,} items are waiting")
        self._known.add((kind, key, work_id))
        self._items[kind].put_nowait(WorkItem(kind, key, work_id, bytes(data), delivery=1))

    async def consume(self, kind: str, handler: Handler, *, concurrency: int) -> None:
        check_kind(kind)
        async with asyncio.TaskGroup() as workers:
            for _ in range(concurrency):
                workers.create_task(self._work(kind, handler))

    async def dead_letters(
        self,
        kind: str,
        *,
        limit: int,
        timeout_seconds: float = LIST_TIMEOUT_SECONDS,  # noqa: ARG002 - memory answers at once
    ) -> list[DeadLetter]:
        check_kind(kind)
        check_limit(limit)
        await asyncio.sleep(0)
        return self._dead[kind][:limit]

    async def _work(self, kind: str, handler: Handler) -> None:
        while True:
            item = await self._items[kind].get()
            try:
                error = await run(handler, item, still_at_it=_nobody_asks, interval_seconds=_INTERVAL_SECONDS)
            except asyncio.CancelledError:
                self._again(item)
                raise
            if error is None:
                continue
            if item.delivery >= self._retries.deliveries_max:
                self._dead[kind].append(DeadLetter(item, error_text(error)))
            else:
                pause_seconds = self._retries.pause_seconds(item.delivery)
                asyncio.get_running_loop().call_later(pause_seconds, self._again, item)

    def _again(self, item: WorkItem) -> None:
        self._items[item.kind].put_nowait(replace(item, delivery=item.delivery + 1))


async def _nobody_asks() -> None:
    """In memory no server waits to hear that a worker is alive."""
