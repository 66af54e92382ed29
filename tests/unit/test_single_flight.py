"""Interleavings of one load and those who wait for it."""

import asyncio
from collections.abc import Awaitable

import pytest

from pagekeeper.runtime.single_flight import SingleFlight


class Loads:
    """Loads that end when the test says so, and a record of what became of each."""

    def __init__(self) -> None:
        self.running: list[asyncio.Future[str]] = []
        self.cancelled: list[int] = []

    async def load(self) -> str:
        number = len(self.running)
        self.running.append(asyncio.get_running_loop().create_future())
        try:
            return await self.running[number]
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise


@pytest.fixture
def loads() -> Loads:
    return Loads()


@pytest.fixture
def flights() -> SingleFlight[str, str]:
    return SingleFlight()


def start(work: Awaitable[str]) -> asyncio.Task[str]:
    return asyncio.ensure_future(work)


async def turn() -> None:
    """Let everything that can run, run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_who_asks_during_a_load_shares_it(flights: SingleFlight[str, str], loads: Loads) -> None:
    # Three callers come before the load ends.
    callers = [start(flights.do("page", loads.load)) for _ in range(3)]
    await turn()
    assert len(loads.running) == 1
    # The load ends; all have its value, and nothing is remembered.
    loads.running[0].set_result("bytes")
    assert await asyncio.gather(*callers) == ["bytes"] * 3
    assert len(flights) == 0


async def test_keys_do_not_wait_for_each_other(flights: SingleFlight[str, str], loads: Loads) -> None:
    callers = [start(flights.do(key, loads.load)) for key in ("a", "b")]
    await turn()
    assert len(loads.running) == len(flights) == 2
    loads.running[1].set_result("b")
    await turn()
    assert [caller.done() for caller in callers] == [False, True]
    loads.running[0].set_result("a")
    assert await asyncio.gather(*callers) == ["a", "b"]


async def test_a_caller_that_leaves_does_not_take_the_others_along(
    flights: SingleFlight[str, str], loads: Loads
) -> None:
    first, second = (start(flights.do("page", loads.load)) for _ in range(2))
    await turn()
    # The one who started the load is cancelled.
    first.cancel()
    await turn()
    assert first.cancelled()
    assert not loads.cancelled
    # The other still gets the value of the same load.
    loads.running[0].set_result("bytes")
    assert await second == "bytes"
    assert len(loads.running) == 1


async def test_the_last_caller_to_leave_ends_the_load(flights: SingleFlight[str, str], loads: Loads) -> None:
    callers = [start(flights.do("page", loads.load)) for _ in range(2)]
    await turn()
    for caller in callers:
        caller.cancel()
    await turn()
    assert all(caller.cancelled() for caller in callers)
    assert loads.cancelled == [0]
    assert len(flights) == 0


async def test_a_failure_reaches_everyone_and_is_not_remembered(flights: SingleFlight[str, str], loads: Loads) -> None:
    callers = [start(flights.do("page", loads.load)) for _ in range(3)]
    await turn()
    loads.running[0].set_exception(OSError("no store"))
    assert [str(outcome) for outcome in await asyncio.gather(*callers, return_exceptions=True)] == ["no store"] * 3
    # Who comes later loads again.
    later = start(flights.do("page", loads.load))
    await turn()
    loads.running[1].set_result("bytes")
    assert await later == "bytes"


async def test_a_caller_between_the_failure_and_its_delivery_does_not_get_it(
    flights: SingleFlight[str, str], loads: Loads
) -> None:
    loop = asyncio.get_running_loop()
    outcomes: list[str] = []

    async def come_late() -> None:
        outcomes.append(await flights.do("page", loads.load))

    first = start(flights.do("page", loads.load))
    await turn()
    # The load's future fails; the newcomer runs after the load has seen that and before the first caller wakes.
    loads.running[0].set_exception(OSError("no store"))
    tasks: list[asyncio.Future[None]] = []
    loop.call_soon(lambda: tasks.append(asyncio.ensure_future(come_late())))
    with pytest.raises(OSError, match="no store"):
        await first
    await turn()
    # The first caller's leaving did not take the newcomer's load away.
    assert len(loads.running) == 2
    assert len(flights) == 1
    loads.running[1].set_result("bytes")
    await asyncio.gather(*tasks)
    assert outcomes == ["bytes"]
    assert len(flights) == 0


async def test_a_newcomer_does_not_join_a_load_that_is_being_cancelled(
    flights: SingleFlight[str, str], loads: Loads
) -> None:
    release = asyncio.Event()

    async def slow_to_obey() -> str:
        try:
            return await loads.load()
        except asyncio.CancelledError:
            await release.wait()
            raise

    first = start(flights.do("page", slow_to_obey))
    await turn()
    first.cancel()
    await turn()
    assert loads.cancelled == [0]
    # The cancelled load is still winding up; a newcomer starts another.
    second = start(flights.do("page", loads.load))
    await turn()
    release.set()
    await turn()
    loads.running[1].set_result("bytes")
    assert await second == "bytes"
    assert loads.cancelled == [0]


async def test_a_caller_cancelled_as_the_load_ends_leaves_nothing_behind(
    flights: SingleFlight[str, str], loads: Loads
) -> None:
    first, second = (start(flights.do("page", loads.load)) for _ in range(2))
    await turn()
    # Both happen before anybody wakes.
    loads.running[0].set_result("bytes")
    first.cancel()
    assert await second == "bytes"
    assert first.cancelled()
    assert len(flights) == 0


async def test_deadlines_of_callers_are_their_own(flights: SingleFlight[str, str], loads: Loads) -> None:
    async def impatient() -> str:
        async with asyncio.timeout(0.001):
            return await flights.do("page", loads.load)

    patient = start(flights.do("page", loads.load))
    with pytest.raises(TimeoutError):
        await impatient()
    loads.running[0].set_result("bytes")
    assert await patient == "bytes"
