"""The check, once at a service's start, that the servers keep acknowledged appends.

With its default settings NATS acknowledges an append up to two minutes before it is on disk, and a power cut takes all
of it. Only `sync_interval: always` changes that. A server tells the setting to its system account and on port 8222,
which has no authentication, and not to its clients. No service should have either, so the servers' configuration lets
Pagekeeper's account ask this one question:

    max_payload: 1MB
    jetstream { store_dir: "/data", sync_interval: always }
    accounts {
      PAGEKEEPER: {
        jetstream: enabled
        users: [ { user: "...", password: "..." } ]
        imports: [ { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ" }, to: "pk.server.jetstream" } ]
      }
      SYS: {
        exports: [ { service: "$SYS.REQ.SERVER.PING.JSZ", accounts: [PAGEKEEPER], response_type: stream } ]
      }
    }
    system_account: SYS

Every server of a cluster answers, and every one has to comply. Where the question cannot be asked, the answer counts
as no.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from nats.aio.msg import Msg

from pagekeeper.runtime.log.connection import Connection, Unreachable, now
from pagekeeper.runtime.log.port import MESSAGE_BYTES_MAX

SERVER_VERSION_MIN: Final = (2, 15, 1)
QUESTION: Final = "pk.server.jetstream"
CHECK_TIMEOUT_SECONDS: Final = 5.0
GATHER_SECONDS: Final = 1.0
"""How long to wait for the other servers of a cluster."""


class ServerUnfit(Exception):
    """A server would lose what it acknowledged, or cannot hold our records. The message says what to change."""


@dataclass(frozen=True, slots=True)
class _Server:
    name: str
    version: str
    sync_always: bool
    cluster_size: int


async def check_server(connection: Connection, *, timeout_seconds: float = CHECK_TIMEOUT_SECONDS) -> None:
    """Refuse servers that are too old, that do not sync every write, or that take no message of our size.

    Errors: ServerUnfit, Unreachable.
    """
    await connection.wait_until_up(now() + timeout_seconds)
    if connection.message_bytes_max < MESSAGE_BYTES_MAX:
        raise ServerUnfit(
            f"the NATS server takes messages of {connection.message_bytes_max:,} bytes: set max_payload: 1MB"
        )
    for server in await _servers(connection, timeout_seconds):
        if _version(server.version) < SERVER_VERSION_MIN:
            wanted = ".".join(map(str, SERVER_VERSION_MIN))
            raise ServerUnfit(f"NATS server {server.name} is version {server.version}: run {wanted} or newer")
        if not server.sync_always:
            raise ServerUnfit(
                f"NATS server {server.name} acknowledges appends before they are on disk: "
                "set sync_interval: always in the jetstream block of its configuration"
            )


async def _servers(connection: Connection, timeout_seconds: float) -> list[_Server]:
    found: list[_Server] = []

    def all_there(message: Msg) -> bool:
        found.append(_server_of(json.loads(message.data)))
        return len(found) >= found[0].cluster_size

    try:
        await connection.gather(QUESTION, is_last=all_there, deadline=now() + min(timeout_seconds, GATHER_SECONDS))
    except Unreachable as error:
        # Of a cluster some may be down, and nobody can ask them. Those that answer decide.
        if not found:
            raise ServerUnfit(
                "the NATS servers do not say whether they sync every write: let the platform's account import "
                f"$SYS.REQ.SERVER.PING.JSZ as {QUESTION} ({error})"
            ) from error
    return found


def _server_of(answer: dict[str, Any]) -> _Server:
    server, jetstream = answer["server"], answer.get("data", {})
    return _Server(
        name=server["name"],
        version=server["ver"],
        sync_always=bool(jetstream.get("config", {}).get("sync_always", False)),
        cluster_size=int(jetstream.get("meta_cluster", {}).get("cluster_size", 1)),
    )


def _version(text: str) -> tuple[int, ...]:
    """`2.15.1-RC.2` as (2, 15, 1)."""
    return tuple(int(part) for part in text.partition("-")[0].split("."))
