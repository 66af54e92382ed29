"""`grpc.health.v1`: whether the server, and each of its services, takes calls. Nobody needs a token here.

Names that may be asked for, besides the full names of the services:
- "", the whole server: SERVING while every need that is required is met. A load balancer asks this.
- LIVENESS: SERVING from start to end, whatever the needs. The answer comes from the loop that serves calls, so a loop
  that hangs gives none. Whoever restarts processes asks this, because a restart heals no dependency.
- the name of each need, such as `log` or `object-store`: whether this process reaches it, required or not.

A watcher is told when a status changes, and its call is ended when the server stops. The stock servicer would keep the
call open and thereby delay the server's stop.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import grpc
from grpc_health.v1.health import SERVICE_NAME
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from pagekeeper.core.errors import PagekeeperError, ServiceNotFound
from pagekeeper.runtime.rpc.parsing import read_request
from pagekeeper.runtime.rpc.refusals import answer_refusal

HEALTH: Final = SERVICE_NAME
LIVENESS: Final = "liveness"
NEED_SECONDS_MAX: Final = 2.5
"""How long a check of a need may take. With the pause between checks and a margin, an absence is told within 5 s."""

_Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Need:
    """A dependency of a process.

    `check` raises when the need is not met, an error that `to_public_error` knows. `required`: without the need no call
    can be served as it should be, so that the server says NOT_SERVING.
    """

    name: str
    check: Callable[[], Awaitable[None]]
    required: bool = True


class Health:
    """Serving from `begin` to `end`, while what is required is met. Needs count as met until `note` says otherwise."""

    def __init__(self, services: Iterable[str], needs: Sequence[Need]) -> None:
        self._services = frozenset(services) | {""}
        self._required = frozenset(need.name for need in needs if need.required)
        self._met = {need.name: True for need in needs}
        self._began = False
        self._changed = asyncio.Condition()
        self._ended = False

    async def begin(self) -> None:
        """Say that calls are taken."""
        async with self._changed:
            self._began = True
            self._changed.notify_all()

    async def end(self) -> None:
        """Say, for good, that no further call is taken."""
        async with self._changed:
            self._ended = True
            self._changed.notify_all()

    async def note(self, need: str, *, met: bool) -> bool:
        """Say whether a need is met now. Return whether that is news."""
        if self._met[need] == met:
            return False
        async with self._changed:
            self._met[need] = met
            self._changed.notify_all()
        return True

    def handlers(self) -> dict[str, "grpc.RpcMethodHandler[Any, Any]"]:
        """The handlers of the service, by path."""

        async def check(_: object, context: _Context) -> HealthCheckResponse:
            request = await _read(context)
            answer = self._answer(request.service)
            if answer.status == HealthCheckResponse.SERVICE_UNKNOWN:
                await answer_refusal(context, ServiceNotFound(request.service))
            return answer

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
        if service in self._services:
            serving = all(self._met[need] for need in self._required)
        elif service in self._met:
            serving = self._met[service]
        elif service == LIVENESS:
            serving = True
        else:
            return HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        serving = serving and self._began and not self._ended
        return HealthCheckResponse(status=HealthCheckResponse.SERVING if serving else HealthCheckResponse.NOT_SERVING)


async def _read(context: _Context) -> HealthCheckRequest:
    try:
        return await read_request(context, HealthCheckRequest)
    except PagekeeperError as refusal:
        await answer_refusal(context, refusal)
