"""A nats-py client for one TCP connection, without the known defects of nats-py.

nats-py 2.16 reconnects by itself, and its state across a reconnection makes outcomes unknowable: waiting commands are
sent later, after their caller was told that they failed; requests in flight wait for their timeout; `-ERR` from the
server closes the client for good; a cancelled reconnection leaves the client stuck. A client of this module therefore
lives as long as one connection, and `connection` makes another client.
"""

import asyncio
import logging
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.protocol import command

DIAL_TIMEOUT_SECONDS: Final = 3.0
CLOSE_TIMEOUT_SECONDS: Final = 2.0
PING_INTERVAL_SECONDS: Final = 5
PINGS_OUTSTANDING_MAX: Final = 2

STATUS: Final = "Status"

_log = logging.getLogger(__name__)


class LogClient(Client):
    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """Parse headers. nats-py's own parser tests every character of every name: two thirds of the time of a read."""
        return parse_headers(raw)

    def hear(self, subject: str, shared: Subscription) -> int:
        """Subscribe, with the queue and the task of another subscription. Return the number that `unhear` takes.

        Each subscription that nats-py makes has a task and a queue, about 4 KB. The line is sent before whatever is
        published next.
        """
        self._sid += 1
        self._subs[self._sid] = shared
        self._send_next(command.sub_cmd(subject, "", self._sid))
        return int(self._sid)

    def unhear(self, number: int) -> None:
        """Take a subscription back."""
        if self._subs.pop(number, None) is not None:
            self._send_next(command.unsub_cmd(number, 0))

    def _send_next(self, line: bytes) -> None:
        self._pending.append(line)
        self._pending_data_size += len(line)

    async def _close(self, status: int, do_cbs: bool = True) -> None:  # noqa: FBT001, FBT002
        """Close a client. nats-py's `close` stops at a broken connection's first error and leaks tasks and a socket."""
        try:
            await super()._close(status, do_cbs)
        except OSError as error:
            _log.debug("while closing a client: %s", error)
        finally:
            for subscription in set(self._subs.values()):
                subscription._stop_processing()  # noqa: SLF001
            if self._transport is not None:
                self._transport.close()  # type: ignore[no-untyped-call]


def new_client() -> LogClient:
    """A client that is not connected yet."""
    return LogClient()


async def dial(client: Client, server: str, name: str, on_closed: Callable[[], None], ca: Path | None) -> None:
    """Connect, once. `on_closed` is called when the connection has ended, however it did.

    A server at a URL of `tls://` must have a certificate of one of the authorities in `ca`, or of the machine's own.
    Errors: nats.errors.Error, OSError, TimeoutError; the client then has to be discarded.
    """

    async def closed() -> None:
        on_closed()

    await client.connect(
        [server],
        name=name,
        allow_reconnect=False,
        max_reconnect_attempts=1,
        reconnect_time_wait=0,
        connect_timeout=DIAL_TIMEOUT_SECONDS,  # type: ignore[arg-type]  # passed to asyncio, which takes a float
        ping_interval=PING_INTERVAL_SECONDS,
        max_outstanding_pings=PINGS_OUTSTANDING_MAX,
        pending_size=0,  # nothing is buffered while there is no connection, and no publish waits for a flush
        tls=_trusting(ca) if server.startswith("tls://") else None,
        error_cb=_ignore_error,
        closed_cb=closed,
    )


def _trusting(ca: Path | None) -> ssl.SSLContext:
    """Errors: OSError, for a file that cannot be read or holds no certificate."""
    return ssl.create_default_context(cafile=ca)


async def discard(client: Client) -> None:
    """Close a client, whatever state it is in. nats-py can wait for ever for a server that was killed."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
            await client.close()
    except (nats.errors.Error, OSError, TimeoutError) as error:
        _log.debug("while closing a client: %s", error)


def parse_headers(block: bytes) -> dict[str, str]:
    """`Name: value` lines as a dictionary. Our own and the server's names need no cleaning."""
    pairs = (line.partition(":") for line in block.decode("utf-8", "replace").split("\r\n"))
    return {name: value.strip() for name, _, value in pairs if name}


def status_of(message: Msg) -> str | None:
    """The status of a message that is one ("404"), None for a message with content."""
    return message.headers.get(STATUS) if message.headers else None


async def _ignore_error(error: Exception) -> None:
    """nats-py reports every failed dial and lost connection here too; its own handler prints a traceback for each."""
    _log.debug("nats: %s", error)
