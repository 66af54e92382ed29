"""A log that loses, delays and repeats: what was acknowledged is there once, on every replica."""

import asyncio
from random import Random

import pytest

from pagekeeper.core.errors import LogUnavailable, RevisionConflict
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.fakes.faulty_log import Faults, FaultyLog
from tests.unit.stack import Replica, Stores, caller, ready

ROUNDS = 12
FAULTS = Faults(
    request_lost=0.15, request_late=0.2, request_repeated=0.2, answer_lost=0.25, read_lost=0.1, read_stale=0.3
)


async def until_acknowledged(replicas: list[Replica], random: Random, request: pb.AppendPagesRequest) -> int:
    """Send it again, to whichever replica and at whatever time, until one says that it is done."""
    while True:
        replica = random.choice(replicas)
        replica.stores.clock.advance(random.random())
        try:
            return (await replica.page_table.map_pages(caller(), request)).revision
        except (LogUnavailable, RevisionConflict):
            continue


@pytest.mark.parametrize("seed", range(12))
async def test_what_was_acknowledged_is_there_once_on_every_replica(seed: int) -> None:
    random = Random(seed)
    stores = await ready(Stores())
    calm = Replica(stores, "calm")
    await calm.open()
    rough = [
        Replica(Stores(clock=stores.clock, log=FaultyLog(stores.log, random, FAULTS), queue=stores.queue), name)
        for name in "ab"
    ]
    acknowledged: list[tuple[str, int]] = []
    for turn in range(ROUNDS):
        requests = [
            pb.AppendPagesRequest(
                request_id=f"r{turn}-{writer}", session_id="s1", pages=[page_pb2.PageInput(page_id=f"p{turn}-{writer}")]
            )
            for writer in range(3)
        ]
        for request in requests:
            request.pages[0].text = request.request_id
        revisions = await asyncio.gather(*(until_acknowledged(rough, random, request) for request in requests))
        acknowledged += [(one.pages[0].page_id, at) for one, at in zip(requests, revisions, strict=True)]
        if turn % 4 == 3:
            await calm.snapshot()
    session = await calm.fold()
    for page_id, revision in acknowledged:
        assert [version.revision for version in session.pages[page_id].versions] == [revision]
    assert len(session.pages) == len(acknowledged)
    late = Replica(stores, "late")
    assert await late.state() == await calm.state()
    for replica in rough:
        while True:
            try:
                assert await replica.state() == await calm.state()
                break
            except LogUnavailable:
                continue
