"""One history, from a seed: clients and chaos first, then fine weather, in which everything must come out well.

`python -m tests.simulation.history SEED` shows the trace of one; with `--seeds N` it looks for a seed that fails.
"""

import argparse
import asyncio
import logging
import sys
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from pagekeeper.core import session as folding
from pagekeeper.core.effects import RecordedEffect, decisions_digest
from pagekeeper.core.errors import ContentCorrupt, PagekeeperError
from pagekeeper.core.ids import SessionKey, TenantId
from pagekeeper.core.session import OPERATIONS_MAX, Session
from pagekeeper.runtime import codec
from pagekeeper.runtime.history import History
from pagekeeper.runtime.work import COMPRESS, WRITEBACK, platform_caller
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from tests.fakes.faulty_bucket import Faults as BucketFaults
from tests.simulation.answers import TENANTS
from tests.simulation.client import Client, Lost
from tests.simulation.loop import SimulatedLoop
from tests.simulation.oracle import Truth
from tests.simulation.programs import Book, Call, Program
from tests.simulation.violations import Violation, check
from tests.simulation.world import Replica, Weather, World, chaos, some_weather

CLIENTS_PER_TENANT: Final = 2
CALLS: Final = 12
"""Of each client."""
OPERATIONS_OF_SHORT_MEMORY: Final = 4
"""Requests that a state remembers in half of the histories, which are short."""
PAGES_READ: Final = 6
"""Of each session, when all is well again."""
PAGES_READ_SPOILED: Final = 2
QUIET_SECONDS: Final = 120.0
"""What is left to do is done by then: longer than any work item rests, or waits for a worker that stands still."""


@dataclass(frozen=True, slots=True)
class Outcome:
    seed: int
    digest: str
    steps: int
    records: int
    trace: list[str]
    violation: Exception | None


def simulate(seed: int) -> Outcome:
    """The history of a seed, and the law that it broke if it broke one."""
    dice = Random(seed)
    loop = SimulatedLoop(Random(dice.getrandbits(64)))
    world = World(loop, dice, replicas=dice.choice((2, 3)))
    violation: Exception | None = None
    # So that many histories have repetitions of requests that only the archive knows.
    vars(folding)["OPERATIONS_MAX"] = dice.choice((OPERATIONS_OF_SHORT_MEMORY, OPERATIONS_MAX))
    try:
        loop.run(_history(world, dice))
    except (Violation, PagekeeperError, RuntimeError) as broken:
        violation = broken
    finally:
        vars(folding)["OPERATIONS_MAX"] = OPERATIONS_MAX
    records = sum(len(truth.facts) for truth in world.log.truths.values())
    return Outcome(seed, world.digest(), loop.steps, records, world.trace, violation)


async def _history(world: World, dice: Random) -> None:
    await world.open()
    books = [Book(TenantId(tenant)) for tenant in TENANTS]
    clients = []
    for book in books:
        for number in range(CLIENTS_PER_TENANT):
            name = f"{book.tenant[0]}{number}"
            clients.append(
                Client(world, Program(name, book, Random(dice.getrandbits(64))), Random(dice.getrandbits(64)))
            )
    for client in clients[::CLIENTS_PER_TENANT]:
        for number in range(dice.choice((1, 2))):
            await client.call(client.program.opening(f"s{number}"))
    world.change_weather(some_weather(dice))
    running = [asyncio.ensure_future(client.run(CALLS)) for client in clients]
    watching = asyncio.ensure_future(_watch(world))
    snapshots = asyncio.ensure_future(_snapshots(world, Random(dice.getrandbits(64))))
    try:
        await chaos(world, lambda: all(one.done() for one in running) or watching.done())
        world.check()
        for one in running:
            one.result()
    finally:
        watching.cancel()
        snapshots.cancel()
    await _settle(world, clients)
    world.check()


async def _watch(world: World) -> None:
    """Ends when a law is broken."""
    while True:
        await asyncio.sleep(1.0)
        world.check()


async def _snapshots(world: World, dice: Random) -> None:
    """An operator who takes snapshots at any time, so that they happen often in short histories."""
    while True:
        await asyncio.sleep(dice.uniform(0.5, 5.0))
        keys = list(world.log.truths)
        if keys and world.replicas:
            replica, key = dice.choice(world.replicas), dice.choice(keys)
            kind = dice.choice((WRITEBACK, None))
            if kind is not None:
                await world.queue.publish(kind, key, f"{world.loop.time()}", b"")
                continue
            request = table_pb.SnapshotSessionRequest(session_id=key.session)
            work = world.loop.create_task(
                replica.platform.page_table.service.snapshot_session(platform_caller(key), request),
                context=replica.process.context,
            )
            await asyncio.wait({work, replica.died}, timeout=5, return_when=asyncio.FIRST_COMPLETED)


# When all is well again


async def _settle(world: World, clients: list[Client]) -> None:
    by_tenant = {client.caller.tenant: client for client in clients}
    for client in clients:
        for call in list(client.unknown):
            told = await client.call(call)
            check(not isinstance(told.answer, Lost), f"{call.method} {call.operation_id} is never answered")
        for call in client.never:
            truth = world.log.truths.get(call.key)
            done = truth is not None and call.operation_id in truth.operations
            check(not done, f"{call.method} {call.operation_id} was refused for good, and is done")
    await _drain(world)
    fresh = world.start()
    await asyncio.sleep(1.0)
    for key, truth in world.log.truths.items():
        if truth.session.exists:
            await _flush(world, by_tenant[key.tenant], key, truth)
    await asyncio.sleep(QUIET_SECONDS)
    for key, truth in world.log.truths.items():
        await _check_replicas(world, fresh, key, truth)
        if truth.session.exists:
            await _check_pages(by_tenant[key.tenant], key, truth)
    await _spoil(world, by_tenant)


async def _drain(world: World) -> None:
    for _ in range(20):
        await asyncio.sleep(QUIET_SECONDS / 4)
        if not world.queue.outstanding:
            break
    check(not world.queue.outstanding, f"{world.queue.outstanding} work items are never done")
    for kind in (COMPRESS, WRITEBACK):
        letters = await world.queue.dead_letters(kind, limit=10)
        check(not letters, f"dead letters: {letters}")


async def _flush(world: World, client: Client, key: SessionKey, truth: Truth) -> None:
    await _expect(client, "flush_session", key, pb.FlushSessionRequest(session_id=key.session))
    dirty = [page.page_id for page in truth.session.pages.values() if page.dirty]
    check(not dirty, f"{key}: still dirty after a flush: {dirty}")
    replica = world.dice.choice(world.replicas)
    await replica.platform.page_table.service.snapshot_session(
        platform_caller(key), table_pb.SnapshotSessionRequest(session_id=key.session)
    )
    tail = await world.log.read(key)
    check(len(tail) <= 2, f"{key}: {len(tail)} records after a snapshot")


async def _check_replicas(world: World, fresh: Replica, key: SessionKey, truth: Truth) -> None:
    """Every replica has folded the same, whether from a snapshot, from the tail or from the whole history."""
    state = codec.encode_state(truth.session)
    for replica in world.replicas:
        session = await replica.platform.sessions.read(key)
        check(codec.encode_state(session) == state, f"{key}: {replica.name} has folded another state")
        strict = await replica.platform.sessions.read(key, strict=True)
        check(strict.revision == truth.revision, f"{key}: {replica.name} is at {strict.revision}, not {truth.revision}")
    history = History(fresh.log, fresh.blobs, fresh.platform.sessions)
    effects: list[RecordedEffect] = []
    session = Session()
    async for step in history.steps(key):
        effects += step.effects
        session = step.session
        check(step.revision in truth.facts, f"{key}: history has revision {step.revision}, which never was")
    check(codec.encode_state(session) == state, f"{key}: the whole history folds to another state")
    check(decisions_digest(effects) == decisions_digest(truth.effects), f"{key}: history decides otherwise")


async def _check_pages(client: Client, key: SessionKey, truth: Truth) -> None:
    """Every byte that was acknowledged can be read, and every page found."""
    pages = list(truth.session.mapped_pages())
    for page in client.dice.sample(pages, min(len(pages), PAGES_READ)):
        for version in page.versions:
            for one in version.representations:
                request = pb.ReadPageRequest(
                    session_id=key.session, page_id=page.page_id, version=version.version, level=one.level
                )
                await _expect(client, "read_page", key, request)
    for page in pages[-1:]:
        search = pb.SearchPagesRequest(session_id=key.session, query=page.hint, limit=50)
        found = await _expect(client, "search_pages", key, search)
        check(any(hit.page_id == page.page_id for hit in found.hits), f"{key}: {page.page_id} is not found by its hint")
    await _expect(client, "replay_session", key, pb.ReplaySessionRequest(session_id=key.session))
    for method, read in (("get_stats", pb.GetStatsRequest), ("list_pages", pb.ListPagesRequest)):
        await _expect(client, method, key, read(session_id=key.session))


async def _spoil(world: World, by_tenant: dict[TenantId, Client]) -> None:
    """When every byte that is read is wrong, nobody is told one of them."""
    for replica in list(world.replicas):
        world.crash(replica)
    world.change_weather(Weather(bucket=BucketFaults(wrong=1.0)))
    world.start()
    for key, truth in world.log.truths.items():
        for page in list(truth.session.mapped_pages())[:PAGES_READ_SPOILED]:
            request = pb.ReadPageRequest(session_id=key.session, page_id=page.page_id)
            told = await by_tenant[key.tenant].call(Call("read_page", key, request, mutates=False))
            check(
                isinstance(told.answer, ContentCorrupt) or not page.current.full.size_bytes,
                f"{key}: {page.page_id} was read from spoiled bytes: {told.answer!r}",
            )


async def _expect(client: Client, method: str, key: SessionKey, request: Any) -> Any:  # noqa: ANN401 - messages
    """In fine weather an answer comes, and is no refusal."""
    answer = (await client.call(Call(method, key, request, mutates=False))).answer
    check(not isinstance(answer, Lost | PagekeeperError), f"{key}: {method} is not answered: {answer!r}")
    return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("seed", type=int, nargs="?", default=0, help="the seed of a history, or of the first one")
    parser.add_argument("--seeds", type=int, default=1, help="how many histories")
    asked = parser.parse_args()
    logging.disable()
    for seed in range(asked.seed, asked.seed + asked.seeds):
        outcome = simulate(seed)
        if asked.seeds == 1:
            tell(*outcome.trace)
            tell(f"seed {seed}: {outcome.records} records in {outcome.steps:,} steps, digest {outcome.digest[:16]}")
        if outcome.violation is not None:
            tell(f"seed {seed}: {outcome.violation!r}", f"its trace: make simulate SEED={seed}")
            sys.exit(1)
    if asked.seeds > 1:
        tell(f"{asked.seeds:,} histories, no law broken")


def tell(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
