"""A connection to the NATS servers across reconnections, and requests with definite outcomes.

Guarantees:
- A request that ends with `Unreachable(sent=False)` has had no effect and never will: the request was not written to a
  socket, or the server says that nobody took the request.
- A request in flight when the connection is lost fails at once with `Unreachable(sent=True)`.
- Every wait ends at the caller's deadline. Deadlines are times of the event loop.
- Subscriptions are made again on every new connection, before anybody can send on it; `on_resume` then says that
  messages may have been missed.
- At most `REQUESTS_IN_FLIGHT_MAX` requests are under way: a server drops all pending API requests beyond 10,000.

Each change of state is one log line: connected, lost, cannot be reached.
"""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription as NatsSubscription
from nats.nuid import NUID

from pagekeeper.runtime.log.client import (
    CLOSE_TIMEOUT_SECONDS,
    DIAL_TIMEOUT_SECONDS,
    LogClient,
    dial,
    discard,
    new_client,
    status_of,
)

REQUESTS_IN_FLIGHT_MAX: Final = 256
OPEN_TIMEOUT_SECONDS: Final = 10.0
DIAL_PAUSE_SECONDS_MIN: Final = 0.05
DIAL_PAUSE_SECONDS_MAX: Final = 2.0
CLOSED_POLL_SECONDS: Final = 0.5
"""A client that has lost its connection says so only when its transport has closed, which can take long."""

NO_RESPONDERS: Final = "503"

_log = logging.getLogger(__name__)


class Unreachable(Exception):
    """No answer. `sent` is False when the request certainly had no effect and never will."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


@dataclass(slots=True)
class _Exchange:
    """A request under way. The exchange ends with the first message that `is_last` accepts."""

    is_last: Callable[[Msg], bool]
    ended: asyncio.Future[None]
    messages: list[Msg] = field(default_factory=list)

    async def end(self, deadline: float) -> None:
        """Wait for it. A timer, since a timeout of asyncio would be a cancellation, and nats-py swallows those."""
        timer = asyncio.get_running_loop().call_at(deadline, self.fail, "no answer in time")
        try:
            await self.ended
        finally:
            timer.cancel()

    def fail(self, reason: str) -> None:
        if not self.ended.done():
            self.ended.set_exception(Unreachable(reason, sent=True))


@dataclass(frozen=True, eq=False, slots=True)
class Subscription:
    """Interest in a subject. Both callbacks must be quick and must not fail."""

    subject: str
    on_message: Callable[[Msg], None]
    on_resume: Callable[[], None]


class Interest:
    """Subjects that come and go, heard on one connection and for as long as it lasts. Made by `Connection.listen`."""

    def __init__(self, client: LogClient, shared: NatsSubscription, on_lost: Callable[[], None]) -> None:
        self._client = client
        self._shared = shared
        self._numbers: dict[str, int] = {}
        self.on_lost = on_lost

    def add(self, subject: str) -> None:
        """Hear of a subject. The server knows before it is asked anything that is sent on this connection later."""
        if subject not in self._numbers and not self._client.is_closed:
            self._numbers[subject] = self._client.hear(subject, self._shared)

    def remove(self, subject: str) -> None:
        """Hear of a subject no more."""
        number = self._numbers.pop(subject, None)
        if number is not None and not self._client.is_closed:
            self._client.unhear(number)

    async def close(self) -> None:
        """Hear of nothing more."""
        for subject in list(self._numbers):
            self.remove(subject)
        if not self._client.is_closed:
            try:
                await self._shared.unsubscribe()
            except nats.errors.Error:
                return  # the connection has gone, and everything with it


def now() -> float:
    """The time that deadlines are measured in."""
    return asyncio.get_running_loop().time()


class Connection:
    """Requests, publishing and subscriptions on whichever server can be reached. Made by `connect`."""

    def __init__(self, servers: Sequence[str], *, name: str, ca: Path | None) -> None:
        self._ca = ca
        self._servers = itertools.cycle(servers)
        self._name = name
        self._client: LogClient | None = None
        self._up = asyncio.Event()
        self._slots = asyncio.Semaphore(REQUESTS_IN_FLIGHT_MAX)
        self._inbox = f"_INBOX.{NUID().next().decode()}."
        self._tokens = itertools.count(1)
        self._exchanges: dict[str, _Exchange] = {}
        self._subscriptions: dict[Subscription, NatsSubscription | None] = {}
        self._interests: set[Interest] = set()
        self._reported_down = False

    @property
    def message_bytes_max(self) -> int:
        """The largest message that the server accepts, in bytes; 0 without a connection."""
        return self._client.max_payload if self._client is not None else 0

    async def request(
        self,
        subject: str,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        deadline: float,
        patience_seconds: float = inf,
    ) -> Msg:
        """Send, and wait for one answer until the deadline, or only for so long after sending.

        Errors: Unreachable, also when nobody listens on the subject.
        """
        messages = await self.gather(
            subject, data, headers, is_last=_always, deadline=deadline, patience_seconds=patience_seconds
        )
        return messages[0]

    async def gather(
        self,
        subject: str,
        data: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        is_last: Callable[[Msg], bool],
        deadline: float,
        patience_seconds: float = inf,
    ) -> list[Msg]:
        """Send and collect answers until one is the last. Otherwise like `request`."""
        client = await self._acquire(deadline)
        token = str(next(self._tokens))
        exchange = self._exchanges[token] = _Exchange(is_last, asyncio.get_running_loop().create_future())
        try:
            await _publish(client, subject, data, self._inbox + token, headers)
            await exchange.end(min(deadline, now() + patience_seconds))
        finally:
            del self._exchanges[token]
            self._slots.release()
        if status_of(exchange.messages[-1]) == NO_RESPONDERS:
            # Of a cluster's servers none is the leader yet, or JetStream is still starting: nobody has taken it.
            raise Unreachable(f"nobody listens on {subject}", sent=False)
        return exchange.messages

    async def publish(
        self, subject: str, data: bytes, headers: Mapping[str, str] | None = None, reply: str = ""
    ) -> None:
        """Send without waiting for anything. Errors: Unreachable, if there is no connection right now."""
        if self._client is None:
            raise Unreachable("not connected", sent=False)
        await _publish(self._client, subject, data, reply, headers)

    def new_inbox(self) -> str:
        """A subject to receive answers on that nobody else has."""
        return f"{self._inbox}{next(self._tokens)}.in"

    async def subscribe(self, subscription: Subscription, *, deadline: float) -> None:
        """Listen. On return the server knows; later connections are told by themselves. Errors: Unreachable."""
        client = await self._connected(deadline)
        self._subscriptions[subscription] = None
        try:
            await self._attach(client, subscription)
            await self._round_trip(client, deadline)
        except nats.errors.ConnectionClosedError as error:
            await self.unsubscribe(subscription)
            raise Unreachable(f"cannot subscribe: {error}", sent=False) from error
        except (Unreachable, asyncio.CancelledError):
            await self.unsubscribe(subscription)
            raise

    async def unsubscribe(self, subscription: Subscription) -> None:
        """Stop listening. Safe to repeat."""
        current = self._subscriptions.pop(subscription, None)
        if current is not None and self._client is not None and not self._client.is_closed:
            try:
                await current.unsubscribe()
            except nats.errors.Error:
                return  # it belonged to an earlier connection and went with it

    async def listen(
        self, on_message: Callable[[Msg], None], on_lost: Callable[[], None], *, deadline: float
    ) -> Interest:
        """Get ready to hear of subjects. Both callbacks must be quick and must not fail. Errors: Unreachable.

        `on_lost` is called once, when the connection is lost: messages may have been missed, and none will come.
        """
        client = await self._connected(deadline)

        async def deliver(message: Msg) -> None:
            on_message(message)

        try:
            shared = await client.subscribe(self.new_inbox(), cb=deliver)
        except nats.errors.ConnectionClosedError as error:
            raise Unreachable(f"cannot subscribe: {error}", sent=False) from error
        interest = Interest(client, shared, on_lost)
        self._interests.add(interest)
        if client is not self._client:
            self._lose(interest)
        return interest

    async def forget(self, interest: Interest) -> None:
        """Hear nothing more. Safe to repeat."""
        self._interests.discard(interest)
        await interest.close()

    async def settle(self, *, deadline: float) -> None:
        """Return when the server has seen all that was sent. Errors: Unreachable."""
        await self._round_trip(await self._connected(deadline), deadline)

    def _lose(self, interest: Interest) -> None:
        self._interests.discard(interest)
        interest.on_lost()

    async def wait_until_up(self, deadline: float) -> None:
        """Errors: Unreachable."""
        await self._connected(deadline)

    async def stay_connected(self) -> None:
        """Keep a connection up until cancelled. Runs as the task of `connect`."""
        try:
            while True:
                client, closed = await self._dial()
                self._client = client
                self._up.set()
                self._reported_down = False
                _log.info("%s: connected to NATS at %s", self._name, _address(client.connected_url))
                for subscription in list(self._subscriptions):
                    subscription.on_resume()
                while not client.is_closed:
                    try:
                        async with asyncio.timeout(CLOSED_POLL_SECONDS):
                            await closed.wait()
                    except TimeoutError:
                        continue
                _log.warning(
                    "%s: lost the connection to NATS: %s", self._name, client.last_error or "closed by the server"
                )
                self._reported_down = True
                self._drop()
                await discard(client)
        finally:
            client_at_end = self._client
            self._drop()
            if client_at_end is not None:
                await discard(client_at_end)

    def _drop(self) -> None:
        """Forget the client, and tell everyone who waits for an answer from it."""
        self._client = None
        self._up.clear()
        for exchange in self._exchanges.values():
            exchange.fail("the connection was lost")
        for interest in list(self._interests):
            self._lose(interest)

    async def _round_trip(self, client: LogClient, deadline: float) -> None:
        """Wait until the server has seen all that was sent before. nats-py's `flush` does not: its ping overtakes."""
        token = str(next(self._tokens))
        exchange = self._exchanges[token] = _Exchange(_always, asyncio.get_running_loop().create_future())
        try:
            await _publish(client, self._inbox + token, b"", "", None)
            await exchange.end(deadline)
        finally:
            del self._exchanges[token]

    async def _acquire(self, deadline: float) -> LogClient:
        """A slot for one request and a client to send it on."""
        try:
            async with asyncio.timeout_at(deadline):
                await self._slots.acquire()
        except TimeoutError:
            raise Unreachable(f"{REQUESTS_IN_FLIGHT_MAX} requests are under way", sent=False) from None
        with ExitStack() as unless_connected:
            unless_connected.callback(self._slots.release)
            client = await self._connected(deadline)
            unless_connected.pop_all()
        return client

    async def _connected(self, deadline: float) -> LogClient:
        try:
            async with asyncio.timeout_at(deadline):
                while self._client is None or self._client.is_closed:
                    # A client that is closed but not yet dropped: let `stay_connected` see it.
                    if self._client is not None:
                        await asyncio.sleep(DIAL_PAUSE_SECONDS_MIN)
                    await self._up.wait()
                return self._client
        except TimeoutError:
            raise Unreachable("no connection to NATS", sent=False) from None

    async def _dial(self) -> tuple[LogClient, asyncio.Event]:
        """Connect to the first server that answers, with all subscriptions made."""
        pause = DIAL_PAUSE_SECONDS_MIN
        while True:
            server = next(self._servers)
            client, closed = new_client(), asyncio.Event()
            try:
                async with asyncio.timeout(DIAL_TIMEOUT_SECONDS):
                    await self._open(client, server, closed)
            except (nats.errors.Error, OSError, TimeoutError, Unreachable) as error:
                await discard(client)
                if not self._reported_down:
                    reason = str(error) or type(error).__name__
                    _log.warning("%s: cannot reach NATS at %s: %s", self._name, _address(urlsplit(server)), reason)
                    self._reported_down = True
            except asyncio.CancelledError:
                await discard(client)
                raise
            else:
                return client, closed
            await asyncio.sleep(pause)
            pause = min(2 * pause, DIAL_PAUSE_SECONDS_MAX)

    async def _open(self, client: LogClient, server: str, closed: asyncio.Event) -> None:
        await dial(client, server, self._name, closed.set, self._ca)
        await client.subscribe(self._inbox + "*", cb=self._on_answer, pending_msgs_limit=0, pending_bytes_limit=0)
        for subscription in list(self._subscriptions):
            await self._attach(client, subscription)
        await self._round_trip(client, now() + DIAL_TIMEOUT_SECONDS)

    async def _on_answer(self, message: Msg) -> None:
        exchange = self._exchanges.get(message.subject[len(self._inbox) :])
        if exchange is None or exchange.ended.done():
            return  # too late: its caller has gone
        exchange.messages.append(message)
        if status_of(message) == NO_RESPONDERS or exchange.is_last(message):
            exchange.ended.set_result(None)

    async def _attach(self, client: LogClient, subscription: Subscription) -> None:
        async def deliver(message: Msg) -> None:
            subscription.on_message(message)

        self._subscriptions[subscription] = await client.subscribe(subscription.subject, cb=deliver)


@asynccontextmanager
async def connect(
    servers: Sequence[str], *, name: str, timeout_seconds: float = OPEN_TIMEOUT_SECONDS, ca: Path | None = None
) -> AsyncIterator[Connection]:
    """A connection that is up when the block is entered and stays up until it is left.

    `servers` are URLs, `nats://user:password@host:port`, of one server or of several of a cluster; `name` is what the
    server's operator sees. With `tls://` a server must have a certificate of an authority in the file `ca`, which is
    read for each connection; without the file, of one that the machine believes.
    Errors: Unreachable, if none answers in time.
    """
    connection = Connection(servers, name=name, ca=ca)
    # Not a TaskGroup: it would wrap every exception of the block in a group.
    keeper = asyncio.get_running_loop().create_task(connection.stay_connected())
    try:
        await connection.wait_until_up(now() + timeout_seconds)
        yield connection
    finally:
        # Again and again: nats-py, and before Python 3.12 also asyncio's `wait_for`, can swallow a cancellation.
        while not keeper.done():
            keeper.cancel()
            await asyncio.wait({keeper}, timeout=CLOSE_TIMEOUT_SECONDS)
    if not keeper.cancelled():
        keeper.result()


async def _publish(client: LogClient, subject: str, data: bytes, reply: str, headers: Mapping[str, str] | None) -> None:
    try:
        await client.publish(subject, data, reply, dict(headers) if headers else None)
    except (nats.errors.ConnectionClosedError, nats.errors.OutboundBufferLimitError) as error:
        raise Unreachable(f"cannot send: {error}", sent=False) from error


def _always(_message: Msg) -> bool:
    return True


def _address(url: object) -> str:
    return f"{getattr(url, 'hostname', '?')}:{getattr(url, 'port', '?')}"
