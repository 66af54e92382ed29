"""`grpc.health.v1`: whether the server, and each of its services, takes calls.

A watcher is told when the server stops taking calls, and its call is then ended. The stock servicer would keep the call
open and thereby delay the server's stop. Nobody needs a token here.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

import grpc
from grpc_health.v1.health import SERVICE_NAME
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from pagekeeper.core.errors import PagekeeperError, ServiceNotFound
from pagekeeper.runtime.rpc.parsing import read_request
from pagekeeper.runtime.rpc.refusals import answer_refusal

HEALTH: Final = SERVICE_NAME

_Context = grpc.aio.ServicerContext[Any, Any]


class Health:
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

    def handlers(self) -> dict[str, "grpc.RpcMethodHandler[Any, Any]"]:
        """The handlers of the service, by path."""

        async def check(_: object, context: _Context) -> HealthCheckResponse:
            request = await _read(context)
            if request.service not in self._services:
                await answer_refusal(context, ServiceNotFound(request.service))
            return self._answer(request.service)

        async def watch(_: object, context: _Context) -> None:
            async for answer in self._answers((await _read(context)).service):
                await context.write(answer)

        serialized = HealthCheckResponse.SerializeToString
        return {
            f"/{HEALTH}/Check": grpc.stream_unary_rpc_method_handler(check, response_serializer=serialized),
            f"/{HEALTH}/Watch": grpc.stream_stream_rpc_method_handler(watch, response_serializer=serialized),
        }

    async def _answers(self, service: str) -> AsyncIterator[HealthCheckResponse]:
        """How things are, and again when that changes."""
        while True:
            answer = self._answer(service)
            yield answer
            if self._ended:
                return
            await self._change(service, answer)

    async def _change(self, service: str, answer: HealthCheckResponse) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._ended or self._answer(service) != answer)

    def _answer(self, service: str) -> HealthCheckResponse:
        if service not in self._services:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        return HealthCheckResponse(
            status=HealthCheckResponse.SERVING if self._serving else HealthCheckResponse.NOT_SERVING
        )


async def _read(context: _Context) -> HealthCheckRequest:
    try:
        return await read_request(context, HealthCheckRequest)
    except PagekeeperError as refusal:
        await answer_refusal(context, refusal)
