"""Rows from measurements of one running stack."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import nats
from nats.aio.client import Client

from bench.baselines import measure_bare_append, measure_echo
from bench.measuring import (
    OPERATIONS_MIN,
    Measured,
    Operation,
    cpu_seconds,
    disk_bytes,
    machine,
    measure_for,
    rss_bytes,
)
from bench.scale.conversation import Conversation
from bench.scale.plan import SHARES, Plan
from bench.texts import Texts
from pagekeeper.client import Pagekeeper, connect
from pagekeeper.local.stack import LocalStack, Topology
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.runtime.log.subjects import WORK_STREAM

CALL_SECONDS: Final = 240.0
PREPARATION_SETTLES_SECONDS_MAX: Final = 30.0
AFTERMATH_SECONDS_MAX: Final = 5.0
"""How long the work that measured operations leave behind is waited for."""
STEP_SECONDS: Final = 0.4
"""Longer than work is gathered before it is queued: the outbox takes 0.25 s."""
QUIET_STEPS: Final = 2
QUIET_SHARE: Final = 0.05
"""Of a core, beyond what idle processes use."""
IDLE_SECONDS: Final = 2.0
WARM_UP_SESSIONS: Final = 6
BASELINE_OPERATIONS: Final = 500
BASELINE_BYTES: Final = 1024
BASELINE: Final = "baseline"


@dataclass(frozen=True, slots=True)
class Row:
    """An operation with a parameter at a value. `cpu_us` is that of all our processes and of NATS, an operation."""

    name: str
    parameter: str
    at: int
    cpu_us: float
    p50_ms: float
    p99_ms: float
    operations: int


@dataclass(frozen=True, slots=True)
class Size:
    """What the stack takes with a parameter at a value: memory of a service's processes, or disk of a server."""

    name: str
    parameter: str
    at: int
    bytes: int


class OutOfTime(Exception):
    """The time of the part is over: this point and those after it are left out."""


@dataclass(slots=True)
class Part:
    """What was measured of one parameter, and on what. `whole` says that there was time for all of it."""

    machine: dict[str, object]
    whole: bool = False
    rows: list[Row] = field(default_factory=list)
    sizes: list[Size] = field(default_factory=list)


class Results:
    """What was measured so far, by part, and until when the current part may go on."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.parts: dict[str, Part] = {}
        self.clock = SystemClock()
        self._ends = self.clock.monotonic() + plan.seconds
        self._part_ends = self._ends
        self._part = Part({})

    @property
    def rows(self) -> list[Row]:
        """Those of all parts, an operation's together."""
        rows = [row for part in self.parts.values() for row in part.rows]
        return sorted(rows, key=lambda row: (row.parameter != BASELINE, row.parameter, row.name, row.at))

    def begin_part(self, name: str, following: Sequence[str]) -> Part:
        """Give a part its share of the time that is left for itself and those that follow it."""
        shares = sum(SHARES[one] for one in (name, *following))
        now = self.clock.monotonic()
        self._part_ends = now + max(self._ends - now, 0.0) * SHARES[name] / shares
        self._part = self.parts[name] = Part(machine())
        return self._part

    def check_time(self) -> None:
        """Raises OutOfTime."""
        if self.clock.monotonic() > self._part_ends:
            raise OutOfTime

    @asynccontextmanager
    async def preparing(self) -> AsyncIterator[None]:
        """Give up what is done inside the block when the time of the part is over. Raises OutOfTime."""
        try:
            async with asyncio.timeout(self._part_ends - self.clock.monotonic()):
                yield
        except TimeoutError:
            raise OutOfTime from None

    def add(self, name: str, parameter: str, at: int, measured: Measured) -> None:
        row = Row(
            name=name,
            parameter=parameter,
            at=at,
            cpu_us=round(measured.cpu_us, 1),
            p50_ms=round(measured.p50_ms, 3),
            p99_ms=round(measured.p99_ms, 3),
            operations=measured.operations,
        )
        click.echo(f"  {name}, {parameter} {at:,}: {row.cpu_us:,.0f} us of CPU, p50 {row.p50_ms:.1f} ms", err=True)
        self._part.rows.append(row)

    def weighed(self, sizes: Iterable[Size]) -> None:
        self._part.sizes += sizes


class Meter:
    """Measures operations on one stack. `idle_share` is the share of a core that the stack uses when nobody asks."""

    def __init__(self, stack: LocalStack, results: Results, log: Client) -> None:
        self.stack = stack
        self.results = results
        self.idle_share = 0.0
        self._log = log

    @property
    def pids(self) -> list[int]:
        """Our processes and NATS; the object store is somebody else's."""
        servers = (*self.stack.processes.values(), *self.stack.nats_servers)
        return [server.pid for server in servers]

    async def settle(self, seconds_max: float = PREPARATION_SETTLES_SECONDS_MAX) -> float:
        """Wait until no background work is queued and the processes are about as idle as they can be, or so long.

        The answer is the seconds of CPU that were used meanwhile, beyond those of idle processes.
        """
        used, quiet_steps = 0.0, 0
        ends = self.results.clock.monotonic() + seconds_max
        while quiet_steps < QUIET_STEPS and self.results.clock.monotonic() < ends:
            cpu_before, began = cpu_seconds(self.pids), self.results.clock.monotonic()
            await asyncio.sleep(STEP_SECONDS)
            seconds = self.results.clock.monotonic() - began
            extra = cpu_seconds(self.pids) - cpu_before - self.idle_share * seconds
            used += max(extra, 0.0)
            quiet = extra <= QUIET_SHARE * seconds and await self._queued() == 0
            quiet_steps = quiet_steps + 1 if quiet else 0
        return used

    async def learn_idle_share(self) -> None:
        await self.settle(STEP_SECONDS * 8)
        before, began = cpu_seconds(self.pids), self.results.clock.monotonic()
        await asyncio.sleep(IDLE_SECONDS)
        self.idle_share = (cpu_seconds(self.pids) - before) / (self.results.clock.monotonic() - began)

    async def _queued(self) -> int:
        """Work items that no service has finished."""
        streams = await self._log.jetstream().streams_info()
        return sum(stream.state.messages for stream in streams if (stream.config.name or "").startswith(WORK_STREAM))

    async def measure(
        self,
        name: str,
        parameter: str,
        at: int,
        operation: Operation,
        *,
        operations_min: int = OPERATIONS_MIN,
        operations_max: int | None = None,
    ) -> None:
        """Add a row, of as many operations as the plan says if nothing else is said. Raises OutOfTime."""
        plan = self.results.plan
        self.results.check_time()
        measured = await measure_for(
            operation,
            seconds_max=plan.point_seconds,
            operations_max=operations_max or plan.operations_max,
            operations_min=operations_min,
            pids=self.pids,
            settle=partial(self.settle, AFTERMATH_SECONDS_MAX),
        )
        self.results.add(name, parameter, at, measured)

    def weigh(self, parameter: str, at: int) -> None:
        """Add the sizes of all processes and files."""
        memory: dict[str, int] = {}
        for name, process in self.stack.processes.items():
            service = f"memory of {name.rstrip('-0123456789')}"
            memory[service] = memory.get(service, 0) + rss_bytes(process.pid)
        memory["memory of nats"] = sum(rss_bytes(server.pid) for server in self.stack.nats_servers)
        disk = {
            "disk of nats": disk_bytes(self.stack.directory / "nats"),
            "disk of the object store": disk_bytes(self.stack.s3.directory),
        }
        self.results.weighed(Size(name, parameter, at, size) for name, size in {**memory, **disk}.items())


@asynccontextmanager
async def running(
    results: Results, *, replicas: Mapping[str, int] | None = None, nats_servers: int = 1
) -> AsyncIterator[tuple[Meter, Pagekeeper]]:
    """A new stack of five services, and a client of it. Raises OutOfTime before anything is started."""
    results.check_time()
    with TemporaryDirectory(prefix="pagekeeper-bench-") as directory:
        stack = LocalStack(Path(directory), Topology.FIVE, replicas=replicas or {}, nats_servers=nats_servers)
        async with stack, connect(stack.endpoint, stack.token("bench"), call_seconds=CALL_SECONDS) as pagekeeper:
            await warm_up(pagekeeper, max((replicas or {}).values(), default=1))
            log = await nats.connect([server.url for server in stack.nats_servers])
            try:
                meter = Meter(stack, results, log)
                await meter.learn_idle_share()
                yield meter, pagekeeper
            finally:
                await log.close()


async def warm_up(pagekeeper: Pagekeeper, replicas: int) -> None:
    """Let every process do everything once: several sessions for each replica, since sessions are spread by chance."""
    for number in range(WARM_UP_SESSIONS * replicas):
        conversation = await Conversation.open(pagekeeper, Texts(number))
        await conversation.grow(pages=4)
        await conversation.assemble_recall()
        await conversation.search()


async def measure_baselines(meter: Meter, replicas: int) -> None:
    """A bare echo, and a bare append to the stack's NATS, as `at` replicas."""
    echo = await measure_echo(BASELINE_BYTES, in_flight=1, operations=BASELINE_OPERATIONS)
    meter.results.add("echo", BASELINE, 1, echo)
    nats = [server.pid for server in meter.stack.nats_servers]
    urls = ",".join(server.url for server in meter.stack.nats_servers)
    bare = await measure_bare_append(urls, nats, in_flight=1, operations=BASELINE_OPERATIONS, replicas=replicas)
    meter.results.add("bare_append", BASELINE, replicas, bare)
