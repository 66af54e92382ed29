"""One NATS server, or several that replicate each other as one cluster.

A cluster needs a majority of its servers. Its files lie in a directory a server, and all its servers have one password.
The files of one server and those of a cluster are different things: a directory that one size has used is refused to
another size.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pagekeeper.local.certificates import Certificate
from pagekeeper.local.child import PortTaken, StartFailed, all_of, stop_all
from pagekeeper.local.ports import HOST, free_ports
from pagekeeper.local.servers import PORT_CHOICES_MAX, START_SECONDS_MAX, USER, NatsServer, secret_in
from pagekeeper.runtime.log.connection import Unreachable, connect, now
from pagekeeper.runtime.log.jetstream import Refused, ask

SIZES: Final = (1, 3, 5)
"""Servers of a cluster: an even number survives no more failures than the odd number below."""

_CLUSTER: Final = """\
cluster {{
  name: pagekeeper
  listen: "{host}:{port}"
  authorization {{ user: {user}, password: {password}, timeout: 5 }}
  routes: [{routes}]
  no_advertise: true
}}
"""
_PORTS_A_NODE: Final = 2
"""One for clients, one for the other servers."""


@dataclass(frozen=True, slots=True)
class _Membership:
    """The ports on which the servers of one cluster listen for each other, and the file with their password."""

    ports: tuple[int, ...]
    password_file: Path


class NatsNode(NatsServer):
    """One server of a cluster, `number` from 1."""

    def __init__(
        self, directory: Path, number: int, client_port: int, members: _Membership, tls: Certificate | None
    ) -> None:
        super().__init__(directory, f"nats-server-{number}", tls)
        self._ports = [client_port, members.ports[number - 1]]
        self._members = members

    def _cluster_block(self, password: str) -> str:
        routes = ", ".join(json.dumps(f"nats-route://{USER}:{password}@{HOST}:{port}") for port in self._members.ports)
        return _CLUSTER.format(host=HOST, port=self._ports[1], user=USER, password=json.dumps(password), routes=routes)

    def _password(self) -> str:
        return secret_in(self._members.password_file)


class NatsCluster:
    """`size` NATS servers, one of SIZES. A cluster has `servers` once it is started."""

    def __init__(self, directory: Path, size: int, tls: Certificate | None = None) -> None:
        self._tls = tls
        self._directory = directory.absolute()
        self._size = size
        self.servers: tuple[NatsServer, ...] = (NatsServer(self._directory, tls=tls),) if size == 1 else ()

    @property
    def url(self) -> str:
        """The addresses of all servers, with the user and the password, with commas between."""
        return ",".join(server.url for server in self.servers)

    async def start(self) -> None:
        """Start all servers, and return when they elected a leader. Raises StartFailed; then some may run."""
        self._check_files()
        if self._size == 1:
            await self.servers[0].start()
            return
        for choices_left in reversed(range(PORT_CHOICES_MAX)):
            self.servers = self._nodes(free_ports(_PORTS_A_NODE * self._size))
            try:
                await all_of(server.start() for server in self.servers)
            except PortTaken:
                await stop_all(self.servers)
                if not choices_left:
                    raise
            else:
                await self._until_led()
                return

    def _nodes(self, ports: Sequence[int]) -> tuple[NatsServer, ...]:
        self._directory.mkdir(parents=True, exist_ok=True)
        members = _Membership(tuple(ports[self._size :]), self._directory / "password")
        return tuple(
            NatsNode(self._directory / str(number), number, ports[number - 1], members, self._tls)
            for number in range(1, self._size + 1)
        )

    async def _until_led(self) -> None:
        """Wait until JetStream answers, which takes a leader that a majority of the servers elected."""
        try:
            urls, ca = [server.url for server in self.servers], self._tls.ca if self._tls else None
            async with connect(urls, name="pagekeeper-launcher", ca=ca) as connection:
                await ask(connection, "INFO", {}, deadline=now() + START_SECONDS_MAX)
        except (Unreachable, Refused) as error:
            raise StartFailed(f"the {self._size} NATS servers did not become a cluster: {error}") from error

    def _check_files(self) -> None:
        used = 1 if (self._directory / "jetstream").exists() else len(list(self._directory.glob("[0-9]")))
        if used not in {0, self._size}:
            raise StartFailed(
                f"{self._directory} has the files of {used} NATS server{'s' if used > 1 else ''}, not of {self._size}: "
                f"start with NATS={used}, or with another DATA_DIR"
            )
