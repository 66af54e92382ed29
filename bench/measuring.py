"""Latency, throughput and CPU of a repeated operation."""

import asyncio
import os
import platform
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

WARM_UP_CALLS: Final = 50
OPERATIONS_MIN: Final = 20
"""Of an operation that is measured for a time, however slow it is."""
PATIENCE: Final = 4
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")

Operation = Callable[[int], Awaitable[object]]
"""Does the n-th operation."""


@dataclass(frozen=True, slots=True)
class Measured:
    """`cpu_us` is what the measured processes used per operation, without the load generator's own."""

    operations: int
    in_flight: int
    p50_ms: float
    p99_ms: float
    per_second: float
    cpu_us: float


async def _nothing(_: int) -> None:
    pass


async def measure(
    operation: Operation,
    *,
    in_flight: int,
    operations: int,
    pids: Sequence[int],
    before_each: Operation = _nothing,
) -> Measured:
    """Run `operation` `operations` times, `in_flight` at a time, after a warm-up of WARM_UP_CALLS.

    Operations are numbered from 0, the warm-up's included. `before_each` is not part of an operation's time, but of the
    CPU. An operation that fails ends the run.
    """

    async def timed(number: int) -> float:
        await before_each(number)
        began = time.perf_counter()
        await operation(number)
        return time.perf_counter() - began

    numbers = iter(range(WARM_UP_CALLS + operations))
    await _run(timed, numbers, min(WARM_UP_CALLS, in_flight * 4), WARM_UP_CALLS, [])
    seconds: list[float] = []
    cpu_before, began = cpu_seconds(pids), time.perf_counter()
    await _run(timed, numbers, in_flight, operations, seconds)
    elapsed, cpu = time.perf_counter() - began, cpu_seconds(pids) - cpu_before
    return _summary(seconds, in_flight, elapsed, cpu)


async def measure_for(
    operation: Operation,
    *,
    seconds_max: float,
    operations_max: int,
    operations_min: int = OPERATIONS_MIN,
    pids: Sequence[int],
    settle: Callable[[], Awaitable[float]],
) -> Measured:
    """Run `operation` again and again, one at a time, for so long or so often.

    The operation runs `operations_min` times at least, unless that takes PATIENCE times as long. `settle` waits until
    the work that the operations leave behind is done, and answers the seconds of CPU that this took, which are part of
    `cpu_us`. Operations are numbered from 0. An operation that fails ends the run.
    """
    seconds: list[float] = []
    cpu_before, began = cpu_seconds(pids), time.perf_counter()
    while len(seconds) < operations_max:
        passed = time.perf_counter() - began
        if seconds and passed > seconds_max and (len(seconds) >= operations_min or passed > PATIENCE * seconds_max):
            break
        operation_began = time.perf_counter()
        await operation(len(seconds))
        seconds.append(time.perf_counter() - operation_began)
    elapsed, cpu = time.perf_counter() - began, cpu_seconds(pids) - cpu_before
    return _summary(seconds, 1, elapsed, cpu + await settle())


def _summary(seconds: list[float], in_flight: int, elapsed: float, cpu: float) -> Measured:
    seconds.sort()
    return Measured(
        operations=len(seconds),
        in_flight=in_flight,
        p50_ms=seconds[len(seconds) // 2] * 1e3,
        p99_ms=seconds[int(len(seconds) * 0.99)] * 1e3,
        per_second=len(seconds) / elapsed,
        cpu_us=cpu / len(seconds) * 1e6,
    )


async def _run(
    timed: Callable[[int], Awaitable[float]],
    numbers: Iterator[int],
    in_flight: int,
    operations: int,
    seconds: list[float],
) -> None:
    left = operations

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            seconds.append(await timed(next(numbers)))

    async with asyncio.TaskGroup() as workers:
        for _ in range(in_flight):
            workers.create_task(worker())


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of these processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS_PER_SECOND


def rss_bytes(pid: int) -> int:
    """What a process has in memory now."""
    status = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def disk_bytes(directory: Path) -> int:
    """What the files of a directory take on disk; sparse files take what was written."""
    return sum(path.lstat().st_blocks * 512 for path in directory.rglob("*") if path.is_file())


def machine() -> dict[str, object]:
    """What the figures were measured on, and how busy it is: two cores at a load above 2 are shared."""
    memory_kb = next(
        int(line.split()[1]) for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")
    )
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(memory_kb / 1024**2),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "load_average": os.getloadavg()[0],
    }
