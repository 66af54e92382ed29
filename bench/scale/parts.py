"""The parameters, one after the other. Each part has a stack of its own, and grows it from point to point."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from types import MappingProxyType
from typing import Final

from bench.scale.conversation import OPERATIONS, Conversation
from bench.scale.meter import CALL_SECONDS, Meter, Results, measure_baselines, running, warm_up
from bench.scale.plan import (
    FIRST_TURN,
    NATS_SERVERS,
    PAGES_OF_A_TENANT,
    PAGES_OF_AN_IDLE_SESSION,
    PREPARED_AT_ONCE,
    REPLICAS,
    REPLICATED_SESSIONS,
    TENANTS,
    cold_sessions,
)
from bench.scale.tenants import clients
from bench.texts import Texts
from pagekeeper.client import Pagekeeper
from pagekeeper.local.stack import Topology

SEED: Final = 20261130
SESSIONS_AT_ONCE: Final = 500
"""Idle sessions that are made together, to be forgotten here."""


async def replicas(results: Results) -> None:
    """The same sessions, visited in turn, with 1, 2 and 4 processes of every service on three NATS servers."""
    for at in REPLICAS:
        each = dict.fromkeys(Topology.FIVE.services, at)
        async with running(results, replicas=each, nats_servers=NATS_SERVERS) as (meter, pagekeeper):
            if at == REPLICAS[0]:
                await measure_baselines(meter, NATS_SERVERS)
            async with results.preparing():
                talks = await _conversations([pagekeeper] * REPLICATED_SESSIONS)
                await _side_by_side(talks, partial(Conversation.grow, turns=FIRST_TURN))
                await _side_by_side(talks, Conversation.assemble_recall)
                await meter.settle()
            for name in OPERATIONS:
                await meter.measure(name, "replicas", at, _in_turn(talks, name))
            meter.weigh("replicas", at)


async def tenants(results: Results) -> None:
    """Tenants with a short session each, visited in turn: what one of many costs."""
    async with running(results) as (meter, _), clients(meter.stack, CALL_SECONDS) as client:
        talks: list[Conversation] = []
        for at in TENANTS:
            async with results.preparing():
                added = [client(f"tenant-{number}") for number in range(len(talks), at)]
                new = await _conversations(added, first=len(talks))
                await _side_by_side(new, partial(Conversation.grow, pages=PAGES_OF_A_TENANT))
                await _side_by_side(new, Conversation.assemble_recall)
                await meter.settle()
                talks += new
                # Each replica hears of what background work has logged when it is asked next.
                await _side_by_side(talks, Conversation.search)
            for name in ("search", "assemble_recall", "append", "turn"):
                await meter.measure(name, "tenants", at, _in_turn(talks, name))
            meter.weigh("tenants", at)


async def pages(results: Results) -> None:
    """One session that grows, and at each size some others, to be recalled from cold."""
    async with running(results) as (meter, pagekeeper):
        [talk] = await _conversations([pagekeeper])
        for at in results.plan.pages:
            sleeping = [talk]
            async with results.preparing():
                await talk.grow(pages=at)
                if cold_sessions(at) > 1:
                    sleeping = await _conversations([pagekeeper] * cold_sessions(at), first=1)
                    await _side_by_side(sleeping, partial(Conversation.grow, pages=at))
                await talk.assemble_recall()
                await meter.settle()
            for name in OPERATIONS:
                await meter.measure(name, "pages", at, _in_turn([talk], name))
            meter.weigh("pages", at)
            await _cold(meter, pagekeeper, at, sleeping)


async def _cold(meter: Meter, pagekeeper: Pagekeeper, at: int, sleeping: Sequence[Conversation]) -> None:
    """The first prompt with words that ask for the past, in sessions that no process has seen."""
    async with meter.results.preparing():
        async with asyncio.TaskGroup() as restarts:
            for process in meter.stack.processes.values():
                restarts.create_task(process.restart())
        await warm_up(pagekeeper, 1)
        await meter.settle()
    recall = _in_turn(sleeping, "assemble_recall")
    count = len(sleeping)
    await meter.measure("cold_recall", "pages", at, recall, operations_min=count, operations_max=count)


async def turns(results: Results) -> None:
    """A turn as a session gets older."""
    async with running(results) as (meter, pagekeeper):
        [talk] = await _conversations([pagekeeper])
        for at in results.plan.turns:
            async with results.preparing():
                if results.plan.soak:
                    while talk.turns < at:
                        await talk.turn()
                await talk.grow(turns=at)
                await talk.turn()
                await meter.settle()
            await meter.measure("turn", "turns", at, talk.turn)
            meter.weigh("turns", at)


async def sessions(results: Results) -> None:
    """One session that goes on, among others of the same tenant that nobody asks for any more."""
    async with running(results) as (meter, pagekeeper):
        [talk] = await _conversations([pagekeeper])
        idle = 0
        for at in results.plan.idle_sessions:
            async with results.preparing():
                while idle < at - 1:
                    count = min(at - 1 - idle, SESSIONS_AT_ONCE)
                    new = await _conversations([pagekeeper] * count, first=1 + idle)
                    await _side_by_side(new, partial(Conversation.grow, pages=PAGES_OF_AN_IDLE_SESSION))
                    await _side_by_side(new, Conversation.assemble)
                    idle += count
                await talk.grow(turns=FIRST_TURN)
                await talk.turn()
                await meter.settle()
            for name in ("turn", "append"):
                await meter.measure(name, "sessions", at, _in_turn([talk], name))
            meter.weigh("sessions", at)


PARTS: Final = MappingProxyType(
    {"replicas": replicas, "tenants": tenants, "pages": pages, "turns": turns, "sessions": sessions}
)


def _in_turn(talks: Sequence[Conversation], name: str) -> Callable[[int], Awaitable[object]]:
    """The operation of that name, on one conversation after the other."""

    async def operation(number: int) -> None:
        await OPERATIONS[name](talks[number % len(talks)], number // len(talks))

    return operation


async def _conversations(clients: Sequence[Pagekeeper], first: int = 0) -> list[Conversation]:
    """A new conversation of each client, with texts of its own."""
    return [await Conversation.open(client, Texts(SEED + first + number)) for number, client in enumerate(clients)]


async def _side_by_side(talks: Sequence[Conversation], step: Callable[[Conversation], Awaitable[None]]) -> None:
    """Take a step in each conversation, some at a time."""
    waiting = iter(talks)

    async def worker() -> None:
        for talk in waiting:
            await step(talk)

    async with asyncio.TaskGroup() as workers:
        for _ in range(PREPARED_AT_ONCE):
            workers.create_task(worker())
