"""A replica that was stopped and goes on later still believes what it knew: nothing it writes may rest on that."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

import pytest

from pagekeeper.client import Pagekeeper, Session, connect, user
from pagekeeper.core.errors import RevisionConflict
from pagekeeper.local.ports import HOST, free_ports
from pagekeeper.local.processes import SERVE, Process
from pagekeeper.local.stack import ALL, LocalStack
from tests.faults.load import AWAY
from tests.stacks import new_tenant

ROUNDS = 50
WRITES_IN_FLIGHT = 6


@pytest.fixture
async def replica(stack_of_one: LocalStack, tmp_path: Path) -> AsyncIterator[Process]:
    """A second process with all services, beside the one of the stack and on the same stores."""
    [port] = free_ports(1)
    environment = {**stack_of_one.environment, "PK_LISTEN": f"{HOST}:{port}"}
    async with Process("replica", (*SERVE, ALL), environment, tmp_path, port) as process:
        yield process


class Chain:
    """Acknowledged writes, each of which was to follow one revision: (expected revision, its own)."""

    def __init__(self) -> None:
        self.acknowledged: dict[str, tuple[int, int]] = {}
        self.refused = 0
        self._asked = 0

    async def write(self, session: Session, expected_revision: int) -> None:
        """One write, repeated until it is answered. Exactly at that revision, or refused."""
        self._asked += 1
        page_id = f"p{self._asked}"
        while True:
            try:
                appended = await session.append(
                    user(page_id, page_id=page_id), request_id=page_id, expected_revision=expected_revision
                )
            except RevisionConflict:
                self.refused += 1
                return
            except AWAY:
                continue
            self.acknowledged[page_id] = (expected_revision, appended.revision)
            return


async def test_no_stale_write_is_accepted(stack_of_one: LocalStack, replica: Process) -> None:
    random = Random(4)
    token = stack_of_one.token(new_tenant("zombie"))
    async with AsyncExitStack() as exits:
        at_replica: Pagekeeper = await exits.enter_async_context(connect(replica.address, token))
        elsewhere: Pagekeeper = await exits.enter_async_context(connect(stack_of_one.endpoint, token))
        opened = await elsewhere.open_session(max_l0_tokens=64_000)
        chain, newest = Chain(), 0
        for _ in range(ROUNDS):
            stale = at_replica.session(opened.session_id)
            fresh = elsewhere.session(opened.session_id)
            known = (await stale.get()).revision
            await _write_around_a_stop(chain, stale, fresh, known, replica.pid, random)
            # The one that was stopped has heard of everything by the time that it is asked for it.
            newest = (await fresh.get()).revision
            assert (await at_replica.session(opened.session_id, revision=newest).get()).revision >= newest

        followed = [expected for expected, _ in chain.acknowledged.values()]
        assert len(followed) == len(set(followed)), "two acknowledged writes follow the same revision"
        in_order = sorted(chain.acknowledged, key=lambda page_id: chain.acknowledged[page_id][1])
        for pagekeeper in (at_replica, elsewhere):
            session = pagekeeper.session(opened.session_id, revision=newest)
            assert [page.page_id async for page in session.pages()] == in_order
            assert (await session.replay()).matches_served_state
        assert chain.refused >= ROUNDS
        assert len(in_order) >= ROUNDS


async def _write_around_a_stop(
    chain: Chain, stale: Session, fresh: Session, known: int, pid: int, random: Random
) -> None:
    """Writes are on their way to a replica when it stops; others go on; it continues with what it was doing."""
    async with asyncio.TaskGroup() as writes:
        for _ in range(WRITES_IN_FLIGHT):
            writes.create_task(chain.write(stale, known))
        await asyncio.sleep(random.uniform(0, 0.01))  # anywhere in the middle of them
        os.kill(pid, signal.SIGSTOP)
        try:
            for _ in range(2):
                await chain.write(fresh, (await fresh.get()).revision)
            await chain.write(fresh, known)
        finally:
            os.kill(pid, signal.SIGCONT)
