"""The log for simulations breaks calls, not promises, and does so again for the same seed."""

import asyncio
from random import Random

import pytest

from pagekeeper.core.ids import session_key
from pagekeeper.runtime.log.port import AppendConflict, NoAnswer, Record
from tests.fakes.faulty_log import Faults, FaultyLog
from tests.fakes.memory_log import MemoryLog

KEY = session_key("acme", "s1")
BAD_DAY = Faults(
    request_lost=0.1, request_late=0.1, request_repeated=0.1, answer_lost=0.1, read_lost=0.1, read_stale=0.3
)


async def compete(log: FaultyLog, writer: int, told: dict[str, str]) -> None:
    """Append 20 operations to one session, repeating each until its outcome is known."""
    revision = number = 0
    while number < 20:
        operation_id = f"w{writer}op{number}"
        try:
            revision = await log.append(KEY, expected_revision=revision, operation_id=operation_id, data=b"")
            told[operation_id] = "stored"
        except NoAnswer:
            continue
        except AppendConflict as conflict:
            told[operation_id] = "refused"
            revision = conflict.actual
        number += 1


async def simulate(seed: int) -> tuple[dict[str, str], list[Record]]:
    inner = MemoryLog()
    log = FaultyLog(inner, Random(seed), BAD_DAY)
    told: dict[str, str] = {}
    await asyncio.gather(*(compete(log, writer, told) for writer in range(4)))
    return told, await inner.read(KEY, strict=True)


@pytest.mark.parametrize("seed", range(20))
async def test_what_is_told_for_certain_is_true(seed: int) -> None:
    told, records = await simulate(seed)
    stored = [record.operation_id for record in records]
    assert len(set(stored)) == len(stored)
    assert {operation_id for operation_id, outcome in told.items() if outcome == "stored"} == set(stored)
    assert {"stored", "refused"} == set(told.values())
    assert await simulate(seed) == (told, records)


async def test_stale_reads_are_prefixes_and_strict_ones_are_whole() -> None:
    inner = MemoryLog()
    log = FaultyLog(inner, Random(1), Faults(read_stale=1.0))
    revision = 0
    for number in range(10):
        revision = await inner.append(KEY, expected_revision=revision, operation_id=f"op{number}", data=b"")
    whole = await log.read(KEY, strict=True)
    assert len(whole) == 10
    lengths = set()
    for _ in range(50):
        records = await log.read(KEY)
        assert records == whole[: len(records)]
        lengths.add(len(records))
    assert len(lengths) > 5


async def test_time_passes_as_the_simulation_says() -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    log = FaultyLog(MemoryLog(), Random(1), Faults(delay_seconds_max=0.5), sleep)
    async with log.follow() as feed:
        feed.watch(KEY)
        revision = await log.append(KEY, expected_revision=0, operation_id="a", data=b"")
        assert (await anext(feed)).revision == revision
    assert len(slept) == 3
    assert all(0 <= seconds <= 0.5 for seconds in slept)
