"""Snapshots and flushes change where things are, and nothing else."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.effects import RecordedEffect
from pagekeeper.runtime import codec
from tests.unit.page_table_scripts import Step, scripts, take
from tests.unit.stack import Replica, Stores, following, key, ready


async def decisions_of(replica: Replica) -> list[tuple[int, list[RecordedEffect]]]:
    """What each record of the session's history decided; records that decided nothing are left out."""
    return [(step.revision, step.effects) async for step in replica.history.steps(key("s1")) if step.effects]


@settings(max_examples=40)
@given(scripts)
def test_replicas_agree_whatever_they_folded(script: list[Step]) -> None:
    """One writes, one follows every record, one comes late and reads the last snapshot: they have the same bytes."""

    async def play() -> None:
        stores = await ready(Stores())
        writer, follower = Replica(stores), Replica(stores, "b")
        async with following(writer, follower):
            await writer.open(max_l0_tokens=600, reserved_tokens=10)
            for step in script:
                await take(writer, step)
                assert await follower.state() == await writer.state()
            late = Replica(stores, "c")
            assert await late.state() == await writer.state()
            assert await late.facts() == await writer.facts()

    asyncio.run(play())


@settings(max_examples=40)
@given(scripts)
def test_history_decides_again_what_was_decided(script: list[Step]) -> None:
    async def play() -> None:
        replica = Replica(await ready(Stores()))
        await replica.open(max_l0_tokens=600, reserved_tokens=10)
        for step in script:
            await take(replica, step)
        before = await decisions_of(replica)
        served = await replica.state()
        steps = [step async for step in replica.history.steps(key("s1"))]
        assert codec.encode_state(steps[-1].session) == served
        for _ in range(2):
            await replica.flush()
            await replica.snapshot()
            assert await decisions_of(replica) == before
        assert await decisions_of(Replica(replica.stores, "b")) == before

    asyncio.run(play())


@settings(max_examples=40)
@given(scripts, st.integers(0, 30))
def test_the_past_stays_what_it_was(script: list[Step], at: int) -> None:
    """A revision read again after everything that came later shows the pages and the working set that it showed."""

    async def play() -> None:
        replica = Replica(await ready(Stores()))
        await replica.open(max_l0_tokens=600, reserved_tokens=10)
        then = None
        for index, step in enumerate(script):
            if index == min(at, len(script) - 1):
                then = codec.decode_state(await replica.state(), (await replica.fold()).revision)
            await take(replica, step)
        assert then is not None
        again = await replica.history.at_revision(key("s1"), then.revision)
        assert [p.page_id for p in again.mapped_pages()] == [p.page_id for p in then.mapped_pages()]
        assert list(again.working_set) == list(then.working_set)
        assert again.counters == then.counters

    asyncio.run(play())
