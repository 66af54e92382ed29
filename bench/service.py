"""The service beside a bare echo of the same size and a bare durable append, in one run.

    python -m bench.service [--topology one|five|both] [--operations N] [--json FILE]

Every operation goes through the public gRPC API of a real stack: real NATS that syncs every append, a real object
store. The ratios are what counts; absolute figures are this machine's. Nothing is asserted: the table shows the target
beside each figure.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
import uvloop
from rich.console import Console
from rich.table import Table

from bench.baselines import APPEND_BYTES, measure_bare_append, measure_echo
from bench.measuring import Measured, Operation, machine, measure
from bench.scale.conversation import BUDGET_TOKENS, Conversation
from bench.scale.plan import FIRST_TURN
from bench.texts import Texts
from pagekeeper.client import Pagekeeper, Session, assistant, connect, user
from pagekeeper.local.stack import LocalStack, Topology
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2

SEED: Final = 20261123
IN_FLIGHT: Final = (1, 16)
PAGE_BYTES: Final = 4096
RESIDENT_PAGES: Final = 200
RESIDENT_PAGE_BYTES: Final = 2048
HOT_PAGES: Final = 48
FAULTS_PER_TURN: Final = 90
CALLS_OF_AN_AGENT: Final = 200
LONG_PAGES: Final = 10_000


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
    pages_core_second: float | None
    """Pages appended in a second of CPU of our processes and NATS."""


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
        self._texts = Texts(SEED)
        self._pids = _pids(stack)
        self._echoes: dict[tuple[int, int], Measured] = {}
        self._rows: list[Row] = []

    async def run(self) -> list[Row]:
        for in_flight in IN_FLIGHT:
            bare = await self._bare_append(in_flight)
            await self._turn(in_flight, bare)
            await self._agent_turn(in_flight, bare)
            for in_turns in (False, True):
                await self._append(in_flight, bare, pages=1, in_turns=in_turns)
                await self._append(in_flight, bare, pages=16, in_turns=in_turns)
            await self._assemble(in_flight)
            await self._fault_resident(in_flight)
            await self._fault_hot(in_flight, bare)
            await self._fault_cold(in_flight)
            await self._search(in_flight)
        await self._search_long()
        return self._rows

    # Baselines

    async def _echo(self, size_bytes: int, in_flight: int) -> Measured:
        """A bare echo of that size, measured once for each size and concurrency."""
        key = (size_bytes, in_flight)
        if key not in self._echoes:
            measured = await measure_echo(size_bytes, in_flight=in_flight, operations=self._operations)
            self._echoes[key] = measured
            self._add(f"echo {size_bytes:,} B", measured, None, "")
        return self._echoes[key]

    async def _bare_append(self, in_flight: int) -> Measured:
        """What the same NATS needs for one conditional, synced append, without anything around it."""
        measured = await measure_bare_append(
            self._stack.nats.url, [self._stack.nats.pid], in_flight=in_flight, operations=self._operations
        )
        self._add("bare append 1,024 B", measured, None, "")
        return measured

    # Operations

    async def _turn(self, in_flight: int, bare: Measured) -> None:
        """A message of the user, its prompt of 32K, and a model's answer, beside three echoes and two bare appends."""
        echo = await self._echo(APPEND_BYTES, in_flight)
        talks = [await Conversation.open(self._pagekeeper, self._texts) for _ in range(in_flight)]
        for talk in talks:
            await talk.grow(turns=FIRST_TURN)

        async def operation(number: int) -> None:
            await talks[number % in_flight].turn()

        measured = await self._measured(operation, in_flight)
        base = 3 * echo.p50_ms + 2 * bare.p50_ms, 3 * echo.cpu_us + 2 * bare.cpu_us
        must = f"CPU {4 if self._topology == 'one' else 8}, p99 5 x p50"
        self._add("a turn, from turn 100", measured, ("3 echoes + 2 bare appends", *base), must)

    async def _agent_turn(self, in_flight: int, bare: Measured) -> None:
        """A tool's result and the prompt after it, beside two echoes and a bare append: 200 of them in one turn."""
        echo = await self._echo(APPEND_BYTES, in_flight)
        talks = [await Conversation.open(self._pagekeeper, self._texts) for _ in range(in_flight)]

        async def operation(number: int) -> None:
            talk = talks[number % in_flight]
            if number // in_flight % CALLS_OF_AN_AGENT == 0:
                await talk.session.append(self._texts.question())
            await talk.session.append(self._texts.result())
            await talk.session.assemble(budget_tokens=BUDGET_TOKENS)

        measured = await self._measured(operation, in_flight)
        base = 2 * echo.p50_ms + bare.p50_ms, 2 * echo.cpu_us + bare.cpu_us
        self._add("a call of an agent's turn", measured, ("2 echoes + bare append", *base), "")

    async def _append(self, in_flight: int, bare: Measured, *, pages: int, in_turns: bool) -> None:
        """Pages of 1 KiB: a user's and a model's in turn, or all of them in one turn of an agent."""
        sessions = [await self._pagekeeper.open_session() for _ in range(in_flight)]
        echo = await self._echo(APPEND_BYTES * pages, in_flight)

        async def operation(number: int) -> None:
            first = number // in_flight * pages
            speakers = [user if in_turns and (first + offset) % 2 == 0 else assistant for offset in range(pages)]
            messages = [speaker(self._texts.piece(APPEND_BYTES)) for speaker in speakers]
            await sessions[number % in_flight].append(*messages)

        measured = await self._measured(operation, in_flight)
        base = echo.p50_ms + bare.p50_ms, echo.cpu_us + bare.cpu_us
        must = f"{1_000 if pages == 1 else 5_000:,} pages a core-second" + (", p50 2" if pages == 1 else "")
        where = "in turns" if in_turns else "in one turn"
        name = f"append, {pages} x 1,024 B, {where}"
        self._add(name, measured, ("echo + bare append", *base), must, pages=pages)

    async def _measured(self, operation: Operation, in_flight: int) -> Measured:
        """With the CPU of our processes and of NATS."""
        pids = [*self._pids, self._stack.nats.pid]
        return await measure(operation, in_flight=in_flight, operations=self._operations, pids=pids)

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
        if in_flight == 1:
            await self._assemble_changed(session, f"echo {size:,} B", echo)

    async def _assemble_changed(self, session: Session, baseline: str, echo: Measured) -> None:
        """A prompt after a resident page was said anew, which is not part of the time."""
        await session.append(user(self._texts.piece(RESIDENT_PAGE_BYTES), page_id="edited"))

        async def edit(_: int) -> None:
            page = user(self._texts.piece(RESIDENT_PAGE_BYTES), page_id="edited")
            page.new_version = True
            await session.append(page)

        async def operation(_: int) -> None:
            await session.assemble(user_input="What is there?")

        measured = await measure(operation, in_flight=1, operations=self._operations, pids=[], before_each=edit)
        self._add("assemble 400 KiB, one page changed", measured, (baseline, echo.p50_ms, 0.0), "2")

    async def _fault_resident(self, in_flight: int) -> None:
        """Pages of the working set: nothing is admitted, and nothing is appended."""
        echo = await self._echo(PAGE_BYTES, in_flight)
        faulting = [await _Faulting.prepare(self, 1) for _ in range(in_flight)]
        for one in faulting:
            await one.fault(0)

        async def operation(number: int) -> None:
            await faulting[number % in_flight].session.fault("p0")

        measured = await self._measured(operation, in_flight)
        must = "1.7" if self._topology == "one" else "4"
        self._add("fault 4 KiB, resident already", measured, ("echo 4,096 B", echo.p50_ms, echo.cpu_us), must)

    async def _fault_hot(self, in_flight: int, bare: Measured) -> None:
        """Pages that were evicted and whose bytes are at hand: each fault is one append."""
        echo = await self._echo(PAGE_BYTES, in_flight)
        faulting = [await _Faulting.prepare(self, HOT_PAGES) for _ in range(in_flight)]
        for one in faulting:
            for number in range(HOT_PAGES):
                await one.fault(number)

        async def operation(number: int) -> None:
            await faulting[number % in_flight].fault(number // in_flight)

        measured = await self._measured(operation, in_flight)
        must = "1.5" if self._topology == "one" else "3"
        base = echo.p50_ms + bare.p50_ms, echo.cpu_us + bare.cpu_us
        self._add("fault 4 KiB, that promotes", measured, ("echo + bare append", *base), must)

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
            await session.search(self._texts.query())

        measured = await measure(operation, in_flight=in_flight, operations=self._operations, pids=self._pids)
        self._add("search 200 pages", measured, ("echo 1,024 B", echo.p50_ms, echo.cpu_us), "3")

    async def _search_long(self) -> None:
        echo = await self._echo(APPEND_BYTES, 1)
        talk = await Conversation.open(self._pagekeeper, self._texts)
        await talk.grow(pages=LONG_PAGES)
        await talk.search()
        measured = await measure(talk.search, in_flight=1, operations=self._operations, pids=self._pids)
        self._add(f"search {LONG_PAGES:,} pages", measured, ("echo 1,024 B", echo.p50_ms, echo.cpu_us), "5")

    # Preparation

    async def _resident_session(self) -> Session:
        session = await self._pagekeeper.open_session(max_l0_tokens=400_000)
        for start in range(0, RESIDENT_PAGES, 20):
            pages = [self._message(start + offset) for offset in range(20)]
            await session.append(*pages)
        return session

    def _message(self, number: int) -> page_pb2.PageInput:
        text = self._texts.piece(RESIDENT_PAGE_BYTES)
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

    def page(self, page_id: str) -> page_pb2.PageInput:
        return assistant(self._texts.piece(PAGE_BYTES), page_id=page_id)

    def _add(
        self, operation: str, measured: Measured, base: tuple[str, float, float] | None, must: str, *, pages: int = 0
    ) -> None:
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
                pages_core_second=pages / measured.cpu_us * 1e6 if pages else None,
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


def _pids(stack: LocalStack) -> list[int]:
    return [process.pid for process in stack.processes.values()]


def _print(rows: Sequence[Row]) -> None:
    table = Table(
        "operation",
        "topology",
        "at",
        "p50 ms",
        "p99 ms",
        "a second",
        "CPU µs",
        "beside",
        "p50 x",
        "CPU x",
        "pages a core-s",
        "must",
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
            f"{row.pages_core_second:,.0f}" if row.pages_core_second is not None else "",
            row.must,
        )
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
