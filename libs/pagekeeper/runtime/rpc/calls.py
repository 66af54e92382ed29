"""One call of a server, from its metadata to its line in the log; and the handlers that gRPC is given.

The order of a call: metadata are measured, the token is verified, the call takes a place of its tenant's share
(`pagekeeper.runtime.fair_share`), and only then is the message received and parsed. So nobody without a token, and
nobody beyond their share, makes the server hold or read a message. gRPC is told that each RPC takes a stream of
requests of which it knows no class: that is the one kind of handler which runs before the message is there. On the
wire there is no difference.

A call gives its place back when gRPC has written the last byte of its answer, or has given the answer up. gRPC says so
to callbacks of the context: it writes no more than the caller's flow control lets it. So an answer that its caller does
not read takes a place, and its bytes count.

Every refusal carries an ErrorInfo, of what gRPC would refuse by itself too:
- A message beyond MESSAGE_BYTES_MAX, and metadata beyond METADATA_BYTES_MAX, are received up to the transport's larger
  limit (`pagekeeper.runtime.rpc.server`), and refused here.
- A method that the server does not have is refused by `unknown_method`.
- A call whose deadline passes is answered by the server shortly before the caller's own clock ends the call.
"""

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from random import Random
from typing import Any, Final, NoReturn, TypeAlias

import grpc
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from pagekeeper.core.errors import (
    ContentTooLarge,
    DeadlineExceeded,
    MethodNotFound,
    PagekeeperError,
    ServiceUnavailable,
    TooManyRequests,
)
from pagekeeper.runtime.bearer_tokens import TokenVerifier
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.fair_share import FairShare, ShareLimits
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.methods import AUTHORIZATION, MESSAGE_BYTES_MAX, TRACE, Method, methods_of
from pagekeeper.runtime.rpc.parsing import M, parsed, received
from pagekeeper.runtime.rpc.refusals import answer_refusal, refusal_of, uncaught_cancellation
from pagekeeper.runtime.telemetry import CallLog, enter_scope

METADATA_BYTES_MAX: Final = 16 << 10
"""The largest metadata of a call, counted as HTTP/2 counts them: a token has 8 KiB at most."""
METADATA_ENTRY_BYTES: Final = 32
"""What an entry counts beside its key and value: RFC 9113, 6.5.2."""
DEADLINE_SHARE: Final = 0.05
DEADLINE_SECONDS_MAX: Final = 0.1
"""A call is ended min(5 % of its time, 0.1 s) before its deadline, so that the answer arrives before the deadline."""
UNKNOWN_METHOD: Final = "unknown"
"""In logs, where a caller's own words do not stand."""
_TRACE_GRAMMAR: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_CANCELLED: Final = "CANCELLED"

_log: Final = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_Unary = Callable[[Caller, Message], Awaitable[Message]]
_Stream = Callable[[Caller, Message], AsyncGenerator[Message, None]]


class CallGate:
    """Where every call of a server is let in and seen out."""

    def __init__(
        self, verifier: TokenVerifier, calls: CallLog, clock: Clock, random: Random, limits: ShareLimits
    ) -> None:
        self.verifier = verifier
        self.calls = calls
        self.clock = clock
        self.random = random
        self.share = FairShare(limits)
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

    __slots__ = (
        "_authorization",
        "_context",
        "_countdown",
        "_gate",
        "_held_bytes",
        "_metadata_bytes",
        "_path",
        "_started",
        "_task",
        "_tenant",
        "_time_is_up",
        "_trace",
        "outcome",
    )

    def __init__(self, gate: CallGate, path: str, context: Context) -> None:
        self._gate = gate
        self._path = path
        self._context = context
        self._started = gate.clock.monotonic()
        self._tenant = ""
        self._countdown: asyncio.TimerHandle | None = None
        self._held_bytes = 0
        self._time_is_up = False
        self._task: asyncio.Task[Any] | None = None
        self.outcome = _CANCELLED
        trace = authorization = None
        metadata_bytes = 0
        for key, value in context.invocation_metadata() or ():
            metadata_bytes += len(key) + len(value) + METADATA_ENTRY_BYTES
            if key == AUTHORIZATION and isinstance(value, str):
                authorization = value
            elif key == TRACE and isinstance(value, str):
                trace = value
        self._metadata_bytes = metadata_bytes
        self._trace = gate.trace(trace)
        self._authorization = authorization
        gate.running += 1

    def caller(self) -> Caller:
        """Tell who calls. Raises ContentTooLarge for metadata, and refusals of the token."""
        gate = self._gate
        if self._metadata_bytes > METADATA_BYTES_MAX:
            raise ContentTooLarge("metadata", self._metadata_bytes, METADATA_BYTES_MAX)
        identity = gate.verifier.verify(self._authorization)
        self._tenant = identity.tenant
        enter_scope(self._trace, identity.tenant)
        remaining: Callable[[], float | None] = self._context.time_remaining  # whose stub forgets the None
        seconds = remaining()
        if seconds is None:
            return Caller(identity.tenant, identity.subject, None, self._trace)
        self._count_down(seconds)
        return Caller(identity.tenant, identity.subject, self._started + seconds, self._trace)

    async def enter(self) -> None:
        """Take a place until the answer is flushed. Raises TooManyRequests."""
        if not self._gate.share.take(self._tenant):
            await self._gate.share.wait(self._tenant)
        context: Any = self._context  # whose stub wants an object that grpc does not have
        context.add_done_callback(self._flushed)

    def _flushed(self, _: object) -> None:
        self._gate.share.leave(self._tenant, self._held_bytes)

    async def request(self, kind: type[M]) -> M:
        """Receive the message. Raises TooManyRequests, InvalidField, ContentTooLarge."""
        raw = await received(self._context, kind)
        self._hold(len(raw))
        return await parsed(kind, raw)

    def _hold(self, size_bytes: int) -> None:
        self._gate.share.hold(self._tenant, size_bytes)
        self._held_bytes += size_bytes

    def _count_down(self, seconds: float) -> None:
        early = min(seconds * DEADLINE_SHARE, DEADLINE_SECONDS_MAX)
        self._task = asyncio.current_task()
        self._countdown = asyncio.get_running_loop().call_later(seconds - early, self._run_out)

    def _run_out(self) -> None:
        self._time_is_up = True
        if self._task is not None:
            self._task.cancel()

    def answer(self, response: Message, *, repeatable: bool) -> bytes:
        """The bytes that are sent. An answer that gRPC would not send is a defect of the service that made it.

        Raises TooManyRequests when the tenant leaves too much unread; what a request has changed stays done, so a
        `repeatable` one gets ServiceUnavailable: its repetition is answered.
        """
        raw = response.SerializeToString()
        if len(raw) > MESSAGE_BYTES_MAX:
            raise ValueError(f"an answer has {len(raw):,} bytes; at most {MESSAGE_BYTES_MAX:,} are sent")
        try:
            self._hold(len(raw))
        except TooManyRequests as unread:
            if repeatable:
                raise ServiceUnavailable(f"{unread.message}, and repeat the request with its request_id") from unread
            raise
        return raw

    async def refuse(self, error: Exception) -> NoReturn:
        """Answer with the status for `error`."""
        self._stop_countdown()
        enter_scope(self._trace, self._tenant)
        refusal = refusal_of(error, self._path, self._trace)
        self.outcome = refusal.reason
        await answer_refusal(self._context, refusal, self._trace)

    async def end(self, cancelled: asyncio.CancelledError) -> NoReturn:
        """Answer that the time is up, when this was the cancellation; any other one goes on its way."""
        if self._time_is_up and self._task is not None and not self._task.uncancel():
            await self.refuse(DeadlineExceeded("the deadline passed; what was asked for may have happened"))
        await self.refuse(uncaught_cancellation(cancelled))

    def close(self) -> None:
        """See the call out."""
        self._stop_countdown()
        gate = self._gate
        gate.leave()
        duration_ms = (gate.clock.monotonic() - self._started) * 1_000
        gate.calls.write(self._path, self.outcome, duration_ms, self._trace, self._tenant)

    def _stop_countdown(self) -> None:
        if self._countdown is not None:
            self._countdown.cancel()


def handlers_of(gate: CallGate, service: ServiceDescriptor, target: object) -> dict[str, Handler]:
    """The handlers of a service, by path. Raises TypeError when `target` lacks a method of it."""
    return {
        method.path: _stream(gate, method, served) if method.streams else _unary(gate, method, served)
        for method, served in methods_of(service, target)
    }


def _unary(gate: CallGate, method: Method, target: _Unary) -> Handler:
    path, kind, repeatable = method.path[1:], method.request, method.repeatable_by_id

    async def handle(_: object, context: Context) -> bytes:
        call = _Call(gate, path, context)
        try:
            caller = call.caller()
            await call.enter()
            response = await target(caller, await call.request(kind))
            answer = call.answer(response, repeatable=repeatable)
            call.outcome = "OK"
            return answer
        except asyncio.CancelledError as cancelled:
            await call.end(cancelled)
        except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it is, the caller gets a status
            await call.refuse(error)
        finally:
            call.close()

    return grpc.stream_unary_rpc_method_handler(handle)


def _stream(gate: CallGate, method: Method, target: _Stream) -> Handler:
    path, kind, repeatable = method.path[1:], method.request, method.repeatable_by_id

    # Written, not yielded: a generator that grpc drops is closed whenever the garbage collector comes by.
    async def handle(_: object, context: Context) -> None:
        call = _Call(gate, path, context)
        try:
            caller = call.caller()
            await call.enter()
            async with aclosing(target(caller, await call.request(kind))) as responses:
                async for response in responses:
                    await context.write(call.answer(response, repeatable=repeatable))
            call.outcome = "OK"
        except asyncio.CancelledError as cancelled:
            await call.end(cancelled)
        except Exception as error:  # noqa: BLE001 - the edge of the process: whatever it is, the caller gets a status
            await call.refuse(error)
        finally:
            call.close()

    return grpc.stream_stream_rpc_method_handler(handle)


def unknown_method(gate: CallGate) -> Handler:
    """The handler of every other path: it refuses the call, once the token was verified."""

    async def handle(_: object, context: Context) -> None:
        call = _Call(gate, UNKNOWN_METHOD, context)
        try:
            await call.refuse(_caught(call.caller) or MethodNotFound())
        finally:
            call.close()

    return grpc.stream_stream_rpc_method_handler(handle)


def _caught(let_in: Callable[[], Caller]) -> PagekeeperError | None:
    try:
        let_in()
    except PagekeeperError as refusal:
        return refusal
    return None
