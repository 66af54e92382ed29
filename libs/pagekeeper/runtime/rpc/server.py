"""A gRPC server for plain service objects.

For every call the server verifies the caller's token, reads deadline and trace, calls the method of the service object
with a `Caller`, turns an exception into a status, and logs one line. The service object does none of these.

Limits:
- CALLS_MAX calls at a time; the next call is refused with TOO_MANY_REQUESTS. Health checks do not count.
- Messages have at most MESSAGE_BYTES_MAX.
- A connection lives CONNECTION_SECONDS_MAX, so that new replicas get their share.
- At the end, calls in flight get DRAIN_SECONDS.

Never: a call without a verified tenant; a second server on the same port; an exception's text in a reply.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Any, Final, NoReturn, Self

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from grpc_health.v1.health import SERVICE_NAME as HEALTH
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server
from grpc_reflection.v1alpha.reflection import SERVICE_NAME as REFLECTION
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from pagekeeper.core.errors import TooManyRequests
from pagekeeper.runtime.bearer_tokens import TokenVerifier
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.errors import STATUS_DETAILS, CannotStart, rule, to_status
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.health import Health
from pagekeeper.runtime.rpc.methods import AUTHORIZATION, MESSAGE_BYTES_MAX, TRACE, Method, methods_of
from pagekeeper.runtime.rpc.refusals import refusal_of, uncaught_cancellation
from pagekeeper.runtime.telemetry import CallLog, enter_scope

CALLS_MAX: Final = 1_000
CONNECTION_SECONDS_MAX: Final = 300
CONNECTION_GRACE_SECONDS: Final = 60
DRAIN_SECONDS: Final = 20.0
CUT_OFF_SECONDS: Final = 2.0

_OPTIONS: Final = (
    # By default two servers share one port without a word.
    ("grpc.so_reuseport", 0),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_connection_age_ms", CONNECTION_SECONDS_MAX * 1_000),
    ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_SECONDS * 1_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)
_TRACE_GRAMMAR: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CANCELLED: Final = "CANCELLED"

_log: Final = logging.getLogger(__name__)

_Context = grpc.aio.ServicerContext[Message, Message]
_Unary = Callable[[Caller, Message], Awaitable[Message]]
_Stream = Callable[[Caller, Message], AsyncGenerator[Message, None]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a server takes on, and how long it takes to leave."""

    calls: int = CALLS_MAX
    drain_seconds: float = DRAIN_SECONDS


LIMITS: Final = Limits()


class RpcServer:
    """A gRPC server for some services: bound to its port when made, serving inside `async with`.

    Leaving the block drains: health says NOT_SERVING, no new call is taken, those in flight are finished or, after
    `limits.drain_seconds`, cut off.
    """

    def __init__(
        self,
        address: str,
        services: Mapping[ServiceDescriptor, object],
        verifier: TokenVerifier,
        calls: CallLog,
        clock: Clock,
        random: Random,
        limits: Limits = LIMITS,
    ) -> None:
        """Bind `services` to `address` (`host:port`; port 0 chooses one). Must run in the loop that will serve.

        Raises CannotStart when the port is taken, and TypeError when a service lacks a method of its descriptor.
        """
        self._gate = _CallGate(verifier, calls, clock, random, limits.calls)
        handlers = [
            grpc.method_handlers_generic_handler(service.full_name, _handlers(self._gate, service, target))
            for service, target in services.items()
        ]
        names = [service.full_name for service in services]
        self._limits = limits
        self._health = Health(names)
        self._server = grpc.aio.server(options=_OPTIONS)
        self._server.add_generic_rpc_handlers(handlers)
        add_HealthServicer_to_server(self._health, self._server)
        enable_server_reflection([*names, HEALTH, REFLECTION], self._server)
        try:
            self.port = self._server.add_insecure_port(address)
        except RuntimeError:
            raise CannotStart(f"cannot listen on {address}: the port is taken, or the host is not this one") from None

    async def __aenter__(self) -> Self:
        await self._server.start()
        await self._health.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._health.end()
        await self._server.stop(self._limits.drain_seconds)
        # What was cut off is cancelled a little after that; what it uses is not to be closed under its feet.
        await self._gate.emptied(CUT_OFF_SECONDS)
        self._gate.calls.flush()


class _CallGate:
    """Where every call of a server is let in and seen out."""

    def __init__(self, verifier: TokenVerifier, calls: CallLog, clock: Clock, random: Random, calls_max: int) -> None:
        self.verifier = verifier
        self.calls = calls
        self.clock = clock
        self.random = random
        self.calls_max = calls_max
        self.running = 0
        self._left = asyncio.Event()

    def trace(self, sent: str | None) -> str:
        """Return the caller's trace id when it is one, otherwise a new one."""
        if sent is not None and _TRACE_GRAMMAR.fullmatch(sent):
            return sent
        return f"{self.random.getrandbits(64):016x}"

    def leave(self) -> None:
        """A call ends."""
        self.running -= 1
        if not self.running:
            self._left.set()

    async def emptied(self, seconds: float) -> None:
        """Wait until no call is running, at most so long."""
        if self.running:
            self._left.clear()
            try:
                async with asyncio.timeout(seconds):
                    await self._left.wait()
            except TimeoutError:
                _log.error("%d calls do not end though they are cancelled", self.running)


class _Call:
    """One call, from its metadata to its line in the log."""

    __slots__ = ("_authorization", "_context", "_gate", "_path", "_started", "_tenant", "_trace", "outcome")

    def __init__(self, gate: _CallGate, path: str, context: _Context) -> None:
        self._gate = gate
        self._path = path
        self._context = context
        self._started = gate.clock.monotonic()
        self._tenant = ""
        self.outcome = _CANCELLED
        trace = authorization = None
        for key, value in context.invocation_metadata() or ():
            if key == AUTHORIZATION and isinstance(value, str):
                authorization = value
            elif key == TRACE and isinstance(value, str):
                trace = value
        self._trace = gate.trace(trace)
        self._authorization = authorization
        gate.running += 1

    def caller(self) -> Caller:
        """Let the call in."""
        gate = self._gate
        if gate.running > gate.calls_max:
            raise TooManyRequests(f"this replica serves {gate.calls_max} calls at a time already")
        identity = gate.verifier.verify(self._authorization)
        self._tenant = identity.tenant
        enter_scope(self._trace, identity.tenant)
        remaining: Callable[[], float | None] = self._context.time_remaining  # whose stub forgets the None
        seconds = remaining()
        deadline = None if seconds is None else self._started + seconds
        return Caller(identity.tenant, identity.subject, deadline, self._trace)

    async def refuse(self, error: Exception) -> NoReturn:
        """Answer with the status for `error`."""
        enter_scope(self._trace, self._tenant)
        refusal = refusal_of(error, self._path, self._trace)
        self.outcome = refusal.reason
        status = to_status(refusal)
        await self._context.abort(
            rule(refusal).code, status.message, ((STATUS_DETAILS, status.SerializeToString()), (TRACE, self._trace))
        )

    def close(self) -> None:
        """See the call out."""
        gate = self._gate
        gate.leave()
        duration_ms = (gate.clock.monotonic() - self._started) * 1_000
        gate.calls.write(self._path, self.outcome, duration_ms, self._trace, self._tenant)


def _handlers(gate: _CallGate, service: ServiceDescriptor, target: object) -> dict[str, Any]:
    return {
        method.name: _stream(gate, method, served) if method.streams else _unary(gate, method, served)
        for method, served in methods_of(service, target)
    }


def _unary(gate: _CallGate, method: Method, target: _Unary) -> "grpc.RpcMethodHandler[Message, Message]":
    path = method.path[1:]

    async def handle(request: Message, context: _Context) -> Message:
        call = _Call(gate, path, context)
        try:
            response = await target(call.caller(), request)
            call.outcome = "OK"
            return response
        except asyncio.CancelledError as cancelled:
            await call.refuse(uncaught_cancellation(cancelled))
        except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it is, the caller gets a status
            await call.refuse(error)
        finally:
            call.close()

    return grpc.unary_unary_rpc_method_handler(handle, method.request.FromString, method.response.SerializeToString)


def _stream(gate: _CallGate, method: Method, target: _Stream) -> "grpc.RpcMethodHandler[Message, Message]":
    path = method.path[1:]

    # Written, not yielded: a generator that grpc drops is closed whenever the garbage collector comes by.
    async def handle(request: Message, context: _Context) -> None:
        call = _Call(gate, path, context)
        try:
            async with aclosing(target(call.caller(), request)) as responses:
                async for response in responses:
                    await context.write(response)
            call.outcome = "OK"
        except asyncio.CancelledError as cancelled:
            await call.refuse(uncaught_cancellation(cancelled))
        except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it is, the caller gets a status
            await call.refuse(error)
        finally:
            call.close()

    return grpc.unary_stream_rpc_method_handler(handle, method.request.FromString, method.response.SerializeToString)
