"""Places are shared fairly between tenants, whatever order calls come, end and give up in."""

import asyncio
from collections import Counter, deque
from collections.abc import Coroutine
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.errors import TooManyRequests
from pagekeeper.runtime.fair_share import FairShare, ShareLimits

LIMITS = ShareLimits("calls", total=4, per_tenant=3, waiting_per_tenant=5, wait_seconds=60, held_bytes=100)


def start(waiting: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
    return asyncio.ensure_future(waiting)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_tenant_with_many_waiters_delays_another_by_one() -> None:
    share = FairShare(LIMITS)
    order: list[str] = []

    async def call(tenant: str) -> None:
        await share.wait(tenant)
        order.append(tenant)

    assert [share.take("greedy") for _ in range(4)] == [True, True, True, False]
    assert share.take("other")
    tasks = [start(call(tenant)) for tenant in ["greedy"] * 4 + ["victim"]]
    await settle()
    assert order == []
    for tenant in ("greedy", "other"):
        share.leave(tenant)
        await settle()
    assert order == ["greedy", "victim"]
    for task in tasks:
        task.cancel()
    await settle()


async def test_beyond_the_line_is_a_refusal_and_so_is_the_end_of_patience() -> None:
    share = FairShare(ShareLimits("calls", total=1, per_tenant=1, waiting_per_tenant=2, wait_seconds=0.01))
    assert share.take("a")
    waiting = [start(share.wait("a")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests, match="1 calls of one tenant"):
        await share.wait("a")
    with pytest.raises(TooManyRequests, match="1 calls at a time"):
        await share.wait("b")
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(result) for result in results] == [TooManyRequests, TooManyRequests]
    share.leave("a")
    assert len(share) == share.taken == 0


async def test_held_bytes_hold_back_their_tenant_alone_and_let_all_of_its_waiters_go() -> None:
    share = FairShare(LIMITS)
    assert share.take("a")
    share.hold("a", 100)
    waiting = [start(share.wait("a")) for _ in range(2)]
    await settle()
    assert not any(task.done() for task in waiting)
    assert share.take("b")
    share.leave("a", 100)
    await settle()
    assert all(task.done() for task in waiting)
    assert share.held_bytes("a") == 0


async def test_a_refusal_names_what_is_too_much() -> None:
    share = FairShare(ShareLimits("calls", 9, 9, waiting_per_tenant=0, wait_seconds=1, held_bytes=7))
    assert share.take("a")
    share.hold("a", 7)
    with pytest.raises(TooManyRequests, match="holds 7 bytes of one tenant") as refusal:
        await share.wait("a")
    assert refusal.value.metadata == {"limit_bytes": "7"}


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "cancel", "settle"]), st.sampled_from("abc")), max_size=60
)


@given(STEPS)
def test_nobody_waits_for_a_free_place_and_no_limit_is_passed(steps: list[tuple[str, str]]) -> None:
    asyncio.run(_play(steps))


class Play:
    """A history of tenants that come, go and give up."""

    def __init__(self) -> None:
        self.share = FairShare(LIMITS)
        self.places: Counter[str] = Counter()
        self.waiting: dict[str, deque[asyncio.Task[None]]] = {tenant: deque() for tenant in "abc"}

    async def _enter(self, tenant: str) -> None:
        await self.share.wait(tenant)
        self.places[tenant] += 1

    async def step(self, step: str, tenant: str) -> None:
        line = self.waiting[tenant]
        match step:
            case "enter" if len(line) < LIMITS.waiting_per_tenant:
                line.append(start(self._enter(tenant)))
            case "leave" if self.places[tenant]:
                self.places[tenant] -= 1
                self.share.leave(tenant)
            case "cancel" if line:
                line.popleft().cancel()
            case _:
                await settle()
                self.check()

    def check(self) -> None:
        for tenant, line in self.waiting.items():
            self.waiting[tenant] = deque(task for task in line if not task.done())
        assert self.share.taken == sum(self.places.values()) <= LIMITS.total
        assert max(self.places.values(), default=0) <= LIMITS.per_tenant
        if self.share.taken < LIMITS.total:
            assert all(self.places[tenant] == LIMITS.per_tenant for tenant, line in self.waiting.items() if line)

    async def end(self) -> None:
        await settle()
        for task in chain.from_iterable(self.waiting.values()):
            task.cancel()
        await settle()
        for tenant in self.places.elements():
            self.share.leave(tenant)
        assert len(self.share) == self.share.taken == 0


async def _play(steps: list[tuple[str, str]]) -> None:
    play = Play()
    for step, tenant in steps:
        await play.step(step, tenant)
    await play.end()
