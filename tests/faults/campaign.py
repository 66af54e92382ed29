"""SIGKILL of a random process of ours under load, many times. `make faults KILLS=1000` is the long run.

After each kill the process is started again, and a probe that needs every service tells when all is well again. At the
end the load's ledgers are verified: what was acknowledged is there, once.
"""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

from pagekeeper.client import Pagekeeper, Session, tool_result, user
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.local.child import Child
from pagekeeper.local.stack import LocalStack, Topology
from pagekeeper.runtime.clock import SystemClock
from tests.faults.load import AWAY, LARGE_BYTES, Load
from tests.stacks import client, new_tenant

RESULTS = Path("bench/results/faults.json")
ACKNOWLEDGED_BETWEEN_KILLS = 20
KILLED_AT_ONCE = (1, 1, 2, 3)
RECOVERY_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Campaign:
    """What was done, and how long it took from each SIGKILL until a call through all services was answered."""

    killed: Counter[str]
    recovery_seconds: list[float]
    acknowledged: int
    repeated: int
    checked_reads: int
    seconds: float

    @property
    def kills(self) -> int:
        return self.killed.total()

    def recovery_at(self, share: float) -> float:
        ordered = sorted(self.recovery_seconds)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Probe:
    """A session of its own, with pages in the log and in the store."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._number = 0

    @classmethod
    async def on(cls, pagekeeper: Pagekeeper) -> "Probe":
        session = await pagekeeper.open_session(max_l0_tokens=4_000)
        await session.append(tool_result("placed" + "." * LARGE_BYTES, page_id="placed"))
        await session.append(user("resident", page_id="resident"))
        return cls(session)

    async def until_all_answer(self) -> None:
        async with asyncio.timeout(RECOVERY_SECONDS_MAX):
            while True:
                try:
                    await self._ask_all()
                except AWAY:
                    await asyncio.sleep(0.01)
                else:
                    return

    async def _ask_all(self) -> None:
        self._number += 1
        await self._session.append(user("probe", page_id=f"p{self._number}"))
        await self._session.assemble()
        await self._session.fault("resident")
        await self._session.read("placed")


async def kill_under_load(
    pagekeeper: Pagekeeper,
    victims: list[Child],
    random: Random,
    *,
    kills_max: int,
    seconds_max: float = float("inf"),
    large_share: float = 0.03,
) -> Campaign:
    """Kill some of `victims` at a time while a load runs, and verify the load. Raises AssertionError."""
    clock = SystemClock()
    load = await Load.on(pagekeeper, random, large_share=large_share)
    probe = await Probe.on(pagekeeper)
    killed: Counter[str] = Counter()
    recovery_seconds: list[float] = []
    began = clock.monotonic()
    async with load:
        while killed.total() < kills_max and clock.monotonic() - began < seconds_max:
            await load.progress(ACKNOWLEDGED_BETWEEN_KILLS)
            together = random.sample(victims, min(len(victims), random.choice(KILLED_AT_ONCE)))
            at = clock.monotonic()
            for victim in together:
                victim.kill()
            async with asyncio.TaskGroup() as starts:
                for victim in together:
                    starts.create_task(victim.start())
            await probe.until_all_answer()
            recovery_seconds.append(clock.monotonic() - at)
            killed.update(victim.name for victim in together)
    await load.verify()
    counts = load.counts
    seconds = clock.monotonic() - began
    return Campaign(killed, recovery_seconds, counts.acknowledged, counts.repeated, counts.checked_reads, seconds)


async def _run(kills: int, seed: int) -> dict[str, Any]:
    results = {}
    for topology in Topology:
        random = Random(f"{seed}/{topology}")
        with tempfile.TemporaryDirectory(prefix="pagekeeper-faults-") as directory:
            async with (
                LocalStack(Path(directory), topology) as stack,
                client(stack, new_tenant("campaign")) as pagekeeper,
            ):
                victims: list[Child] = list(stack.processes.values())
                campaign = await kill_under_load(pagekeeper, victims, random, kills_max=kills // 2)
        results[topology.value] = {
            "kills": campaign.kills,
            "killed": dict(sorted(campaign.killed.items())),
            "acknowledged_requests": campaign.acknowledged,
            "lost": 0,
            "applied_twice": 0,
            "requests_sent_again": campaign.repeated,
            "reads_checked_meanwhile": campaign.checked_reads,
            "recovery_p50_seconds": round(campaign.recovery_at(0.5), 2),
            "recovery_p95_seconds": round(campaign.recovery_at(0.95), 2),
            "recovery_max_seconds": round(campaign.recovery_at(1.0), 2),
            "seconds": round(campaign.seconds, 1),
        }
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description="Kill our processes under load, half of the kills in each topology.")
    parser.add_argument("--kills", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    try:
        results = asyncio.run(_run(arguments.kills, arguments.seed))
    except (AssertionError, PagekeeperError) as failed:
        print(f"seed {arguments.seed}: {type(failed).__name__}: {failed}", file=sys.stderr)  # noqa: T201
        raise
    report = {
        "what": "SIGKILL of a random process of ours under load; every acknowledged request verified afterwards",
        "seed": arguments.seed,
        "date": datetime.fromtimestamp(SystemClock().now_ms() / 1_000, UTC).date().isoformat(),
        "machine": {
            "cores": os.cpu_count(),
            "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
            "python": platform.python_version(),
        },
        "topologies": results,
    }
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))  # noqa: T201 - what it was run for
    return 0


if __name__ == "__main__":
    sys.exit(main())
