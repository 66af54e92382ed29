"""Servers of one's own, to be killed; and whole stacks, which tests share and leave as they are."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from pagekeeper.client import Pagekeeper
from pagekeeper.local.stack import LocalStack, Topology
from tests.servers import NatsServer, Proxy, running
from tests.stacks import client, new_tenant, running_stack


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    with running(NatsServer(tmp_path)) as server:
        yield server


@pytest.fixture
async def proxy(nats_server: NatsServer) -> AsyncIterator[Proxy]:
    async with Proxy(nats_server.port).listening() as proxy:
        yield proxy


@pytest.fixture(scope="session")
def stack_of_one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with running_stack(tmp_path_factory.mktemp("one"), Topology.ONE) as stack:
        yield stack


@pytest.fixture(scope="session")
def stack_of_five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    with running_stack(tmp_path_factory.mktemp("five"), Topology.FIVE) as stack:
        yield stack


@pytest.fixture(params=list(Topology))
def stack(request: pytest.FixtureRequest) -> LocalStack:
    """In both topologies; a module that needs one overrides this fixture."""
    stack: LocalStack = request.getfixturevalue(f"stack_of_{request.param}")
    return stack


@pytest.fixture
async def alice(stack: LocalStack) -> AsyncIterator[Pagekeeper]:
    async with client(stack, new_tenant("alice")) as pagekeeper:
        yield pagekeeper


@pytest.fixture
async def mallory(stack: LocalStack) -> AsyncIterator[Pagekeeper]:
    """Another tenant of the same stack."""
    async with client(stack, new_tenant("mallory")) as pagekeeper:
        yield pagekeeper
