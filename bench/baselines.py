"""What stands beside every figure: a bare gRPC echo, and a bare conditional append to the same NATS."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import uuid4

import grpc
import nats

from bench.echo import METHOD
from bench.measuring import Measured, measure

APPEND_BYTES: Final = 1024


async def measure_echo(size_bytes: int, *, in_flight: int, operations: int) -> Measured:
    """A bare echo of that size by a process that does nothing else."""
    async with _echo_server() as (channel, pid):
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        payload = bytes(size_bytes)

        async def operation(_: int) -> None:
            await call(payload)

        return await measure(operation, in_flight=in_flight, operations=operations, pids=[pid])


async def measure_bare_append(
    url: str, pids: Sequence[int], *, in_flight: int, operations: int, replicas: int = 1
) -> Measured:
    """What this NATS, `pids`, needs for one conditional, synced append of 1 KiB, without anything around it."""
    client = await nats.connect([server.strip() for server in url.split(",")])
    try:
        stream = client.jetstream()
        name = f"BENCH_{uuid4().hex}"
        await stream.add_stream(name=name, subjects=[f"bench.{name}.>"], num_replicas=replicas)
        payload = bytes(APPEND_BYTES)

        async def operation(number: int) -> None:
            headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
            await stream.publish(f"bench.{name}.{number}", payload, headers=headers)

        measured = await measure(operation, in_flight=in_flight, operations=operations, pids=pids)
        await stream.delete_stream(name)
    finally:
        await client.close()
    return measured


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
