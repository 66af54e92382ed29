"""A proxy of a service in another process.

Each call carries the internal token of its caller, the trace and the remaining time of the deadline, and raises the
error that the service raised. A call to a service that cannot be reached is repeated inside its deadline only where a
repetition is safe: the failure was definite, or the request is repeatable (see `Method.repeatable_by_id`).

A hop is the most expensive step of a call, so everything that can be computed before the call is.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from random import Random
from types import SimpleNamespace
from typing import Any, Final, Protocol

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from pagekeeper.core.errors import DeadlineExceeded, PagekeeperError, ServiceUnavailable
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.errors import from_rpc_error, rule
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.methods import AUTHORIZATION, TRACE, Method, methods

CALL_SECONDS: Final = 30.0
"""The deadline of a call whose caller has none."""
ATTEMPTS_MAX: Final = 5
"""Between services: whoever called us has a deadline and repeats, too."""
REPEAT_SECONDS: Final = 1.0
"""Likewise. A service that took longer to say that its store is away has insisted enough for all of us: the caller
is to hear so before its deadline."""
PAUSE_SECONDS_MIN: Final = 0.025
PAUSE_SECONDS_MAX: Final = 1.0

Call = Callable[[Caller, Message], Awaitable[Message]]
StreamCall = Callable[[Caller, Message], AsyncIterator[Message]]


class Credentials(Protocol):
    """The sender of a call: `InternalTokens` between services, a caller's own token at the gateway."""

    def authorization(self, caller: Caller) -> str:
        """Return the value of the `authorization` header."""
        ...


def remote(
    service: ServiceDescriptor,
    channel: grpc.aio.Channel,
    tokens: Credentials,
    clock: Clock,
    random: Random,
    attempts_max: int = ATTEMPTS_MAX,
    repeat_seconds: float = REPEAT_SECONDS,
) -> Any:  # noqa: ANN401 - it has the methods that the descriptor says, which no type can
    """Return an object with the methods of `service`, each of which calls it through `channel`."""
    return SimpleNamespace(
        **{
            method.attribute: _stream(method, channel, tokens, clock)
            if method.streams
            else _unary(method, channel, tokens, clock, random, _Patience(attempts_max, repeat_seconds))
            for method in methods(service)
        }
    )


@dataclass(frozen=True, slots=True)
class _Patience:
    """How often a call is repeated, and until when after it began."""

    attempts_max: int
    repeat_seconds: float


def _unary(
    method: Method,
    channel: grpc.aio.Channel,
    tokens: Credentials,
    clock: Clock,
    random: Random,
    patience: _Patience,
) -> Call:
    invoke = channel.unary_unary(method.path, method.request.SerializeToString, method.response.FromString)
    authorization = tokens.authorization
    monotonic = clock.monotonic

    async def call(caller: Caller, request: Message) -> Message:
        now = monotonic()
        deadline = caller.deadline if caller.deadline is not None else now + CALL_SECONDS
        last_repetition = now + patience.repeat_seconds
        attempt = 1
        away: PagekeeperError | None = None
        while True:
            if now >= deadline:
                raise DeadlineExceeded(f"no time was left to call {method.path}")
            try:
                return await invoke(
                    request,
                    timeout=deadline - now,
                    metadata=((AUTHORIZATION, authorization(caller)), (TRACE, caller.trace)),
                )
            except grpc.aio.AioRpcError as failure:
                error = from_rpc_error(failure)
            except asyncio.CancelledError:
                error = _not_ours(method)
            pause = random.uniform(0, min(PAUSE_SECONDS_MIN * 2**attempt, PAUSE_SECONDS_MAX))
            now = monotonic() + pause
            if not _may_repeat(method, request, error):
                # That the time is up says less than what it was spent with.
                raise away if away is not None and isinstance(error, DeadlineExceeded) else error
            if attempt == patience.attempts_max or now >= min(deadline, last_repetition):
                raise error
            away = _cut_off(method, error)
            await asyncio.sleep(pause)
            await _connected(channel, min(deadline, last_repetition) - now)
            attempt += 1

    return call


async def _connected(channel: grpc.aio.Channel, seconds: float) -> None:
    """Give a connection that is being made so long: until then every call fails at once, and an attempt is wasted."""
    try:
        async with asyncio.timeout(seconds):
            while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                await channel.wait_for_state_change(state)
    except TimeoutError:
        return


def _stream(method: Method, channel: grpc.aio.Channel, tokens: Credentials, clock: Clock) -> StreamCall:
    invoke = channel.unary_stream(method.path, method.request.SerializeToString, method.response.FromString)

    async def call(caller: Caller, request: Message) -> AsyncIterator[Message]:
        seconds = CALL_SECONDS if caller.deadline is None else caller.deadline - clock.monotonic()
        if seconds <= 0:
            raise DeadlineExceeded(f"no time was left to call {method.path}")
        metadata = ((AUTHORIZATION, tokens.authorization(caller)), (TRACE, caller.trace))
        responses = invoke(request, timeout=seconds, metadata=metadata)
        try:
            async for response in responses:
                yield response
        except grpc.aio.AioRpcError as failure:
            raise from_rpc_error(failure) from failure
        except asyncio.CancelledError:
            raise _not_ours(method) from None
        finally:
            # Whoever stops listening early stops the work.
            responses.cancel()

    return call


def _not_ours(method: Method) -> PagekeeperError:
    """Return the error for a call that the other side cancelled; let a cancellation of our own go on its way.

    grpc raises CancelledError for both. Taken for ours, one from afar would silently end the task that called.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
    return ServiceUnavailable(f"{method.path} was cancelled by the service")


def _cut_off(method: Method, away: PagekeeperError) -> PagekeeperError:
    """Return the error for a deadline that cuts off the next attempt. The next attempt may have been carried out."""
    if rule(away).definite and method.repeatable_by_id:
        return ServiceUnavailable(away.message)
    return away


def _may_repeat(method: Method, request: Message, error: PagekeeperError) -> bool:
    sent = rule(error)
    if sent.code is not grpc.StatusCode.UNAVAILABLE:
        return False
    return sent.definite or not method.repeatable_by_id or bool(getattr(request, "request_id", ""))
