"""`grpc.health.v1`: whether the server, and each of its services, takes calls.

A watcher is told when the server stops taking calls, and its call is then ended. The stock servicer would keep the call
open and thereby delay the server's stop.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthServicer

_Context = grpc.aio.ServicerContext[Any, Any]


class Health(HealthServicer):
    """Serving from `begin` to `end`."""

    def __init__(self, services: Iterable[str]) -> None:
        self._services = frozenset(services) | {""}
        self._serving = False
        self._changed = asyncio.Condition()
        self._ended = False

    async def begin(self) -> None:
        """Say that calls are taken."""
        async with self._changed:
            self._serving = True
            self._changed.notify_all()

    async def end(self) -> None:
        """Say, for good, that no further call is taken."""
        async with self._changed:
            self._serving = False
            self._ended = True
            self._changed.notify_all()

    async def Check(self, request: HealthCheckRequest, context: _Context) -> HealthCheckResponse:  # noqa: N802
        """Answer how things are."""
        if request.service not in self._services:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"no service {request.service!r} here")
        return self._answer(request.service)

    async def Watch(  # noqa: N802
        self, request: HealthCheckRequest, context: _Context
    ) -> AsyncIterator[HealthCheckResponse]:
        """Answer how things are, and again when that changes."""
        del context
        while True:
            answer = self._answer(request.service)
            yield answer
            if self._ended:
                return
            await self._change(request.service, answer)

    async def _change(self, service: str, answer: HealthCheckResponse) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._ended or self._answer(service) != answer)

    def _answer(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        return HealthCheckResponse(
            status=HealthCheckResponse.SERVING if self._serving else HealthCheckResponse.NOT_SERVING
        )
