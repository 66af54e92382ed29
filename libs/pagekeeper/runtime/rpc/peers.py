"""The replicas of a service, as one of its callers sees them: where to send a call, and whom to leave out.

Affinity. A call about a session goes to the session's home: of the replicas that serve, the one with the highest hash
of (tenant, session, address), known as rendezvous hashing. All callers agree without talking to each other, and a
replica that joins or leaves moves the sessions that it gets or had, 1/N of them, and no others. The home is a hint: any
replica answers any call. A call about no session goes to the replica with the fewest calls of ours.

Health. A replica gets calls while it says SERVING by grpc.health.v1, to a probe on the connection that calls use:
- A replica is probed when it is new, while it is out, when a call to it failed, and when a call to it has taken longer
  than SLOW_SECONDS. A replica whose calls are slow and that answers the probe is merely busy, and is left alone.
- A replica that does not answer a probe hangs: its process is stopped, its event loop is stuck, or packets are dropped.
  It is out, and calls to it are abandoned, so that their callers turn to another replica. Each time it hangs it stays
  out twice as long, from OUT_SECONDS_MIN to OUT_SECONDS_MAX.
- Where nobody serves, all are taken to serve: an answer that tells what is wrong is worth more than none.

So a replica that hangs costs each caller one call of at most SLOW_SECONDS + SWEEP_SECONDS + PROBE_SECONDS more.

Addresses are asked for again every RESOLVE_SECONDS. When that fails, the addresses of before count. The authorities
that are believed are read again as often: when they have changed, all channels are made anew.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from pagekeeper.core.errors import ServiceUnavailable
from pagekeeper.core.lru import Lru
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.errors import STATUS_DETAILS
from pagekeeper.runtime.rpc.addresses import Endpoint, Resolve, ask_dns, endpoints_of, split
from pagekeeper.runtime.rpc.channel import new_channel
from pagekeeper.runtime.rpc.methods import Method
from pagekeeper.runtime.rpc.rendezvous import home_of, salt_of
from pagekeeper.runtime.rpc.tls import Trust

SWEEP_SECONDS: Final = 0.2
SLOW_SECONDS: Final = 0.4
PROBE_SECONDS: Final = 0.8
PROBE_PAUSE_SECONDS: Final = 0.4
OUT_SECONDS_MIN: Final = 1.0
OUT_SECONDS_MAX: Final = 30.0
FORGIVEN_SECONDS: Final = 60.0
"""A replica that did not hang for so long hangs for the first time again."""
RESOLVE_SECONDS: Final = 2.0
WARM_UP_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 1.0
HOMES_REMEMBERED_MAX: Final = 4_096
HOME_LENGTH_MAX: Final = 256

_GONE: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})

_log: Final = logging.getLogger(__name__)

Call = grpc.aio.Call


class Peer:
    """One replica: a channel to one address, and what is known of it."""

    def __init__(self, endpoint: Endpoint, trust: Trust) -> None:
        self.endpoint = endpoint
        self.channel = new_channel(endpoint.target, endpoint.authority, trust.credentials())
        self.calls: dict[Call, float] = {}
        """Calls under way, the oldest first, and when each began."""
        self.serves = False
        self.suspect = False
        self.hangs = False
        self.probed = -inf
        self.probing = False
        self.out_until = -inf
        self.hung = -inf
        self.strikes = 0
        self.salt = salt_of(endpoint.name)
        self._invokers: dict[str, Any] = {}
        self._check = self.channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )

    def invoker(self, method: Method) -> Any:  # noqa: ANN401 - of unary and of streaming calls
        """The callable that makes a call of this method."""
        invoker = self._invokers.get(method.path)
        if invoker is None:
            make = self.channel.unary_stream if method.streams else self.channel.unary_unary
            invoker = make(method.path, method.request.SerializeToString, method.response.FromString)
            self._invokers[method.path] = invoker
        return invoker

    async def says(self) -> grpc.StatusCode | None:
        """None when it says that it serves; otherwise what it, or the network, says instead."""
        try:
            answer = await self._check(HealthCheckRequest(), timeout=PROBE_SECONDS)
        except grpc.aio.AioRpcError as failure:
            # Whoever stands between may know no health, and whoever answers is there.
            return failure.code() if failure.code() in _GONE else None
        return None if answer.status == HealthCheckResponse.SERVING else grpc.StatusCode.UNKNOWN


class Peers:
    """The replicas behind a setting. Made by `open_peers`."""

    def __init__(self, addresses: str, clock: Clock, trust: Trust, resolve: Resolve = ask_dns) -> None:
        split(addresses)
        self._trust = trust
        self.addresses = addresses
        self._resolve = resolve
        self._monotonic = clock.monotonic
        self._peers: dict[str, Peer] = {}
        self._serving: list[Peer] = []
        self._leaving: list[Peer] = []
        self._homes: Lru[str, Peer] = Lru(count_max=HOMES_REMEMBERED_MAX)
        self._turn = 0
        self._changed = asyncio.Event()

    # Calling

    def choose(self, home: str, tried: Collection[Peer] = ()) -> Peer:
        """The replica to send a call to: not one of those that were `tried`, if there is another.

        `home` is `tenant/session`, or "" for a call about no session. Raises ServiceUnavailable: no address is known.
        """
        among: Sequence[Peer] = self._serving or list(self._peers.values())
        if tried:
            among = [peer for peer in among if peer not in tried] or among
        if not among:
            raise ServiceUnavailable(f"no address of {self.addresses} is known")
        if len(among) == 1:
            return among[0]
        if not home:
            self._turn += 1
            turn = self._turn % len(among)
            return min((*among[turn:], *among[:turn]), key=lambda peer: len(peer.calls))
        if tried or len(home) > HOME_LENGTH_MAX:
            return home_of(home, among, _salt)
        peer = self._homes.get(home)
        if peer is None:
            peer = home_of(home, among, _salt)
            self._homes.put(home, peer)
        return peer

    def another(self, tried: Collection[Peer]) -> bool:
        """Whether a replica serves that was not tried."""
        return any(peer not in tried for peer in self._serving)

    def note(self, peer: Peer, failure: grpc.aio.AioRpcError) -> bool:
        """Take note of a failed call. Return whether the replica itself was not reached."""
        if failure.code() is not grpc.StatusCode.UNAVAILABLE:
            return False
        told = any(key == STATUS_DETAILS for key, _ in failure.trailing_metadata() or ())
        if told:
            peer.suspect = True
        else:
            self._put_out(peer)
        return not told

    def began(self, peer: Peer, call: Call) -> None:
        """A call to a replica is under way until it is `ended`."""
        peer.calls[call] = self._monotonic()

    @staticmethod
    def ended(peer: Peer, call: Call) -> None:
        """The call is answered, or given up."""
        peer.calls.pop(call, None)

    async def changed(self, seconds: float) -> None:
        """Wait until something else is known of the replicas, at most so long."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return

    async def check(self) -> None:
        """Ask the replicas until one says that it serves. Raises ServiceUnavailable when none does."""
        for peer in list(self._serving):
            await self._probe(peer)
            if peer.serves:
                return
        if not self._serving:
            raise ServiceUnavailable(f"no replica behind {self.addresses} serves")

    async def ready(self, seconds: float) -> None:
        """Wait until a replica serves, at most so long."""
        deadline = self._monotonic() + seconds
        while not self._serving and self._monotonic() < deadline:
            await self.changed(deadline - self._monotonic())
        if not self._serving:
            _log.warning("a service does not answer yet", extra={"address": self.addresses})

    # Watching

    async def watch(self) -> None:
        """Keep knowing who serves, until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep_resolving())
                while True:
                    for peer in (*self._peers.values(), *self._leaving):
                        if self._wants_probe(peer):
                            peer.probing = True
                            group.create_task(self._probe(peer))
                        if peer.hangs and peer.calls:
                            self._abandon(peer)
                    await self._close_those_that_left()
                    await asyncio.sleep(SWEEP_SECONDS)
        except ExceptionGroup as defects:
            raise defects.exceptions[0] from None

    async def close(self) -> None:
        """Close all channels, and end the calls on them."""
        for peer in (*self._peers.values(), *self._leaving):
            await peer.channel.close()

    async def _keep_resolving(self) -> None:
        while True:
            try:
                self._have(await endpoints_of(self.addresses, self._resolve))
            except (OSError, TimeoutError) as problem:
                _log.warning("%s is not resolved: %s", self.addresses, problem)
            await asyncio.sleep(RESOLVE_SECONDS)

    def _have(self, endpoints: Sequence[Endpoint]) -> None:
        """Take over the addresses of now. No address at all is taken for a fault of who was asked."""
        wanted = {endpoint.name: endpoint for endpoint in endpoints}
        stale = self._peers.keys() if self._trust.has_changed() else self._peers.keys() - wanted.keys()
        if not wanted or (not stale and wanted.keys() == self._peers.keys()):
            return
        for name in list(stale):
            self._leaving.append(self._peers.pop(name))
        for name in wanted.keys() - self._peers.keys():
            self._peers[name] = Peer(wanted[name], self._trust)
        _log.info("%s has %d addresses", self.addresses, len(self._peers))
        self._recount()

    def _wants_probe(self, peer: Peer) -> bool:
        now = self._monotonic()
        if peer.probing or now - peer.probed < PROBE_PAUSE_SECONDS:
            return False
        oldest = next(iter(peer.calls.values()), inf)
        return not peer.serves or peer.suspect or now - oldest > SLOW_SECONDS

    async def _probe(self, peer: Peer) -> None:
        says = await peer.says()
        now = peer.probed = self._monotonic()
        peer.probing = peer.suspect = False
        peer.hangs = says is grpc.StatusCode.DEADLINE_EXCEEDED
        if says is None:
            if not peer.serves and now >= peer.out_until:
                peer.serves = True
                _log.info("a replica serves", extra={"address": peer.endpoint.name})
                self._recount()
            return
        if peer.hangs and peer.serves:
            if now - peer.hung > FORGIVEN_SECONDS:
                peer.strikes = 0
            peer.hung = now
            peer.out_until = now + min(OUT_SECONDS_MIN * 2**peer.strikes, OUT_SECONDS_MAX)
            peer.strikes += 1
        self._put_out(peer)
        if peer.hangs:
            self._abandon(peer)

    def _put_out(self, peer: Peer) -> None:
        if peer.serves:
            peer.serves = False
            _log.warning("a replica is left out", extra={"address": peer.endpoint.name})
            self._recount()

    def _abandon(self, peer: Peer) -> None:
        """End the calls to a replica that hangs, for their callers to turn to another, if there is one."""
        if self.another((peer,)):
            for call in list(peer.calls):
                call.cancel()

    def _recount(self) -> None:
        self._serving = [peer for _, peer in sorted(self._peers.items()) if peer.serves]
        self._homes.clear()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _close_those_that_left(self) -> None:
        for peer in [peer for peer in self._leaving if not peer.calls and not peer.probing]:
            self._leaving.remove(peer)
            await peer.channel.close()


def _salt(peer: Peer) -> bytes:
    return peer.salt


@asynccontextmanager
async def open_peers(
    addresses: str,
    clock: Clock,
    warm_up_seconds: float = WARM_UP_SECONDS,
    resolve: Resolve = ask_dns,
    *,
    ca: Path | None = None,
) -> AsyncIterator[Peers]:
    """Open channels to the replicas at `addresses`, of which one serves before the first call needs it.

    A service that is not there yet is waited for, then started without: calls to it fail until it is. `ca` is a file of
    the authorities whose certificates are believed; without it there is no TLS.
    Raises ValueError when `addresses` are none, CannotStart when the file cannot be read.
    """
    peers = Peers(addresses, clock, Trust(ca), resolve)
    watching = asyncio.get_running_loop().create_task(peers.watch())
    try:
        await peers.ready(warm_up_seconds)
        yield peers
    finally:
        watching.cancel()
        await asyncio.wait({watching}, timeout=CLOSE_SECONDS)
        await peers.close()
    if watching.done() and not watching.cancelled():
        watching.result()
