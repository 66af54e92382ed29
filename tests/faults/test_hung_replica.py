"""A replica that is stopped fails no call, as long as another one serves, and serves again when it goes on."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from pagekeeper.client import user
from pagekeeper.local.stack import LocalStack, Topology
from tests.stacks import client, new_tenant

SESSIONS = 8
ROUNDS = 3


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """Of this module's own: two of each service that calls about sessions go to."""
    replicas = {"gateway": 2, "page-table": 2, "working-set": 2}
    with asyncio.Runner() as runner:
        stack = LocalStack(tmp_path_factory.mktemp("two"), Topology.FIVE, replicas=replicas)
        runner.run(stack.__aenter__())
        try:
            yield stack
        finally:
            runner.run(stack.__aexit__(None, None, None))


@pytest.mark.parametrize("name", ["page-table-2"])
async def test_a_stopped_replica_fails_no_call(name: str, stack: LocalStack) -> None:
    async with client(stack, new_tenant("hung"), call_seconds=60) as pagekeeper:
        sessions = [await pagekeeper.open_session() for _ in range(SESSIONS)]
        said: dict[str, list[str]] = {session.session_id: [] for session in sessions}

        async def talk(number: int) -> None:
            async with asyncio.TaskGroup() as group:
                for session in sessions:
                    page_id = f"p{number}"
                    said[session.session_id].append(page_id)
                    group.create_task(session.append(user(f"the tide of day {number}", page_id=page_id)))
            prompts = await asyncio.gather(*(session.assemble() for session in sessions))
            assert all(f"the tide of day {number}" in prompt.messages[-1].content for prompt in prompts)

        await talk(0)
        os.kill(stack.processes[name].pid, signal.SIGSTOP)
        try:
            for number in range(1, ROUNDS):
                await talk(number)
        finally:
            os.kill(stack.processes[name].pid, signal.SIGCONT)
        await talk(ROUNDS)
        for session in sessions:
            assert [page.page_id async for page in session.pages()] == said[session.session_id]
            assert (await session.replay()).matches_served_state
