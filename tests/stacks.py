"""A whole Pagekeeper for tests: real servers and real processes, and clients of it."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager
from pathlib import Path
from types import MappingProxyType
from uuid import uuid4

from pagekeeper.client import Pagekeeper, connect
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.local.options import read_stack_options
from pagekeeper.local.stack import LocalStack, Topology
from tests.servers import eventually

NO_SETTINGS: Mapping[str, str] = MappingProxyType({})


@contextmanager
def running_stack(
    directory: Path, topology: Topology, settings: Mapping[str, str] = NO_SETTINGS
) -> Iterator[LocalStack]:
    """A stack that belongs to no event loop, so that tests with loops of their own can share it.

    A stack of five services has as many replicas and NATS servers as the variables of the launcher say.
    """
    options = read_stack_options(os.environ if topology is Topology.FIVE else {})
    with asyncio.Runner() as runner:
        stack = LocalStack(directory, topology, settings, replicas=options.replicas, nats_servers=options.nats_servers)
        runner.run(stack.__aenter__())
        try:
            yield stack
        finally:
            runner.run(stack.__aexit__(None, None, None))


def client(stack: LocalStack, tenant: str, *, call_seconds: float = 30.0) -> AbstractAsyncContextManager[Pagekeeper]:
    return connect(stack.endpoint, stack.token(tenant), call_seconds=call_seconds, ca=stack.ca)


def new_tenant(name: str) -> str:
    """A tenant that no other test has: stacks are shared."""
    return f"{name}-{uuid4().hex[:12]}"


async def until_it_serves(stack: LocalStack, *, timeout_seconds: float = 30.0) -> None:
    """Wait until every service behind the gateway answers a read that goes through to the log."""

    async def serves() -> bool:
        async with client(stack, new_tenant("waiting"), call_seconds=2.0) as pagekeeper:
            try:
                session = await pagekeeper.open_session()
                await session.assemble()
                await session.flush()
            except PagekeeperError:
                return False
            return True

    await eventually(serves, timeout_seconds=timeout_seconds)
