"""A proxy of a service in other processes.

Each call carries the internal token of its caller, the trace and the remaining time of the deadline, and raises the
error that the service raised. A call about a session goes to the session's home among the replicas (`peers`). A call is
repeated inside its deadline only where a repetition is safe: the failure was definite, or the request is repeatable
(see `Method.repeatable_by_id`). A replica that is not reached, or that hangs, is passed over at once, once for each of
the others; a service that cannot do its work is asked again after a pause, within the bounds of `Manner`.

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
from pagekeeper.core.ids import ID
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.errors import from_rpc_error, rule
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.methods import AUTHORIZATION, SESSION, TRACE, Method, methods
from pagekeeper.runtime.rpc.peers import Peer, Peers

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
Metadata = tuple[tuple[str, str], ...]


class Credentials(Protocol):
    """The sender of a call: `InternalTokens` between services, a caller's own token at the gateway."""

    def authorization(self, caller: Caller) -> str:
        """Return the value of the `authorization` header."""
        ...


@dataclass(frozen=True, slots=True)
class Manner:
    """How calls are made.

    A call to a service that cannot do its work is sent at most `attempts_max` times, and not again when
    `repeat_seconds` have passed since it began. `names_session`: a header says which session a call is about, for load
    balancers that hash by it.
    """

    attempts_max: int = ATTEMPTS_MAX
    repeat_seconds: float = REPEAT_SECONDS
    names_session: bool = False


BETWEEN_SERVICES: Final = Manner()


def remote(
    service: ServiceDescriptor,
    peers: Peers,
    tokens: Credentials,
    clock: Clock,
    random: Random,
    manner: Manner = BETWEEN_SERVICES,
) -> Any:  # noqa: ANN401 - it has the methods that the descriptor says, which no type can
    """Return an object with the methods of `service`, each of which calls one of `peers`."""
    sender = _Sender(peers, tokens, clock, random, manner)
    return SimpleNamespace(
        **{
            method.attribute: _stream(method, sender) if method.streams else _unary(method, sender)
            for method in methods(service)
        }
    )


@dataclass(frozen=True, slots=True)
class _Sender:
    peers: Peers
    tokens: Credentials
    clock: Clock
    random: Random
    manner: Manner

    def metadata(self, caller: Caller, session: str) -> Metadata:
        sent = ((AUTHORIZATION, self.tokens.authorization(caller)), (TRACE, caller.trace))
        # What is no id is refused by the server in its own words, and may be too large for metadata.
        if self.manner.names_session and ID.fullmatch(session) is not None:
            return (*sent, (SESSION, session))
        return sent


class _Attempts:
    """The attempts of one call: where the next one goes, and whether there is one."""

    def __init__(self, sender: _Sender, method: Method, home: str, request: Message, deadline: float | None) -> None:
        now = sender.clock.monotonic()
        self._sender = sender
        self._method = method
        self._home = home
        self._request = request
        self._deadline = deadline if deadline is not None else now + CALL_SECONDS
        self._last = now + sender.manner.repeat_seconds
        self._attempt = 1
        self._away: PagekeeperError | None = None
        self._tried: tuple[Peer, ...] = ()
        self._peer: Peer

    async def begin(self) -> tuple[Peer, float]:
        """Choose the replica for an attempt; return the replica, and how long the attempt may take.

        Raises DeadlineExceeded, or rather what the time was spent with; ServiceUnavailable when no address is known.
        """
        while True:
            seconds = self._deadline - self._sender.clock.monotonic()
            if seconds <= 0:
                raise self._away or DeadlineExceeded(f"no time was left to call {self._method.path}")
            try:
                self._peer = self._sender.peers.choose(self._home, self._tried)
            except ServiceUnavailable as nobody:
                await self.again(nobody, passed_over=False)
            else:
                return self._peer, seconds

    async def again(self, error: PagekeeperError, *, passed_over: bool) -> None:
        """Return when there is to be another attempt, and raise otherwise.

        `passed_over`: the replica was not reached or hangs, so that another one may do better at once.
        """
        sender = self._sender
        if not _may_repeat(self._method, self._request, error):
            # That the time is up says less than what it was spent with.
            raise self._away if self._away is not None and isinstance(error, DeadlineExceeded) else error
        if passed_over:
            self._tried = (*self._tried, self._peer)
            if sender.peers.another(self._tried):
                self._away = _cut_off(self._method, error)
                return
        pause = sender.random.uniform(0, min(PAUSE_SECONDS_MIN * 2**self._attempt, PAUSE_SECONDS_MAX))
        until = min(self._deadline, self._last)
        if self._attempt == sender.manner.attempts_max or sender.clock.monotonic() + pause >= until:
            raise error
        self._away = _cut_off(self._method, error)
        self._attempt += 1
        self._tried = ()
        await asyncio.sleep(pause)
        await self._connected(until - sender.clock.monotonic())

    async def _connected(self, seconds: float) -> None:
        """Give a connection that is being made so long: until then every call fails at once, an attempt wasted."""
        try:
            channel = self._sender.peers.choose(self._home).channel
        except ServiceUnavailable:
            await self._sender.peers.changed(seconds)
            return
        try:
            async with asyncio.timeout(seconds):
                while (state := channel.get_state(try_to_connect=True)) is not grpc.ChannelConnectivity.READY:
                    await channel.wait_for_state_change(state)
        except TimeoutError:
            return


def _unary(method: Method, sender: _Sender) -> Call:
    peers = sender.peers

    async def call(caller: Caller, request: Message) -> Message:
        session = getattr(request, "session_id", "")
        home = f"{caller.tenant}/{session}" if session else ""
        attempts = _Attempts(sender, method, home, request, caller.deadline)
        while True:
            passed_over = True
            peer, seconds = await attempts.begin()
            try:
                asked = peer.invoker(method)(request, timeout=seconds, metadata=sender.metadata(caller, session))
                peers.began(peer, asked)
                try:
                    return await asked  # type: ignore[no-any-return]
                finally:
                    peers.ended(peer, asked)
            except grpc.aio.AioRpcError as failure:
                error, passed_over = from_rpc_error(failure), peers.note(peer, failure)
            except asyncio.CancelledError:
                error = _not_ours(method)
            await attempts.again(error, passed_over=passed_over)

    return call


def _stream(method: Method, sender: _Sender) -> StreamCall:
    peers = sender.peers

    async def call(caller: Caller, request: Message) -> AsyncIterator[Message]:
        session = _session_of_stream(request)
        home = f"{caller.tenant}/{session}" if session else ""
        attempts = _Attempts(sender, method, home, request, caller.deadline)
        while True:
            answered, passed_over = False, True
            peer, seconds = await attempts.begin()
            try:
                asked = peer.invoker(method)(request, timeout=seconds, metadata=sender.metadata(caller, session))
                peers.began(peer, asked)
                try:
                    async for response in asked:
                        answered = True
                        yield response
                    return
                finally:
                    peers.ended(peer, asked)
                    # Whoever stops listening early stops the work.
                    asked.cancel()
            except grpc.aio.AioRpcError as failure:
                error, passed_over = from_rpc_error(failure), peers.note(peer, failure)
            except asyncio.CancelledError:
                error = _not_ours(method)
            if answered:
                raise error
            await attempts.again(error, passed_over=passed_over)

    return call


def _session_of_stream(request: Message) -> str:
    """The session that a stream is about: the request may have another one inside that says so."""
    session: str = getattr(request, "session_id", "") or getattr(getattr(request, "fault", None), "session_id", "")
    return session


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
