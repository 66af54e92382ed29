"""Turns at a few workers: who waits is served by tenant, not by the number of requests."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.errors import TooManyRequests
from pagekeeper.core.ids import TenantId
from pagekeeper.fault_handler.turns import Line, Turns

LINES = [Line(TenantId(name)) for name in ("alice", "bob", "mallory")]
MALLORY = LINES[-1]


async def served(turns: Turns, lines: list[Line], cancelled: frozenset[int] = frozenset()) -> list[int]:
    """Let each request wait in its line while a worker is busy; answer which were served, in their order."""
    order: list[int] = []
    begin = asyncio.Event()

    async def ask(number: int, line: Line) -> None:
        async with turns.turn(line):
            order.append(number)
            await asyncio.sleep(0)

    async def keep_busy() -> None:
        async with turns.turn(MALLORY):
            await begin.wait()

    busy = asyncio.ensure_future(keep_busy())
    await asyncio.sleep(0)
    asked = [asyncio.ensure_future(ask(number, line)) for number, line in enumerate(lines)]
    await asyncio.sleep(0)
    for number in cancelled:
        asked[number].cancel()
    begin.set()
    await asyncio.gather(busy, *asked, return_exceptions=True)
    return order


@given(
    lines=st.lists(st.sampled_from(LINES), max_size=12),
    cancelled=st.frozensets(st.integers(0, 11), max_size=4),
)
def test_between_two_turns_of_a_tenant_everyone_who_waits_has_one(lines: list[Line], cancelled: frozenset[int]) -> None:
    cancelled = frozenset(number for number in cancelled if number < len(lines))
    order = asyncio.run(served(Turns(1), lines, cancelled))
    assert sorted(order) == [number for number in range(len(lines)) if number not in cancelled]
    for line in LINES:
        mine = [number for number in order if lines[number] == line]
        assert mine == sorted(mine), "first come, first served in a line"
    waiting = {number: lines[number] for number in order}
    last_turn: dict[Line, int] = {}
    for turn, number in enumerate(order):
        line = waiting.pop(number)
        since = [lines[other] for other in order[last_turn.get(line, -1) + 1 : turn]]
        assert line not in since
        if line in last_turn:
            assert set(waiting.values()) - {line} <= set(since), "each that still waits had a turn since"
        last_turn[line] = turn


async def test_a_line_that_is_full_refuses_and_the_others_do_not() -> None:
    turns = Turns(1, per_line_max=2)
    order = await served(turns, [MALLORY] * 5 + [LINES[0]])
    assert order == [0, 5, 1]
    async with turns.turn(MALLORY):
        await_two = [asyncio.ensure_future(_one(turns, MALLORY)) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests, match="2 compressions of this tenant wait already; 2 of all"):
            await _one(turns, MALLORY)
    await asyncio.gather(*await_two)


async def test_the_background_waits_whatever_the_bounds_say() -> None:
    assert await served(Turns(1, per_line_max=0), [Line(TenantId("alice"), background=True)] * 3) == [0, 1, 2]
    assert await served(Turns(1, waiting_max=1), [LINES[0], LINES[1]]) == [0]


async def _one(turns: Turns, line: Line) -> None:
    async with turns.turn(line):
        pass
