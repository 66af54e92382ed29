"""Clients of many tenants on one connection: a connection of its own for each would be the load generator's work."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import cast

from pagekeeper.client.api import MemoryService
from pagekeeper.client.connection import ATTEMPTS_MAX, BearerToken, Pagekeeper
from pagekeeper.local.stack import LocalStack
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.runtime.rpc.peers import open_peers
from pagekeeper.runtime.rpc.remote import Manner, remote
from pagekeeper.v1 import memory_service_pb2 as pb


@asynccontextmanager
async def clients(stack: LocalStack, call_seconds: float) -> AsyncIterator[Callable[[str], Pagekeeper]]:
    """The client of a tenant, by the tenant's name."""
    clock = SystemClock()
    manner = Manner(ATTEMPTS_MAX, call_seconds, names_session=True)
    service = pb.DESCRIPTOR.services_by_name["MemoryService"]
    async with open_peers(stack.endpoint, clock) as peers:

        def client(tenant: str) -> Pagekeeper:
            api = remote(service, peers, BearerToken(stack.token(tenant)), clock, Random(), manner)
            return Pagekeeper(cast(MemoryService, api), clock, call_seconds)

        yield client
