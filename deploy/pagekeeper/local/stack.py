"""A whole Pagekeeper on this machine: NATS, an S3 server, keys, and our processes, five or one.

Guarantee: when the block of a `LocalStack` is left, or its process ends in any way, none of its processes is left. Any
number of stacks may run at a time, each in a directory of its own.
"""

import asyncio
import fcntl
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Never, Self, TypeVar

from pagekeeper.local.child import Child, PortTaken, StartFailed
from pagekeeper.local.ports import HOST, free_ports
from pagekeeper.local.processes import SERVE, Process
from pagekeeper.local.servers import PORT_CHOICES_MAX, NatsServer, s3_server, secret_in
from pagekeeper.local.sweeper import Sweeper
from pagekeeper.runtime.bearer_tokens import PUBLIC_AUDIENCE, mint_development_token
from pagekeeper.runtime.clock import SystemClock
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

WATCH_SECONDS: Final = 0.5

TENANT: Final = "local"
SUBJECT: Final = "developer"

T = TypeVar("T")


class Topology(StrEnum):
    """How many processes our services run in."""

    FIVE = "five"
    ONE = "one"


class LocalStack:
    """Everything, running inside `async with`, with its files in `directory`.

    A stack may go on with the directory of an earlier one, whatever ended that. `settings` are further variables for
    our processes; `serve` is the command that becomes one of them when the name of a service is added to it. Entering
    raises StartFailed, and leaves nothing running.
    """

    def __init__(
        self,
        directory: Path,
        topology: Topology = Topology.FIVE,
        settings: Mapping[str, str] = MappingProxyType({}),
        serve: Sequence[str] = SERVE,
    ) -> None:
        self.directory = directory.absolute()
        self.topology = topology
        self._settings = settings
        self._serve = serve
        self._sweeper = Sweeper()
        self._ports: dict[str, int] = {}
        self._opened = AsyncExitStack()
        self.nats = NatsServer(self.directory / "nats")
        self.s3 = s3_server(self.directory / "s3", self._sweeper)
        self.processes: dict[str, Process] = {}
        """By the name of the service, or `all`; none before the stack is entered."""

    @property
    def endpoint(self) -> str:
        """`host:port` of the public API."""
        return self.processes[GATEWAY if self.topology is Topology.FIVE else ALL].address

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings of every Pagekeeper process, besides its own PK_LISTEN."""
        addresses = {
            variable: f"{HOST}:{self._ports[name]}"
            for name, variable in INTERNAL_SERVICES.items()
            if name in self._ports
        }
        return {
            "PK_NATS_URL": self.nats.url,
            "PK_LOG_PARTITIONS": str(PARTITIONS),
            "PK_LOG_BYTES_MAX": str(PARTITION_BYTES_MAX),
            "PK_S3_ENDPOINT": self.s3.endpoint,
            "PK_S3_ACCESS_KEY": self.s3.access_key,
            "PK_S3_SECRET_KEY": self.s3.secret_key,
            "PK_S3_BUCKET": BUCKET,
            "PK_S3_SECURE": "false",
            "PK_TOKEN_KEY": str(self._token_key),
            "PK_TOKEN_AUDIENCE": PUBLIC_AUDIENCE,
            "PK_INTERNAL_KEY": str(self._internal_key),
            **addresses,
            **self._settings,
        }

    def token(self, tenant: str = TENANT, subject: str = SUBJECT) -> str:
        """Return a token for callers of this stack, without the word Bearer. Raises InvalidField."""
        clock = SystemClock()
        return mint_development_token(KeyFile(self._token_key, clock), clock, tenant, subject, PUBLIC_AUDIENCE)

    async def watch(self) -> Never:
        """Wait until something of the stack has ended that should run. Raises ChildFailed, which says what."""
        while True:
            for child in (self.nats, self.s3, *self.processes.values()):
                if not child.running:
                    raise child.failure()
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
            self.directory.mkdir(parents=True, exist_ok=True)
            opened.enter_context(_locked(self.directory / "lock"))
            opened.enter_context(self._sweeper)
            for path in (self._token_key, self._internal_key):
                secret_in(path)
            servers = (self.nats, self.s3)
            opened.push_async_callback(_stop, servers)
            await _all_of(server.start() for server in servers)
            opened.push_async_callback(self._stop_processes)
            await self._start_processes()
            self._opened = opened.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._opened.aclose()

    async def _start_processes(self) -> None:
        names = (ALL,) if self.topology is Topology.ONE else (*INTERNAL_SERVICES, GATEWAY)
        logs = self.directory / "logs"
        logs.mkdir(exist_ok=True)
        for choices_left in reversed(range(PORT_CHOICES_MAX)):
            self._ports = dict(zip(names, free_ports(len(names)), strict=True))
            environment = self.environment
            self.processes = {
                name: Process(name, (*self._serve, name), {**environment, "PK_LISTEN": f"{HOST}:{port}"}, logs, port)
                for name, port in self._ports.items()
            }
            try:
                # Each is told where the others are, so one port that is taken concerns them all.
                await _all_of(process.start() for process in self.processes.values())
            except PortTaken:
                await self._stop_processes()
                if not choices_left:
                    raise
            else:
                return

    async def _stop_processes(self) -> None:
        await _stop(self.processes.values())

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


async def _stop(children: Iterable[Child]) -> None:
    children = list(children)
    try:
        await _all_of(child.stop() for child in children)
    finally:
        for child in children:
            child.kill()


async def _all_of(steps: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Take steps side by side. When one fails the others are cancelled, and what it raised is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for step in steps:
                group.create_task(step)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
