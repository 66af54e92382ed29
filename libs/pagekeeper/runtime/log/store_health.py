"""Streams that a server has given up writing to, because its disk was full.

nats-server keeps a failed write in mind until JetStream is started again (2.15.1: `setWriteErr` of filestore.go and of
stream.go). From then on the server drops every message for the stream without an answer, also when the disk has space
again. The server tells nobody but whoever asks for its health, so its configuration may let the platform's account ask,
beside the question of `server_checks`:

    imports: [ { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.HEALTHZ" }, to: "pk.server.health" } ]
    exports: [ { service: "$SYS.REQ.SERVER.PING.HEALTHZ", accounts: [PAGEKEEPER], response_type: stream } ]

Where the question cannot be asked, an append to such a stream ends as one without an answer.

A message that a lone server dropped was not written and will not be: the stream's store was closed to it before, or its
own write failed and the store was cut back to what it had. Of several servers another one may still take the message.
"""

import json
import re
from math import inf
from typing import Final

from pagekeeper.runtime.log.connection import Connection, Unreachable, now

QUESTION: Final = "pk.server.health"
ASK_SECONDS_MAX: Final = 1.0
KNOWN_SECONDS: Final = 1.0
"""How long a failed stream is not asked about again: appends are refused for so long after a restart of the server."""

_DETAILS: Final = b'{"details": true}'
_NO_SPACE: Final = re.compile(r"write error: write .*no space left on device")


class StoreHealth:
    """The streams' stores, as one process knows them."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._failed: frozenset[str] = frozenset()
        self._asked_at = -inf

    async def fails(self, stream: str, *, deadline: float) -> bool:
        """Whether the stream was failing when last asked, or is failing still when that was long ago."""
        if stream in self._failed and now() - self._asked_at >= KNOWN_SECONDS:
            await self.ask(deadline=deadline)
        return stream in self._failed

    async def ask(self, *, deadline: float) -> frozenset[str]:
        """The failing streams of a lone server. A cluster has none: see above."""
        self._asked_at = now()
        self._failed = await failing_streams(self._connection, deadline=min(deadline, now() + ASK_SECONDS_MAX))
        return self._failed


async def failing_streams(connection: Connection, *, deadline: float) -> frozenset[str]:
    """The streams that a lone server no longer writes to for want of disk space; none where nobody answers."""
    try:
        answer = json.loads((await connection.request(QUESTION, _DETAILS, deadline=deadline)).data)
    except Unreachable:
        return frozenset()
    if "cluster" in answer["server"]:
        return frozenset()
    return frozenset(
        error["stream"]
        for error in answer.get("data", {}).get("errors") or ()
        if error.get("stream") and _NO_SPACE.search(error.get("error", ""))
    )
