"""A page that is asked for while it is resident: nothing is appended for it, and the next admission tells of it."""

from collections.abc import AsyncIterator

import pytest

from tests.unit.faulting import FaultingReplica, said, serving
from tests.unit.stack import Stores, ready


@pytest.fixture
async def replica() -> AsyncIterator[FaultingReplica]:
    one = FaultingReplica(await ready(Stores()))
    async with serving(one):
        await one.open(max_l0_tokens=600, reserved_tokens=10, pin_last_turns=1, fault_protection_turns=1)
        await one.append(said("old", 100))
        await one.push_out("old")
        await one.append(said("here", 10))
        yield one


async def test_a_hit_appends_nothing(replica: FaultingReplica) -> None:
    before = await replica.state()
    await replica.fault("here")
    assert await replica.state() == before


async def test_the_next_admission_tells_of_it(replica: FaultingReplica) -> None:
    before = await replica.fold()
    revision, reuses = before.revision, before.pages["here"].reuse.count
    await replica.fault("here")
    await replica.fault("here")
    await replica.fault("old")
    after = await replica.fold()
    assert after.revision == revision + 1
    assert after.pages["here"].reuse.count == reuses + 2
    assert "old" in after.working_set


async def test_an_admission_that_is_refused_tells_of_nothing(replica: FaultingReplica) -> None:
    reuses = (await replica.fold()).reuse.reuses
    await replica.fault("here")
    assert (await replica.fold()).reuse.reuses == reuses
