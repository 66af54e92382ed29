"""Real servers for tests, and a network between them and us that can be broken."""

import asyncio
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

USER, PASSWORD = "pagekeeper", "test"
START_TIMEOUT_SECONDS = 10.0

_CONFIGURATION = """
server_name: {name}
listen: "127.0.0.1:{port}"
{cluster}
max_payload: {max_payload}
jetstream {{ store_dir: "{directory}", sync_interval: {sync_interval}, max_file_store: 4GB }}
accounts {{
  PAGEKEEPER: {{
    jetstream: enabled
    users: [ {{ user: {user}, password: {password} }} ]
    imports: [ {imports} ]
  }}
  SYS: {{
    exports: [
      {{ service: "$SYS.REQ.SERVER.PING.JSZ", accounts: [PAGEKEEPER], response_type: stream }}
      {{ service: "$SYS.REQ.SERVER.PING.HEALTHZ", accounts: [PAGEKEEPER], response_type: stream }}
    ]
  }}
}}
system_account: SYS
"""
_IMPORT = """
      { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ" }, to: "pk.server.jetstream" }
      { service: { account: SYS, subject: "$SYS.REQ.SERVER.PING.HEALTHZ" }, to: "pk.server.health" }"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class NatsServer:
    """A nats-server on a port of its own, whose files outlive its processes."""

    def __init__(
        self,
        directory: Path,
        *,
        sync_interval: str = "always",
        max_payload: str = "1MB",
        answers_checks: bool = True,
        cluster: str = "",
    ) -> None:
        self.port = free_port()
        self.name = directory.name
        self._cluster = cluster
        self._directory = directory
        self._sync_interval = sync_interval
        self._max_payload = max_payload
        self._answers_checks = answers_checks
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """The address of this server as seen through a proxy on that port."""
        return f"nats://{USER}:{PASSWORD}@127.0.0.1:{port}"

    def start(self) -> None:
        configuration = self._directory / "nats.conf"
        configuration.write_text(
            _CONFIGURATION.format(
                name=self.name,
                port=self.port,
                cluster=self._cluster,
                directory=self._directory,
                sync_interval=self._sync_interval,
                max_payload=self._max_payload,
                user=USER,
                password=PASSWORD,
                imports=_IMPORT if self._answers_checks else "",
            )
        )
        binary = Path(sys.executable).with_name("nats-server")
        command = [str(binary) if binary.exists() else shutil.which("nats-server") or "nats-server"]
        self._process = subprocess.Popen(
            [*command, "-c", str(configuration), "-l", str(self._directory / "nats.log")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_until_ready()

    def kill(self) -> None:
        """SIGKILL: nothing is written, nobody is told."""
        self._end("kill")

    def stop(self) -> None:
        self._end("terminate")

    def _end(self, how: str) -> None:
        if self._process is not None:
            getattr(self._process, how)()
            self._process.wait(START_TIMEOUT_SECONDS)
            self._process = None

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS  # noqa: TID251 - waits for a process
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    probe.recv(1024)
                return
            except OSError:
                if time.monotonic() > deadline:  # noqa: TID251
                    raise
                time.sleep(0.01)


@contextmanager
def running(server: NatsServer) -> Iterator[NatsServer]:
    server.start()
    try:
        yield server
    finally:
        server.kill()


def nats_cluster(directory: Path, size: int) -> list[NatsServer]:
    """Servers that are one cluster when they run."""
    ports = [free_port() for _ in range(size)]
    routes = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in ports)
    servers = []
    for number, port in enumerate(ports):
        home = directory / f"n{number}"
        home.mkdir()
        cluster = f'cluster {{ name: test, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
        servers.append(NatsServer(home, cluster=cluster))
    return servers


class Proxy:
    """A TCP proxy in front of one port. What its switches say applies to bytes that arrive from then on."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.drop_answers = False
        """Swallow what the server sends: it does the work, and nobody hears of it."""
        self.drop_questions = False
        """Swallow what clients send."""
        self._target = target
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients: set[asyncio.StreamWriter] = set()

    def cut(self) -> None:
        """Break all connections, as a reset does."""
        for writer in self._writers:
            writer.transport.abort()

    def inject(self, line: bytes) -> None:
        """Send a line to every client as if the server had said it."""
        for writer in self._clients:
            writer.write(line)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Proxy"]:
        listener = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            self.cut()
            await listener.wait_closed()
            await asyncio.sleep(0)

    async def serve(self, client_reader: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        """Serve one connection, whichever listener took it."""
        try:
            server_reader, server = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            client.transport.abort()
            return
        self._writers |= {client, server}
        self._clients.add(client)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(client_reader, server, answers=False))
                tasks.create_task(self._pump(server_reader, client, answers=True))
        finally:
            self._writers -= {client, server}
            self._clients.discard(client)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, answers: bool) -> None:
        try:
            while chunk := await reader.read(65536):
                if self.drop_answers if answers else self.drop_questions:
                    continue
                writer.write(chunk)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()


async def eventually(happened: Callable[[], Awaitable[bool]], *, timeout_seconds: float = 20.0) -> None:
    """Wait for something that nobody will tell us of."""
    async with asyncio.timeout(timeout_seconds):
        while not await happened():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
