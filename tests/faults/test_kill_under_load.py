"""SIGKILL under load: nothing that was acknowledged is lost, nothing is done twice, all is back in seconds."""

from collections.abc import AsyncIterator, Callable
from random import Random

import pytest

from pagekeeper.client import Pagekeeper
from pagekeeper.local.stack import LocalStack, Topology
from tests.faults.campaign import Campaign, kill_under_load
from tests.stacks import client, new_tenant

SECONDS_OF = {Topology.FIVE: 45.0, Topology.ONE: 20.0}

Record = Callable[[str, object], None]


@pytest.fixture
async def pagekeeper(stack: LocalStack) -> AsyncIterator[Pagekeeper]:
    async with client(stack, new_tenant("load"), call_seconds=20) as pagekeeper:
        yield pagekeeper


def noted(campaign: Campaign, record_property: Record) -> None:
    """For the JUnit report, and for `pytest -s`: counts are what this is about."""
    record_property("kills", campaign.kills)
    record_property("acknowledged", campaign.acknowledged)
    record_property("recovery_p95_seconds", round(campaign.recovery_at(0.95), 2))
    print(  # noqa: T201
        f"{campaign.kills} kills in {campaign.seconds:.0f} s {dict(campaign.killed)}, "
        f"{campaign.acknowledged:,} acknowledged, {campaign.repeated} sent again, "
        f"back in {campaign.recovery_at(0.5):.2f} s (p50) {campaign.recovery_at(0.95):.2f} s (p95)"
    )


async def test_our_processes(stack: LocalStack, pagekeeper: Pagekeeper, record_property: Record) -> None:
    campaign = await kill_under_load(
        pagekeeper,
        list(stack.processes.values()),
        Random(1),
        kills_max=40,
        seconds_max=SECONDS_OF[stack.topology],
    )
    noted(campaign, record_property)
    assert campaign.kills >= 1


async def test_the_log(stack: LocalStack, pagekeeper: Pagekeeper, record_property: Record) -> None:
    campaign = await kill_under_load(pagekeeper, [stack.nats], Random(2), kills_max=10)
    noted(campaign, record_property)


@pytest.mark.parametrize("stack", [Topology.FIVE], indirect=True)
async def test_the_object_store(stack: LocalStack, pagekeeper: Pagekeeper, record_property: Record) -> None:
    campaign = await kill_under_load(pagekeeper, [stack.s3], Random(3), kills_max=10, large_share=0.2)
    noted(campaign, record_property)
