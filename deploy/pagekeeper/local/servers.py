"""The servers that Pagekeeper stands on: NATS with JetStream, and an S3 server.

Both keep what they acknowledge through SIGKILL and through a power cut. NATS syncs every write because of
`sync_interval: always`, MinIO by itself. SeaweedFS needs two settings: syncing the volumes that hold the bytes, and
keeping names in SQLite, which syncs, instead of SeaweedFS' own store, which does not. SeaweedFS never syncs its volume
indexes; after anything but an orderly stop the launcher removes the indexes, and SeaweedFS makes them anew from the
volumes.
"""

import asyncio
import http.client
import json
import os
import secrets
import shutil
import ssl
import sys
from abc import abstractmethod
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final

from pagekeeper.local.certificates import Certificate, issue
from pagekeeper.local.child import Child, PortTaken, StartFailed
from pagekeeper.local.ports import HOST, free_ports
from pagekeeper.local.sweeper import Sweeper

START_SECONDS_MAX: Final = 60.0
STOP_SECONDS_MAX: Final = 5.0
PORT_CHOICES_MAX: Final = 5
PROBE_SECONDS_MAX: Final = 1.0

USER: Final = "pagekeeper"

_NATS_CONFIGURATION: Final = """\
server_name: {name}
listen: "{host}:{port}"
{cluster}{tls}max_payload: 1MB
jetstream {{ store_dir: {directory}, sync_interval: always }}
accounts {{
  PAGEKEEPER: {{
    jetstream: enabled
    users: [ {{ user: {user}, password: {password} }} ]
    # Lets services ask whether every write is synced and which streams are not written to, and nothing else.
    imports: [
      {{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.PING.JSZ" }}, to: "pk.server.jetstream" }}
      {{ service: {{ account: SYS, subject: "$SYS.REQ.SERVER.PING.HEALTHZ" }}, to: "pk.server.health" }}
    ]
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


class Server(Child):
    """A server on ports of its own, chosen at its first start and kept from then on.

    `directory` holds its files, its credentials and its log, and outlives it; another server may go on with it later.
    """

    def __init__(self, name: str, directory: Path, port_count: int) -> None:
        self.directory = directory.absolute()
        super().__init__(name, self.directory / "server.log", stop_seconds_max=STOP_SECONDS_MAX)
        self._port_count = port_count
        self._ports: list[int] = []

    @property
    def port(self) -> int:
        """Where clients connect."""
        return self._ports[0]

    async def start(self) -> None:
        """Start, and return when clients are served. Raises StartFailed, and then it does not run."""
        make_private(self.directory)
        if self._ports:
            await self._start_on(self._ports)
            return
        for choices_left in reversed(range(PORT_CHOICES_MAX)):
            ports = free_ports(self._port_count)
            try:
                await self._start_on(ports)
            except PortTaken:
                if not choices_left:
                    raise
            else:
                self._ports = ports
                return

    @abstractmethod
    async def _start_on(self, ports: Sequence[int]) -> None:
        """Start and wait until clients are served. Raises PortTaken, StartFailed."""


class NatsServer(Server):
    """nats-server with JetStream, every write synced, and one account for the platform."""

    def __init__(self, directory: Path, name: str = "nats-server", tls: Certificate | None = None) -> None:
        """`tls` is what clients are shown, when they have to use TLS."""
        super().__init__(name, directory, port_count=1)
        self._tls = tls

    @property
    def url(self) -> str:
        """With the user and the password."""
        return f"{'tls' if self._tls else 'nats'}://{USER}:{self._password()}@{HOST}:{self.port}"

    async def version(self) -> str:
        """Return the version of the server, such as 2.15.1."""
        greeting = await _greeting(self.port)
        return str(json.loads(greeting.removeprefix(b"INFO "))["version"])

    async def _start_on(self, ports: Sequence[int]) -> None:
        port = ports[0]
        password = self._password()
        configuration = self.directory / "nats.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            _NATS_CONFIGURATION.format(
                name=self.name,
                host=HOST,
                port=port,
                cluster=self._cluster_block(password),
                tls=self._tls_block(),
                directory=json.dumps(str(self.directory)),
                user=USER,
                password=json.dumps(password),
            )
        )

        async def ready() -> bool:
            return b'"jetstream":true' in await _greeting(port)

        await self._run(
            [_program("nats-server"), "--config", str(configuration)],
            {},
            self.directory,
            ready=ready,
            timeout_seconds=START_SECONDS_MAX,
            ports=ports,
        )

    def _cluster_block(self, _: str) -> str:
        """The part of the configuration about other servers: nothing, since the server is alone."""
        return ""

    def _tls_block(self) -> str:
        """The part of the configuration about TLS of clients: nothing without it."""
        if self._tls is None:
            return ""
        certificate, key = json.dumps(str(self._tls.certificate)), json.dumps(str(self._tls.key))
        return f"tls {{ cert_file: {certificate}, key_file: {key}, timeout: 5 }}\n"

    def _password(self) -> str:
        return secret_in(self.directory / "password")


class S3Server(Server):
    """An S3 server with one user, who may do everything."""

    @property
    def endpoint(self) -> str:
        """`host:port`, without TLS."""
        return f"{HOST}:{self.port}"

    @property
    def access_key(self) -> str:
        return USER

    @property
    def secret_key(self) -> str:
        return secret_in(self.directory / "secret-key")


class MinioServer(S3Server):
    """MinIO on one directory."""

    def __init__(self, directory: Path) -> None:
        super().__init__("minio", directory, port_count=1)

    async def _start_on(self, ports: Sequence[int]) -> None:
        [port] = ports

        async def ready() -> bool:
            return await _status(port, "GET", "/minio/health/live") == HTTPStatus.OK

        await self._run(
            [_program("minio"), "server", "--quiet", "--address", f"{HOST}:{port}", str(self.directory / "objects")],
            {
                "HOME": str(self.directory),
                "MINIO_ROOT_USER": self.access_key,
                "MINIO_ROOT_PASSWORD": self.secret_key,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
            self.directory,
            ready=ready,
            timeout_seconds=START_SECONDS_MAX,
            ports=ports,
        )


class SeaweedServer(S3Server):
    """SeaweedFS, all of its parts in one process, with every acknowledged object on disk."""

    _PORTS: Final = (
        "s3.port",
        "s3.port.grpc",
        "filer.port",
        "filer.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "master.port",
        "master.port.grpc",
        "admin.port",
        "admin.port.grpc",
    )
    _OPTIONS: Final = (
        f"-ip={HOST}",
        f"-ip.bind={HOST}",
        "-master.telemetry=false",
        "-admin.ui=false",
        "-webdav=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        "-volume.preStopSeconds=0",
    )
    _SERVED_OVER_GRPC: Final = ("master", "volume", "filer", "s3", "admin", "worker", "client")
    _SERVED_OVER_HTTP: Final = ("master", "volume", "filer", "admin", "client")
    _NAMES_IN_SQLITE: Final = '[sqlite]\nenabled = true\ndbFile = "names.db"\n'
    _SYNC_EVERY_WRITE: Final = b'{"locations": [{"locationPrefix": "/", "fsync": true}]}'

    def __init__(self, directory: Path, sweeper: Sweeper, tls: Certificate | None = None) -> None:
        """`sweeper` removes the sockets that it leaves in /tmp; `tls` is what clients are shown when they use TLS."""
        super().__init__("seaweedfs", directory, port_count=len(self._PORTS))
        self._tls = tls
        self._sweeper = sweeper

    async def stop(self) -> bool:
        """Send SIGTERM and, if it takes too long, SIGKILL. Return whether it ended by itself, with status 0."""
        in_order = await super().stop()
        if in_order:
            self._ended_in_order.touch()
        return in_order

    @property
    def _ended_in_order(self) -> Path:
        return self.directory / "ended-in-order"

    async def _start_on(self, ports: Sequence[int]) -> None:
        by_option = dict(zip(self._PORTS, ports, strict=True))
        volumes = self.directory / "volumes"
        volumes.mkdir(exist_ok=True)
        if not self._ended_in_order.exists():
            for index in volumes.glob("*.idx"):
                index.unlink()
        self._ended_in_order.unlink(missing_ok=True)
        (self.directory / "filer.toml").write_text(self._NAMES_IN_SQLITE)
        certificate = issue(self.directory / "tls")
        (self.directory / "security.toml").write_text(self._security(certificate))
        own = certificate.client_context()
        for option, port in by_option.items():
            socket = option.replace(".port.", "-").removesuffix(".port")
            self._sweeper.remove_at_end(Path(f"/tmp/seaweedfs-{socket}-{port}.sock"))  # noqa: S108 - its choice
        options = [f"-{option}={port}" for option, port in by_option.items()]
        if self._tls is not None:
            options += [f"-s3.cert.file={self._tls.certificate}", f"-s3.key.file={self._tls.key}"]
        as_clients = self._tls.client_context() if self._tls else None

        async def ready() -> bool:
            # In this order: nobody can store anything before syncing is on.
            filer, s3 = by_option["filer.port"], by_option["s3.port"]
            stored = await _status(filer, "PUT", "/etc/seaweedfs/filer.conf", self._SYNC_EVERY_WRITE, own)
            return (
                stored == HTTPStatus.CREATED and await _status(s3, "GET", "/healthz", tls=as_clients) == HTTPStatus.OK
            )

        await self._run(
            [_program("weed"), "-logtostderr", "mini", f"-dir={volumes}", *self._OPTIONS, *options],
            {
                "HOME": str(self.directory),
                "AWS_ACCESS_KEY_ID": self.access_key,
                "AWS_SECRET_ACCESS_KEY": self.secret_key,
            },
            self.directory,
            ready=ready,
            timeout_seconds=START_SECONDS_MAX,
            ports=ports,
        )

    def _security(self, certificate: Certificate) -> str:
        """The configuration of SeaweedFS' ports but S3's, which asks for credentials itself.

        Each takes callers that show a certificate of the authority of this start, and no others: nobody else on this
        machine reads objects around S3, from the filer or the volumes.
        """
        pair = f"cert = {json.dumps(str(certificate.certificate))}\nkey = {json.dumps(str(certificate.key))}\n"
        ca = f"ca = {json.dumps(str(certificate.ca))}\n"
        return "".join(
            [
                f"[grpc]\n{ca}",
                *(f"[grpc.{part}]\n{pair}" for part in self._SERVED_OVER_GRPC),
                *(f"[https.{part}]\n{pair}{ca}" for part in self._SERVED_OVER_HTTP),
                "enabled = true\n",  # of the last part, client
            ]
        )


def s3_server(directory: Path, sweeper: Sweeper, tls: Certificate | None = None) -> S3Server:
    """MinIO when it is on the PATH, else SeaweedFS. With TLS always SeaweedFS."""
    if tls is None and shutil.which("minio"):
        return MinioServer(directory)
    return SeaweedServer(directory, sweeper, tls)


def make_private(directory: Path) -> None:
    """Keep a directory, made now or earlier, from all other users. Raises StartFailed for one of another user."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        directory.chmod(0o700)
    except PermissionError:
        raise StartFailed(f"{directory} belongs to another user; DATA_DIR must be a directory of your own") from None


def secret_in(path: Path) -> str:
    """Return the secret in a file that only its owner may read; make one when there is no file."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    return path.read_text()


def _program(name: str) -> str:
    """Find a program that a wheel put beside this Python, or one on the PATH."""
    beside = Path(sys.executable).with_name(name)
    found = beside if beside.exists() else shutil.which(name)
    if found is None:
        raise StartFailed(f"{name} is not installed; the extra `local` of pagekeeper brings it")
    return str(found)


async def _greeting(port: int) -> bytes:
    """The first line that a server says to whoever connects; empty when it does not listen yet."""
    try:
        async with asyncio.timeout(PROBE_SECONDS_MAX):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                return await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return b""


async def _status(port: int, method: str, path: str, body: bytes = b"", tls: ssl.SSLContext | None = None) -> int:
    """The status that an HTTP request is answered with, over TLS when it is given; 0 when it is not answered."""

    def ask() -> int:
        if tls is None:
            connection = http.client.HTTPConnection(HOST, port, timeout=PROBE_SECONDS_MAX)
        else:
            connection = http.client.HTTPSConnection(HOST, port, timeout=PROBE_SECONDS_MAX, context=tls)
        try:
            connection.request(method, path, body)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()

    return await asyncio.to_thread(ask)
