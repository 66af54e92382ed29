"""Servers of one's own, to be killed."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.servers import NatsServer, Proxy, running


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    with running(NatsServer(tmp_path)) as server:
        yield server


@pytest.fixture
async def proxy(nats_server: NatsServer) -> AsyncIterator[Proxy]:
    async with Proxy(nats_server.port).listening() as proxy:
        yield proxy
