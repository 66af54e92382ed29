"""What a `Pool` promises, in place or in processes apart; and what processes promise beside it."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from time import sleep

import pytest

from pagekeeper.core.errors import BudgetTooSmall, DeadlineExceeded, InvalidField, PagekeeperError, RevisionConflict
from pagekeeper.runtime.pool import InlinePool, Pool, ProcessPool
from pagekeeper.runtime.tokens import EncodingName, Tokenizer, tokenizer


@pytest.fixture(params=["here", "apart"])
async def pool(request: pytest.FixtureRequest) -> AsyncIterator[Pool]:
    one: Pool = InlinePool() if request.param == "here" else ProcessPool()
    yield one
    await one.close()


def echo(value: object) -> object:
    return value


def refuse(error: PagekeeperError) -> None:
    raise error


def stumble() -> None:
    raise KeyError("what somebody wrote")


def counted(by: Tokenizer, text: str) -> int:
    return by.count(text)


def ends_its_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def test_a_function_is_computed_and_values_come_back(pool: Pool) -> None:
    values = {"text": "\0\u2028é明" * 100_000, "nested": [1, (2.5, None)], "bytes": b"\xff" * 100_000}
    assert await pool.run("acme", echo, values) == values
    assert await asyncio.gather(*(pool.run(f"t{n % 3}", echo, n) for n in range(20))) == list(range(20))


async def test_counts_are_those_of_this_process(pool: Pool) -> None:
    for name in EncodingName:
        by = tokenizer(name)
        assert await pool.run("acme", counted, by, "Zürich, \0\0 and \U0001f600") == by.count(
            "Zürich, \0\0 and \U0001f600"
        )


@pytest.mark.parametrize(
    "error", [InvalidField("pages[2].text", "must be JSON"), RevisionConflict(3, 4), BudgetTooSmall(5, 6)], ids=repr
)
async def test_a_refusal_comes_back_as_it_is(pool: Pool, error: PagekeeperError) -> None:
    with pytest.raises(type(error)) as refusal:
        await pool.run("acme", refuse, error)
    assert vars(refusal.value) == vars(error)
    assert str(refusal.value) == str(error)


async def test_a_defect_is_a_defect_and_the_next_computation_goes_well(pool: Pool) -> None:
    with pytest.raises((KeyError, RuntimeError), match="what somebody wrote"):
        await pool.run("acme", stumble)
    assert await pool.run("acme", echo, 1) == 1


@pytest.fixture
async def apart() -> AsyncIterator[ProcessPool]:
    pool = ProcessPool()
    yield pool
    await pool.close()


async def test_a_process_apart_computes_and_knows_no_settings(
    apart: ProcessPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PK_S3_SECRET_KEY", "secret")
    assert await apart.run("acme", os.getpid) != os.getpid()
    assert await apart.run("acme", os.getenv, "PK_S3_SECRET_KEY") is None
    assert await apart.run("acme", os.nice, 0) >= os.nice(0)


async def test_a_process_that_dies_is_a_defect_of_one_computation(apart: ProcessPool) -> None:
    with pytest.raises(RuntimeError, match="died while it computed ends_its_process"):
        await apart.run("acme", ends_its_process)
    assert await apart.run("acme", echo, "again") == "again"


async def test_a_tenant_leaves_a_process_to_the_others_also_when_its_callers_have_gone(apart: ProcessPool) -> None:
    """The greedy tenant's computations do not end in the time of this test."""
    greedy = [asyncio.ensure_future(apart.run("greedy", sleep, 25)) for _ in range(8)]
    await asyncio.sleep(0)
    greedy[0].cancel()
    assert await apart.run("victim", echo, 1) == 1
    assert await apart.run("victim", echo, 2) == 2
    for call in greedy:
        call.cancel()
    await asyncio.wait(greedy)
    waiting = asyncio.ensure_future(apart.run("greedy", echo, 3))
    assert await apart.run("victim", echo, 4) == 4
    assert not waiting.done()
    waiting.cancel()


async def test_what_takes_too_long_is_ended_and_leaves_its_place() -> None:
    pool = ProcessPool(processes=1, seconds_max=0.3)
    for _ in range(2):
        with pytest.raises(DeadlineExceeded, match=r"0\.3 s of a processor"):
            await pool.run("acme", sleep, 60)
    await pool.close()
