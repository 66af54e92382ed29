"""A gRPC server for plain service objects.

For every call the server verifies the caller's token, reads deadline and trace, parses the message, calls the method of
the service object with a `Caller`, turns an exception into a status, and logs one line (`calls`, beside this file). The
service object does none of these.

Limits:
- CALLS says how many calls are served at a time, of one tenant and of all, and how many wait for a place; beyond that a
  call is refused with TOO_MANY_REQUESTS before its message is received. Health checks do not count.
- Of one tenant's requests and unread answers, CALLS.held_bytes are held before its next call is let in, and at most
  twice as many. What gRPC has received of messages that are not complete does not count: at most
  TRANSPORT_MESSAGE_BYTES_MAX of each call that has a place. An answer that nobody reads is kept until the caller's
  deadline or its connection's end, CONNECTION_SECONDS and CONNECTION_GRACE_SECONDS at most.
- A connection has at most STREAMS_MAX calls.
- Messages have at most MESSAGE_BYTES_MAX, and metadata METADATA_BYTES_MAX. The transport takes several times as much,
  so that the refusal is ours and has an ErrorInfo; what exceeds the transport's limit too is refused by gRPC, with the
  code RESOURCE_EXHAUSTED alone.
- A connection lives `Limits.connection_seconds`, so that callers that ask DNS only when they connect find new replicas.
- At the end, calls in flight get DRAIN_SECONDS.

Never: a call without a verified tenant; a second server on the same port; an exception's text in a reply.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Final, Self

from google.protobuf.descriptor import ServiceDescriptor

from pagekeeper.runtime.bearer_tokens import TokenVerifier
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.fair_share import ShareLimits
from pagekeeper.runtime.rpc.accepting import GrpcServer
from pagekeeper.runtime.rpc.calls import METADATA_BYTES_MAX, CallGate, handlers_of, unknown_method
from pagekeeper.runtime.rpc.health import Health, Need
from pagekeeper.runtime.rpc.methods import MESSAGE_BYTES_MAX
from pagekeeper.runtime.rpc.readiness import watch_needs
from pagekeeper.runtime.rpc.reflection import reflection_of
from pagekeeper.runtime.rpc.tls import ServerTls
from pagekeeper.runtime.telemetry import CallLog

CALLS: Final = ShareLimits(
    "calls",
    total=1_000,
    per_tenant=128,
    waiting_per_tenant=256,
    wait_seconds=5.0,
    waiting_total=4_000,
    held_bytes=32 << 20,
)
STREAMS_MAX: Final = 2_000
"""Calls of one connection: twice what is served, since calls of many tenants come over one connection of a gateway."""
CONNECTION_SECONDS: Final = 300
CONNECTION_GRACE_SECONDS: Final = 60
DRAIN_SECONDS: Final = 20.0
CUT_OFF_SECONDS: Final = 2.0
TRANSPORT_MESSAGE_BYTES_MAX: Final = 4 * MESSAGE_BYTES_MAX
"""What the transport receives of one message. A caller with a token can make the server hold so much for each call."""
TRANSPORT_METADATA_BYTES_MAX: Final = 16 * METADATA_BYTES_MAX
UNREAD_BYTES_MAX: Final = 65_535
"""What is received of a message before its call has a place: the smallest window of HTTP/2. A message that is read gets
the window that it needs."""

_OPTIONS: Final = (
    # By default two servers share one port without a word.
    ("grpc.so_reuseport", 0),
    ("grpc.max_concurrent_streams", STREAMS_MAX),
    # A window that grows with the bandwidth would have a call that waits for its place send megabytes already.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", UNREAD_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", TRANSPORT_MESSAGE_BYTES_MAX),
    # Messages are unpacked where they are parsed: gRPC answers what it cannot unpack with INTERNAL.
    ("grpc.per_message_decompression", 0),
    # A soft limit of the same size: gRPC refuses by chance between the two.
    ("grpc.max_metadata_size", TRANSPORT_METADATA_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", TRANSPORT_METADATA_BYTES_MAX),
    ("grpc.max_connection_age_grace_ms", CONNECTION_GRACE_SECONDS * 1_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a server takes on, how long a connection lives, and how long the server takes to leave."""

    calls: ShareLimits = CALLS
    drain_seconds: float = DRAIN_SECONDS
    connection_seconds: int = CONNECTION_SECONDS


LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class Listening:
    """Where a server takes calls, `host:port` (port 0 chooses one), and whether with TLS and with reflection."""

    address: str
    tls: ServerTls | None = None
    reflection: bool = False


class RpcServer:
    """A gRPC server for some services: bound to its port when made, serving inside `async with`.

    Leaving the block drains: health says NOT_SERVING, no new call is taken, those in flight are finished or, after
    `limits.drain_seconds`, cut off.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what every process has one of
        self,
        listening: Listening,
        services: Mapping[ServiceDescriptor, object],
        verifier: TokenVerifier,
        calls: CallLog,
        clock: Clock,
        random: Random,
        limits: Limits = LIMITS,
        needs: Sequence[Need] = (),
    ) -> None:
        """Bind `services` to an address. Must run in the loop that will serve.

        `needs` are what the services depend on; `watch_needs` checks them.
        Raises CannotStart when the port is taken, and TypeError when a service lacks a method of its descriptor.
        """
        self._gate = CallGate(verifier, calls, clock, random, limits.calls)
        names = [service.full_name for service in services]
        self._limits = limits
        self._needs = needs
        self._health = Health(names, needs)
        handlers = self._health.handlers() | (reflection_of(names) if listening.reflection else {})
        for service, target in services.items():
            handlers |= handlers_of(self._gate, service, target)
        age = ("grpc.max_connection_age_ms", limits.connection_seconds * 1_000)
        self._server = GrpcServer((*_OPTIONS, age), handlers, unknown_method(self._gate))
        self.port = self._server.listen(listening.address, listening.tls.credentials() if listening.tls else None)

    async def watch_needs(self) -> None:
        """Check what the services depend on until cancelled, and let health tell of it."""
        await watch_needs(self._needs, self._health)

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
