"""Which servers and streams the platform refuses to run on."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from nats.aio.msg import Msg

from pagekeeper.runtime.log.connection import Connection, Subscription, Unreachable, connect, now
from pagekeeper.runtime.log.jetstream import ask
from pagekeeper.runtime.log.server_checks import QUESTION, ServerUnfit, check_server
from pagekeeper.runtime.log.streams import Capacity, StreamUnfit, check_streams, make_streams
from tests.servers import NatsServer, running

CAPACITY = Capacity(log_bytes_max=8 * 1024**2)


@asynccontextmanager
async def connection_to(server: NatsServer) -> AsyncIterator[Connection]:
    with running(server):
        async with connect([server.url], name="checks") as connection:
            yield connection


async def test_a_server_that_syncs_every_write_is_accepted(tmp_path: Path) -> None:
    async with connection_to(NatsServer(tmp_path)) as connection:
        await check_server(connection)


@pytest.mark.parametrize("sync_interval", ["2m", "1s", "1ms"])
async def test_a_server_that_acknowledges_before_it_syncs_is_refused(tmp_path: Path, sync_interval: str) -> None:
    async with connection_to(NatsServer(tmp_path, sync_interval=sync_interval)) as connection:
        with pytest.raises(ServerUnfit, match="sync_interval: always"):
            await check_server(connection)


async def test_a_server_that_does_not_say_is_refused(tmp_path: Path) -> None:
    async with connection_to(NatsServer(tmp_path, answers_checks=False)) as connection:
        with pytest.raises(ServerUnfit, match="let the platform's account import"):
            await check_server(connection)


@pytest.mark.parametrize(
    ("versions", "fit"),
    [
        (["2.15.1"], True),
        (["2.15.0"], False),
        (["2.9.25"], False),
        (["2.16.0-RC.1"], True),
        (["3.0.0"], True),
        (["2.15.1", "2.14.9", "2.15.1"], False),
        (["2.15.1", "2.15.2", "2.15.1"], True),
    ],
)
async def test_every_server_of_a_cluster_has_to_be_new_enough(tmp_path: Path, versions: list[str], fit: bool) -> None:  # noqa: FBT001
    async with connection_to(NatsServer(tmp_path, answers_checks=False)) as connection:
        answering: set[asyncio.Future[None]] = set()

        def answer(question: Msg) -> None:
            for number, version in enumerate(versions):
                data = {"config": {"sync_always": True}, "meta_cluster": {"cluster_size": len(versions)}}
                body = {"server": {"name": f"n{number}", "ver": version}, "data": data}
                answering.add(asyncio.ensure_future(connection.publish(question.reply, json.dumps(body).encode())))

        await connection.subscribe(Subscription(QUESTION, answer, lambda: None), deadline=now() + 5)
        if fit:
            await check_server(connection)
        else:
            with pytest.raises(ServerUnfit, match=r"run 2\.15\.1 or newer"):
                await check_server(connection)


async def test_a_server_whose_messages_are_too_small_is_refused(tmp_path: Path) -> None:
    async with connection_to(NatsServer(tmp_path, max_payload="512KB")) as connection:
        with pytest.raises(ServerUnfit, match="max_payload"):
            await check_server(connection)


async def test_connecting_to_nobody_fails_in_time() -> None:
    with pytest.raises(Unreachable):
        async with connect(["nats://127.0.0.1:1"], name="nobody", timeout_seconds=0.3):
            pass


async def test_streams_are_made_once_by_however_many_services(tmp_path: Path) -> None:
    async with connection_to(NatsServer(tmp_path)) as connection:
        await asyncio.gather(*(make_streams(connection, partitions=4, capacity=CAPACITY) for _ in range(5)))
        await make_streams(connection, partitions=4, capacity=CAPACITY)
        names = (await ask(connection, "STREAM.NAMES", {}, deadline=now() + 5))["streams"]
        assert sorted(names) == ["PK_DEAD", *(f"PK_LOG_{p}" for p in range(4)), "PK_WORK"]


@pytest.mark.parametrize("partitions", [2, 8])
async def test_another_number_of_partitions_is_refused(tmp_path: Path, partitions: int) -> None:
    async with connection_to(NatsServer(tmp_path)) as connection:
        await make_streams(connection, partitions=4, capacity=CAPACITY)
        with pytest.raises(StreamUnfit, match="set partitions to 4"):
            await make_streams(connection, partitions=partitions, capacity=CAPACITY)


async def test_room_is_given_and_never_taken(tmp_path: Path) -> None:
    async with connection_to(NatsServer(tmp_path)) as connection:
        await make_streams(connection, partitions=1, capacity=CAPACITY)
        larger = replace(CAPACITY, log_bytes_max=16 * 1024**2)
        assert await make_streams(connection, partitions=1, capacity=larger) == []
        notes = await make_streams(connection, partitions=1, capacity=CAPACITY)
        assert notes == [f"stream PK_LOG_0 keeps its max_bytes of {16 * 1024**2}, more than {8 * 1024**2}"]
        await check_streams(connection, partitions=1)
        found = await ask(connection, "STREAM.INFO.PK_LOG_0", {}, deadline=now() + 5)
        assert found["config"]["max_bytes"] == 16 * 1024**2
        assert found["config"]["metadata"]["pagekeeper.partitions"] == "1"


async def test_a_service_makes_no_stream_and_waits_for_them(tmp_path: Path) -> None:
    async with connection_to(NatsServer(tmp_path)) as connection:
        with pytest.raises(StreamUnfit, match="pagekeeper init"):
            await check_streams(connection, partitions=2, timeout_seconds=0.5)
        assert (await ask(connection, "STREAM.NAMES", {}, deadline=now() + 5))["streams"] is None
        waiting = asyncio.ensure_future(check_streams(connection, partitions=2, timeout_seconds=20))
        await asyncio.sleep(0.5)
        assert not waiting.done()
        await make_streams(connection, partitions=2, capacity=CAPACITY)
        await waiting
        with pytest.raises(StreamUnfit, match="set partitions to 2"):
            await check_streams(connection, partitions=1)


async def test_a_stream_of_an_earlier_release_is_brought_up_to_date_by_init_alone(tmp_path: Path) -> None:
    async with connection_to(NatsServer(tmp_path)) as connection:
        await make_streams(connection, partitions=1, capacity=CAPACITY)
        made = (await ask(connection, "STREAM.INFO.PK_LOG_0", {}, deadline=now() + 5))["config"]
        await ask(connection, "STREAM.DELETE.PK_LOG_0", {}, deadline=now() + 5)
        await ask(connection, "STREAM.CREATE.PK_LOG_0", {**made, "allow_msg_ttl": False}, deadline=now() + 5)
        with pytest.raises(StreamUnfit, match=r"allow_msg_ttl.*pagekeeper init"):
            await check_streams(connection, partitions=1)
        await make_streams(connection, partitions=1, capacity=CAPACITY)
        await check_streams(connection, partitions=1)


@pytest.mark.parametrize(
    "promise",
    [
        {"storage": "memory"},
        {"discard": "old"},
        {"max_age": 3600 * 10**9},
        {"allow_rollup_hdrs": False},
        {"republish": {"src": "pk.log.>", "dest": "elsewhere.>"}},
        {"persist_mode": "async"},
        {"max_msgs_per_subject": 1},
        {"subject_transform": {"src": "pk.log.0.>", "dest": "pk.log.0.x.>"}},
    ],
    ids=lambda promise: next(iter(promise)),
)
async def test_a_stream_that_promises_something_else_is_refused(tmp_path: Path, promise: dict[str, object]) -> None:
    async with connection_to(NatsServer(tmp_path)) as connection:
        await make_streams(connection, partitions=1, capacity=CAPACITY)
        made = (await ask(connection, "STREAM.INFO.PK_LOG_0", {}, deadline=now() + 5))["config"]
        await ask(connection, "STREAM.DELETE.PK_LOG_0", {}, deadline=now() + 5)
        await ask(connection, "STREAM.CREATE.PK_LOG_0", {**made, **promise}, deadline=now() + 5)
        with pytest.raises(StreamUnfit, match=next(iter(promise))):
            await make_streams(connection, partitions=1, capacity=CAPACITY)
