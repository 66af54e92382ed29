"""The service beside a bare echo of the same size and a bare durable append, in one run.

    python -m bench.service [--topology one|five|both] [--operations N] [--json FILE]

Every operation goes through the public gRPC API of a real stack: real NATS that syncs every append, a real object
store. The ratios are what counts; absolute figures are this machine's. Nothing is asserted: the table shows the target
beside each figure.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final
from uuid import uuid4

import click
import grpc
import nats
import uvloop
from rich.console import Console
from rich.table import Table

from bench.echo import METHOD
from bench.measuring import Measured, machine, measure
from demo.corpus.generate import DEFAULT_FILE
from demo.corpus.load import load_conversations
from pagekeeper.client import Pagekeeper, Session, assistant, connect, user
from pagekeeper.local.stack import LocalStack, Topology
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2

SEED: Final = 20261123
IN_FLIGHT: Final = (1, 16)
APPEND_BYTES: Final = 1024
PAGE_BYTES: Final = 4096
RESIDENT_PAGES: Final = 200
RESIDENT_PAGE_BYTES: Final = 2048
HOT_PAGES: Final = 48
FAULTS_PER_TURN: Final = 90


@dataclass(frozen=True, slots=True)
class Row:
    """One figure: an operation of one topology, beside what it is compared with."""

    operation: str
    topology: str
    measured: Measured
    baseline: str
    ratio_p50: float | None
    ratio_cpu: float | None
    must: str


@click.command()
@click.option("--topology", type=click.Choice(["one", "five", "both"]), default="both", show_default=True)
@click.option("--operations", type=click.IntRange(100), default=1000, show_default=True, help="Per figure.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write JSON here.")
def main(topology: str, operations: int, json_path: Path | None) -> None:
    """Measure the service and print a table."""
    topologies = ["one", "five"] if topology == "both" else [topology]
    measured_on = machine()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        rows = runner.run(_measure_all(topologies, operations))
    _print(rows)
    if json_path is not None:
        json_path.parent.mkdir(parents=True, exist_ok=True)
        written = {
            "unix_ms": SystemClock().now_ms(),
            "seed": SEED,
            "operations": operations,
            "machine": measured_on,
            "rows": [asdict(row) for row in rows],
        }
        json_path.write_text(json.dumps(written, indent=1) + "\n")


async def _measure_all(topologies: Sequence[str], operations: int) -> list[Row]:
    rows: list[Row] = []
    for topology in topologies:
        with TemporaryDirectory() as directory:
            async with (
                LocalStack(Path(directory), Topology(topology)) as stack,
                connect(stack.endpoint, stack.token("bench"), call_seconds=120) as pagekeeper,
            ):
                bench = _Bench(stack, pagekeeper, topology, operations)
                rows += await bench.run()
    return rows


class _Bench:
    def __init__(self, stack: LocalStack, pagekeeper: Pagekeeper, topology: str, operations: int) -> None:
        self._stack = stack
        self._pagekeeper = pagekeeper
        self._topology = topology
        self._operations = operations
        self._random = Random(SEED)
        self._prose = _prose()
        self._pids = _pids(stack)
        self._echoes: dict[tuple[int, int], Measured] = {}
        self._rows: list[Row] = []

    async def run(self) -> list[Row]:
        for in_flight in IN_FLIGHT:
            bare = await self._bare_append(in_flight)
            await self._append(in_flight, bare, pages=1, must="2 x (echo + append)")
            await self._append(in_flight, bare, pages=16, must="5,000 appends a core-second")
            await self._assemble(in_flight)
            await self._fault_hot(in_flight)
            await self._fault_cold(in_flight)
            await self._search(in_flight)
        return self._rows

    # Baselines

    async def _echo(self, size_bytes: int, in_flight: int) -> Measured:
        """A bare echo of that size, measured once for each size and concurrency."""
        key = (size_bytes, in_flight)
        if key not in self._echoes:
            async with _echo_server() as (channel, pid):
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
                payload = bytes(size_bytes)

                async def operation(_: int) -> None:
                    await call(payload)

                measured = await measure(operation, in_flight=in_flight, operations=self._operations, pids=[pid])
            self._echoes[key] = measured
            self._add(f"echo {size_bytes:,} B", measured, None, "")
        return self._echoes[key]

    async def _bare_append(self, in_flight: int) -> Measured:
        """What the same NATS needs for one conditional, synced append, without anything around it."""
        client = await nats.connect(self._stack.nats.url)
        try:
            stream = client.jetstream()
            name = f"BENCH_{uuid4().hex}"
            await stream.add_stream(name=name, subjects=[f"bench.{name}.>"])
            payload = bytes(APPEND_BYTES)

            async def operation(number: int) -> None:
                headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
                await stream.publish(f"bench.{name}.{number}", payload, headers=headers)

            measured = await measure(
                operation, in_flight=in_flight, operations=self._operations, pids=[self._stack.nats.pid]
            )
            await stream.delete_stream(name)
        finally:
            await client.close()
        self._add("bare append 1,024 B", measured, None, "")
        return measured

    # Operations

    async def _append(self, in_flight: int, bare: Measured, *, pages: int, must: str) -> None:
        sessions = [await self._pagekeeper.open_session() for _ in range(in_flight)]
        echo = await self._echo(APPEND_BYTES * pages, in_flight)

        async def operation(number: int) -> None:
            messages = [assistant(self._text(APPEND_BYTES)) for _ in range(pages)]
            await sessions[number % in_flight].append(*messages)

        measured = await measure(operation, in_flight=in_flight, operations=self._operations, pids=self._pids)
        base = echo.p50_ms + bare.p50_ms
        self._add(f"append, {pages} x 1,024 B", measured, ("echo + bare append", base, echo.cpu_us), must)

    async def _assemble(self, in_flight: int) -> None:
        session = await self._resident_session()
        size = (await session.assemble(user_input="How large is it?")).ByteSize()
        echo = await self._echo(size // 1024 * 1024, in_flight)

        async def unchanged(_: int) -> None:
            await session.assemble(user_input="What is there?")

        async def changed(number: int) -> None:
            await session.assemble(user_input=f"What is there, for the {number}th time?")

        measured = await measure(unchanged, in_flight=in_flight, operations=self._operations, pids=self._pids)
        self._add("assemble 400 KiB, the same again", measured, (f"echo {size:,} B", echo.p50_ms, echo.cpu_us), "4")
        measured = await measure(changed, in_flight=in_flight, operations=self._operations, pids=self._pids)
        self._add("assemble 400 KiB, another input", measured, (f"echo {size:,} B", echo.p50_ms, echo.cpu_us), "4")

    async def _fault_hot(self, in_flight: int) -> None:
        echo = await self._echo(PAGE_BYTES, in_flight)
        faulting = [await _Faulting.prepare(self, HOT_PAGES) for _ in range(in_flight)]
        for one in faulting:
            for number in range(HOT_PAGES):
                await one.fault(number)

        async def operation(number: int) -> None:
            await faulting[number % in_flight].fault(number // in_flight)

        measured = await measure(operation, in_flight=in_flight, operations=self._operations, pids=self._pids)
        must = "1.7" if self._topology == "one" else "6"
        self._add("fault 4 KiB, hot", measured, ("echo 4,096 B", echo.p50_ms, echo.cpu_us), must)

    async def _fault_cold(self, in_flight: int) -> None:
        """Every page is faulted once, after its bytes have moved to the object store and no cache has them."""
        echo = await self._echo(PAGE_BYTES, in_flight)
        operations = min(self._operations, 500)
        each = operations // in_flight + 8
        faulting = [await _Faulting.prepare(self, each, flushed=True) for _ in range(in_flight)]
        for process in self._stack.processes.values():
            await process.restart()
        self._pids = _pids(self._stack)
        for one in faulting:
            await one.session.stats()

        async def operation(number: int) -> None:
            await faulting[number % in_flight].fault(number // in_flight)

        measured = await measure(operation, in_flight=in_flight, operations=operations - 50, pids=self._pids)
        must = "5.5" if self._topology == "one" else "11"
        self._add("fault 4 KiB, from the object store", measured, ("echo 4,096 B", echo.p50_ms, echo.cpu_us), must)

    async def _search(self, in_flight: int) -> None:
        echo = await self._echo(APPEND_BYTES, in_flight)
        session = await self._resident_session()

        async def operation(_: int) -> None:
            await session.search(" ".join(self._random.sample(self._prose.split(), 3)))

        measured = await measure(operation, in_flight=in_flight, operations=self._operations, pids=self._pids)
        self._add("search 200 pages", measured, ("echo 1,024 B", echo.p50_ms, echo.cpu_us), "")

    # Preparation

    async def _resident_session(self) -> Session:
        session = await self._pagekeeper.open_session(max_l0_tokens=400_000)
        for start in range(0, RESIDENT_PAGES, 20):
            pages = [self._message(start + offset) for offset in range(20)]
            await session.append(*pages)
        return session

    def _message(self, number: int) -> page_pb2.PageInput:
        text = self._text(RESIDENT_PAGE_BYTES)
        return user(text) if number % 2 == 0 else assistant(text)

    async def open_small_session(self) -> Session:
        """A working set with room for a few of the pages that will be faulted in."""
        return await self._pagekeeper.open_session(
            max_l0_tokens=12_000,
            reserved_tokens=2_000,
            max_faults_per_turn=100,
            max_fault_tokens_per_turn=200_000,
            fault_protection_turns=1,
            pin_last_turns=1,
        )

    def _text(self, size_bytes: int) -> str:
        """A piece of the conversation that ships, which is what messages look like to a tokenizer."""
        start = self._random.randrange(len(self._prose) - size_bytes)
        return self._prose[start : start + size_bytes]

    def page(self, page_id: str) -> page_pb2.PageInput:
        return assistant(self._text(PAGE_BYTES), page_id=page_id)

    def _add(self, operation: str, measured: Measured, base: tuple[str, float, float] | None, must: str) -> None:
        click.echo(f"  {self._topology}: {operation} at {measured.in_flight}: {measured.p50_ms:.2f} ms", err=True)
        self._rows.append(
            Row(
                operation=operation,
                topology=self._topology,
                measured=measured,
                baseline=base[0] if base else "",
                ratio_p50=measured.p50_ms / base[1] if base else None,
                ratio_cpu=measured.cpu_us / base[2] if base and base[2] else None,
                must=must,
            )
        )


class _Faulting:
    """A session whose pages are faulted in one after the other, none of them resident when its turn comes."""

    def __init__(self, session: Session, pages: int) -> None:
        self.session = session
        self._pages = pages
        self._in_turn = FAULTS_PER_TURN
        self._lock = asyncio.Lock()

    @classmethod
    async def prepare(cls, bench: _Bench, pages: int, *, flushed: bool = False) -> "_Faulting":
        session = await bench.open_small_session()
        for start in range(0, pages, 16):
            await session.append(*[bench.page(f"p{number}") for number in range(start, min(start + 16, pages))])
        # Push the last of them out of the working set.
        for number in range(12):
            await session.append(bench.page(f"last{number}"))
        if flushed:
            await session.flush()
        return cls(session, pages)

    async def fault(self, number: int) -> pb.FaultPageResponse:
        """One measured call, but for a turn that begins every FAULTS_PER_TURN faults."""
        async with self._lock:
            if self._in_turn >= FAULTS_PER_TURN:
                self._in_turn = 0
                await self.session.begin_turn()
            self._in_turn += 1
        return await self.session.fault(f"p{number % self._pages}")


@asynccontextmanager
async def _echo_server() -> AsyncIterator[tuple[grpc.aio.Channel, int]]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.echo", "0", stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            await channel.channel_ready()
            yield channel, process.pid
    finally:
        process.terminate()
        await process.wait()


def _prose() -> str:
    """All messages of the conversation that ships, as ASCII, so that characters are bytes."""
    (conversation,) = load_conversations(DEFAULT_FILE)
    texts: list[str] = []
    for turn in conversation.turns:
        texts += [message.text for message in turn.question]
        texts += [message.text for message in turn.reply]
    return " ".join(texts).encode("ascii", "ignore").decode()


def _pids(stack: LocalStack) -> list[int]:
    return [process.pid for process in stack.processes.values()]


def _print(rows: Sequence[Row]) -> None:
    table = Table(
        "operation", "topology", "at", "p50 ms", "p99 ms", "a second", "CPU µs", "beside", "p50 x", "CPU x", "must"
    )
    for row in rows:
        measured = row.measured
        table.add_row(
            row.operation,
            row.topology,
            f"{measured.in_flight}",
            f"{measured.p50_ms:.2f}",
            f"{measured.p99_ms:.2f}",
            f"{measured.per_second:,.0f}",
            f"{measured.cpu_us:,.0f}",
            row.baseline,
            f"{row.ratio_p50:.1f}" if row.ratio_p50 is not None else "",
            f"{row.ratio_cpu:.1f}" if row.ratio_cpu is not None else "",
            row.must,
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
