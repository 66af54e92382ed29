"""A whole Pagekeeper on this machine: NATS, an S3 server, keys, and our processes: any number of each service.

Guarantee: when the block of a `LocalStack` is left, or its process ends in any way, none of its processes is left. Any
number of stacks may run at a time, each in a directory of its own.
"""

import asyncio
import fcntl
import os
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Never, Self, TypeVar

from pagekeeper.app.bus import init_log
from pagekeeper.local.certificates import Certificate, issue
from pagekeeper.local.child import PortTaken, StartFailed, all_of, stop_all
from pagekeeper.local.healing import HEAL_SECONDS, heal
from pagekeeper.local.nats_cluster import NatsCluster
from pagekeeper.local.ports import HOST, free_ports
from pagekeeper.local.processes import SERVE, Process
from pagekeeper.local.servers import PORT_CHOICES_MAX, NatsServer, make_private, s3_server, secret_in
from pagekeeper.local.sweeper import Sweeper
from pagekeeper.runtime.bearer_tokens import PUBLIC_AUDIENCE, mint_development_token
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.settings import InitSettings, load
from pagekeeper.runtime.token_keys import KeyFile

GATEWAY: Final = "gateway"
ALL: Final = "all"
INTERNAL_SERVICES: Final = MappingProxyType(
    {
        "page-table": "PK_PAGE_TABLE",
        "working-set": "PK_WORKING_SET",
        "fault-handler": "PK_FAULT_HANDLER",
        "artifact-storage": "PK_ARTIFACT_STORAGE",
    }
)
"""Each with the variable that tells the others where it is."""

BUCKET: Final = "pagekeeper-hot"
PARTITIONS: Final = 4
PARTITION_BYTES_MAX: Final = 512 * 1024**2
"""The log reserves its room when it is made: 2 GiB with four partitions fit on any laptop."""

LOG_REPLICAS: Final = 3
"""Servers that keep each append, on a cluster of NATS servers."""

WATCH_SECONDS: Final = 0.5

TENANT: Final = "local"
SUBJECT: Final = "developer"

T = TypeVar("T")


class Topology(StrEnum):
    """How our services are divided into processes: a process a service, or one that holds all of them."""

    FIVE = "five"
    ONE = "one"

    @property
    def services(self) -> tuple[str, ...]:
        """The names of the processes; each may run several times."""
        return (ALL,) if self is Topology.ONE else (*INTERNAL_SERVICES, GATEWAY)


class LocalStack:
    """Everything, running inside `async with`, with its files in `directory`.

    A stack may go on with the directory of an earlier one, whatever ended that. `settings` are further variables for
    our processes; `serve` is the command that becomes one of them when the name of a service is added to it. `replicas`
    says how many processes a service has, 1 where it says nothing; `nats_servers` is the size of the NATS cluster.
    With `tls`, everything speaks TLS to everything, with certificates of an authority of this start (`ca`). Entering
    raises StartFailed, and leaves nothing running.
    """

    def __init__(
        self,
        directory: Path,
        topology: Topology = Topology.FIVE,
        settings: Mapping[str, str] = MappingProxyType({}),
        serve: Sequence[str] = SERVE,
        *,
        replicas: Mapping[str, int] = MappingProxyType({}),
        nats_servers: int = 1,
        tls: bool = False,
    ) -> None:
        self.directory = directory.absolute()
        self.topology = topology
        self._settings = settings
        self._serve = serve
        self._replicas = {service: replicas.get(service, 1) for service in topology.services}
        self._sweeper = Sweeper()
        self._addresses: dict[str, list[str]] = {}
        self._opened = AsyncExitStack()
        self._nats_servers = nats_servers
        self._certificate = Certificate.in_directory(self.directory / "tls") if tls else None
        self._of_servers = Certificate.in_directory(self.directory / "tls-of-servers") if tls else None
        self._cluster = NatsCluster(self.directory / "nats", nats_servers, self._of_servers)
        self.s3 = s3_server(self.directory / "s3", self._sweeper, self._of_servers)
        self.processes: dict[str, Process] = {}
        """By the name of the service, or `all`; the second replica is `gateway-2`. None before the stack is entered."""

    @property
    def nats(self) -> NatsServer:
        """The NATS server, the first of a cluster. A cluster has servers once the stack is entered."""
        return self._cluster.servers[0]

    @property
    def nats_servers(self) -> tuple[NatsServer, ...]:
        """All NATS servers."""
        return self._cluster.servers

    @property
    def endpoint(self) -> str:
        """`host:port` of the public API; several with commas between when there are several gateways."""
        return ",".join(self._addresses[self.topology.services[-1]])

    @property
    def ca(self) -> Path | None:
        """The file of the authority that callers have to believe; None without TLS."""
        return self._certificate.ca if self._certificate else None

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings of every Pagekeeper process, besides its own PK_LISTEN."""
        addresses = {
            variable: ",".join(self._addresses[name])
            for name, variable in INTERNAL_SERVICES.items()
            if name in self._addresses
        }
        return {
            "PK_NATS_URL": self._cluster.url,
            "PK_LOG_PARTITIONS": str(PARTITIONS),
            "PK_LOG_BYTES_MAX": str(PARTITION_BYTES_MAX),
            "PK_S3_ENDPOINT": self.s3.endpoint,
            "PK_S3_ACCESS_KEY": self.s3.access_key,
            "PK_S3_SECRET_KEY": self.s3.secret_key,
            "PK_S3_BUCKET": BUCKET,
            "PK_S3_SECURE": "false",
            "PK_REFLECTION": "true",
            "PK_TOKEN_KEY": str(self._token_key),
            "PK_TOKEN_AUDIENCE": PUBLIC_AUDIENCE,
            "PK_INTERNAL_KEY": str(self._internal_key),
            **({"PK_LOG_REPLICAS": str(LOG_REPLICAS)} if self._nats_servers > 1 else {}),
            **addresses,
            **self._tls_environment,
            **self._settings,
        }

    @property
    def _tls_environment(self) -> dict[str, str]:
        if self._certificate is None or self._of_servers is None:
            return {}
        ca, ca_of_servers = str(self._certificate.ca), str(self._of_servers.ca)
        own = {"PK_TLS_CERTIFICATE": str(self._certificate.certificate), "PK_TLS_KEY": str(self._certificate.key)}
        return {**own, "PK_TLS_CA": ca, "PK_NATS_CA": ca_of_servers, "PK_S3_CA": ca_of_servers, "PK_S3_SECURE": "true"}

    def token(self, tenant: str = TENANT, subject: str = SUBJECT) -> str:
        """Return a token for callers of this stack, without the word Bearer. Raises InvalidField."""
        clock = SystemClock()
        return mint_development_token(KeyFile(self._token_key, clock), clock, tenant, subject, PUBLIC_AUDIENCE)

    async def watch(self) -> Never:
        """Wait until something of the stack has ended that should run. Raises ChildFailed, which says what.

        A NATS server whose disk was full is started again meanwhile, when there is space.
        """
        clock = SystemClock()
        healed_at = clock.monotonic()
        while True:
            for child in (*self.nats_servers, self.s3, *self.processes.values()):
                if not child.running:
                    raise child.failure()
            if self._nats_servers == 1 and clock.monotonic() - healed_at > HEAL_SECONDS:
                await heal(self.nats)
                healed_at = clock.monotonic()
            await asyncio.sleep(WATCH_SECONDS)

    async def watched(self, work: Coroutine[Any, Any, T]) -> T:
        """Do some work while everything runs. Raises what it raises; ChildFailed as soon as something has ended."""
        try:
            async with asyncio.TaskGroup() as group:
                watcher = group.create_task(self.watch())
                done = await work
                watcher.cancel()
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return done

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opened:
            make_private(self.directory)
            opened.enter_context(_locked(self.directory / "lock"))
            opened.enter_context(self._sweeper)
            for path in (self._token_key, self._internal_key):
                secret_in(path)
            for certificate in filter(None, (self._certificate, self._of_servers)):
                issue(certificate.ca.parent)
            opened.push_async_callback(self._stop_servers)
            await all_of((self._cluster.start(), self.s3.start()))
            opened.push_async_callback(self._stop_processes)
            await self._make_log()
            await self._start_processes()
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def _make_log(self) -> None:
        try:
            await init_log(load(InitSettings, {**os.environ, **self.environment}))
        except CannotStart as refusal:
            raise StartFailed(str(refusal)) from None

    async def _start_processes(self) -> None:
        names = [
            (service, service if number == 1 else f"{service}-{number}")
            for service, count in self._replicas.items()
            for number in range(1, count + 1)
        ]
        logs = self.directory / "logs"
        logs.mkdir(exist_ok=True)
        for choices_left in reversed(range(PORT_CHOICES_MAX)):
            placed = list(zip(names, free_ports(len(names)), strict=True))
            self._addresses = {service: [] for service in self._replicas}
            for (service, _), port in placed:
                self._addresses[service].append(f"{HOST}:{port}")
            environment = self.environment
            self.processes = {
                name: Process(name, (*self._serve, service), {**environment, "PK_LISTEN": f"{HOST}:{port}"}, logs, port)
                for (service, name), port in placed
            }
            try:
                # Each is told where the others are, so one port that is taken concerns them all.
                await all_of(process.start() for process in self.processes.values())
            except PortTaken:
                await self._stop_processes()
                if not choices_left:
                    raise
            else:
                return

    async def _stop_processes(self) -> None:
        await stop_all(self.processes.values())

    async def _stop_servers(self) -> None:
        await stop_all((*self.nats_servers, self.s3))

    @property
    def _token_key(self) -> Path:
        return self.directory / "token-key"

    @property
    def _internal_key(self) -> Path:
        return self.directory / "internal-key"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a directory for one launcher. Raises StartFailed when another one has it."""
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StartFailed(f"another launcher runs in {path.parent}") from None
        yield
