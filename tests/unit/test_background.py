"""Work that outlives a call is started again, ended, or loudly given up; never lost."""

import asyncio
import logging
from random import Random

import pytest

from pagekeeper.core.errors import LogUnavailable
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.clock import SystemClock


@pytest.fixture
def background() -> Background:
    return Background(SystemClock(), Random(1), close_seconds=0.05)


async def for_ever() -> None:
    await asyncio.Event().wait()


async def defect() -> None:
    raise KeyError("a defect")


async def test_leaving_ends_the_work(background: Background) -> None:
    ended = []

    async def work() -> None:
        try:
            await for_ever()
        finally:
            ended.append("work")

    async with background:
        background.start("work", work)
        await asyncio.sleep(0)
    assert ended == ["work"]


async def test_a_foreseen_failure_starts_the_work_again(background: Background) -> None:
    attempts = 0
    done = asyncio.Event()

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise LogUnavailable("not now")
        done.set()

    async with background:
        background.start("work", work)
        await done.wait()
    assert attempts == 3


async def test_a_defect_ends_the_block(background: Background) -> None:
    async def block() -> None:
        async with background:
            background.start("other", for_ever)
            background.start("work", defect)
            await for_ever()

    with pytest.raises(KeyError, match="a defect"):
        await block()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@pytest.mark.parametrize("turns", [1, 2, 3])
async def test_a_defect_is_raised_even_when_the_block_is_through(background: Background, turns: int) -> None:
    """Whether the work fails before, while or after the block comes to its end."""

    async def block() -> None:
        async with background:
            background.start("work", defect)
            for _ in range(turns):
                await asyncio.sleep(0)

    with pytest.raises(KeyError, match="a defect"):
        await block()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_defect_of_work_that_is_being_ended_is_raised(background: Background) -> None:
    async def work() -> None:
        try:
            await for_ever()
        finally:
            await defect()

    async def block() -> None:
        async with background:
            background.start("work", work)
            await asyncio.sleep(0)

    with pytest.raises(KeyError, match="a defect"):
        await block()


async def test_a_cancellation_that_nobody_asked_for_is_a_defect(background: Background) -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    async def block() -> None:
        async with background:
            background.start("work", work)
            await for_ever()

    with pytest.raises(RuntimeError, match="work was cancelled, and not by its owner"):
        await block()


async def test_a_cancelled_block_stays_cancelled(background: Background) -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await for_ever()
        finally:
            ended.set()

    async def block() -> None:
        async with background:
            background.start("work", work)
            await for_ever()

    task = asyncio.ensure_future(block())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


async def test_an_error_of_the_block_is_its_own(background: Background) -> None:
    async def block() -> None:
        async with background:
            background.start("work", for_ever)
            raise ValueError("of the block")

    with pytest.raises(ValueError, match="of the block"):
        await block()


async def test_work_that_does_not_end_is_named_and_left(
    background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    release = asyncio.Event()

    async def stubborn() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    with caplog.at_level(logging.ERROR):
        async with background:
            background.start("stubborn", stubborn)
            await asyncio.sleep(0)
    assert [record.__dict__["work"] for record in caplog.records] == ["stubborn"]
    release.set()
    await asyncio.sleep(0)


async def test_work_needs_an_owner(background: Background) -> None:
    with pytest.raises(RuntimeError, match="no owner"):
        background.start("early", for_ever)
    async with background:
        pass
    with pytest.raises(RuntimeError, match="no owner"):
        background.start("late", for_ever)
