"""The session log while servers die and networks break."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pagekeeper.core.ids import SessionKey, session_key
from pagekeeper.runtime.log.connection import connect
from pagekeeper.runtime.log.nats_log import NatsLog
from pagekeeper.runtime.log.port import AppendConflict, NoAnswer
from pagekeeper.runtime.log.streams import Capacity, make_streams
from tests.servers import NatsServer, Proxy, eventually

PARTITIONS = 2
KEY = session_key("acme", "s1")
CAPACITY = Capacity(log_bytes_max=64 * 1024**2)


@asynccontextmanager
async def log_at(url: str) -> AsyncIterator[NatsLog]:
    async with connect([url], name="integration") as connection:
        await make_streams(connection, partitions=PARTITIONS, capacity=CAPACITY)
        yield NatsLog(connection, partitions=PARTITIONS)


async def holds(log: NatsLog, count: int) -> bool:
    """Whether the session has that many records."""
    return len(await log.read(KEY, strict=True)) == count


async def test_an_append_whose_answer_is_lost_happens_once(nats_server: NatsServer, proxy: Proxy) -> None:
    async with log_at(nats_server.url) as witness, log_at(nats_server.url_at(proxy.port)) as log:
        first = await log.append(KEY, expected_revision=0, operation_id="a", data=b"")
        proxy.drop_answers = True
        append = asyncio.ensure_future(log.append(KEY, expected_revision=first, operation_id="b", data=b""))
        await eventually(lambda: holds(witness, 2))
        assert not append.done()
        proxy.drop_answers = False
        proxy.cut()
        revision = await append
        assert [record.revision for record in await witness.read(KEY, strict=True)] == [first, revision]


async def test_it_is_found_though_others_have_appended_since(nats_server: NatsServer, proxy: Proxy) -> None:
    async with log_at(nats_server.url) as witness, log_at(nats_server.url_at(proxy.port)) as log:
        proxy.drop_answers = True
        append = asyncio.ensure_future(log.append(KEY, expected_revision=0, operation_id="ours", data=b""))
        await eventually(lambda: holds(witness, 1))
        [ours] = await witness.read(KEY, strict=True)
        last = ours.revision
        for number in range(3):
            last = await witness.append(KEY, expected_revision=last, operation_id=f"theirs{number}", data=b"")
        proxy.drop_answers = False
        proxy.cut()
        assert await append == ours.revision
        assert len(await witness.read(KEY, strict=True)) == 4


async def test_a_race_lost_behind_a_lost_answer_is_a_conflict(nats_server: NatsServer, proxy: Proxy) -> None:
    async with log_at(nats_server.url) as witness, log_at(nats_server.url_at(proxy.port)) as log:
        theirs = await witness.append(KEY, expected_revision=0, operation_id="theirs", data=b"")
        proxy.drop_answers = True
        append = asyncio.ensure_future(log.append(KEY, expected_revision=0, operation_id="ours", data=b""))
        await asyncio.sleep(0.1)
        proxy.drop_answers = False
        proxy.cut()
        with pytest.raises(AppendConflict) as conflict:
            await append
        assert conflict.value.actual == theirs
        assert not conflict.value.maybe_applied


async def test_an_outcome_that_cannot_be_learned_is_said_to_be_unknown(nats_server: NatsServer, proxy: Proxy) -> None:
    async with log_at(nats_server.url) as witness, log_at(nats_server.url_at(proxy.port)) as log:
        proxy.drop_answers = True
        started = asyncio.get_running_loop().time()
        with pytest.raises(NoAnswer) as unknown:
            await log.append(KEY, expected_revision=0, operation_id="a", data=b"", timeout_seconds=0.6)
        assert asyncio.get_running_loop().time() - started < 1.0
        assert unknown.value.maybe_applied
        proxy.drop_answers = False
        proxy.cut()
        # The same append again tells.
        revision = await log.append(KEY, expected_revision=0, operation_id="a", data=b"")
        assert [record.revision for record in await witness.read(KEY, strict=True)] == [revision]


async def test_an_error_from_the_server_does_not_end_the_connection_for_good(
    nats_server: NatsServer, proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "pagekeeper.runtime.log.connection")
    async with log_at(nats_server.url_at(proxy.port)) as log:
        first = await log.append(KEY, expected_revision=0, operation_id="a", data=b"")
        proxy.inject(b"-ERR 'Maximum Subscriptions Exceeded'\r\n")
        await asyncio.sleep(0.05)
        second = await log.append(KEY, expected_revision=first, operation_id="b", data=b"")
        assert second > first
    said = [record.getMessage() for record in caplog.records]
    assert sum("connected to NATS" in line for line in said) == 2
    assert sum("lost the connection" in line for line in said) == 1


async def test_without_a_server_it_fails_in_time_and_works_again_when_there_is_one(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with log_at(nats_server.url) as log:
        first = await log.append(KEY, expected_revision=0, operation_id="a", data=b"1")
        nats_server.kill()
        loop = asyncio.get_running_loop()
        for ask in (
            lambda: log.append(KEY, expected_revision=first, operation_id="b", data=b"", timeout_seconds=0.4),
            lambda: log.read(KEY, timeout_seconds=0.4),
            lambda: log.read(KEY, strict=True, timeout_seconds=0.4),
            lambda: log.sessions(KEY.tenant, after="", limit=1, timeout_seconds=0.4),
            lambda: log.follow(timeout_seconds=0.4).__aenter__(),
        ):
            started = loop.time()
            with pytest.raises(NoAnswer):
                await ask()
            assert loop.time() - started < 0.8
        with pytest.raises(NoAnswer) as definite:
            await log.append(KEY, expected_revision=first, operation_id="c", data=b"", timeout_seconds=0.2)
        assert not definite.value.maybe_applied
        nats_server.start()
        second = await log.append(KEY, expected_revision=first, operation_id="d", data=b"2")
        assert [record.revision for record in await log.read(KEY, strict=True)] == [first, second]
    complaints = [record for record in caplog.records if record.levelname == "WARNING"]
    assert len(complaints) <= 2, "one line for a change of state, not one for each failed dial"


async def test_appends_through_kills_lose_nothing_and_repeat_nothing(nats_server: NatsServer) -> None:
    acknowledged: dict[SessionKey, dict[str, int]] = {}
    stop = asyncio.Event()

    async def write(log: NatsLog, key: SessionKey) -> None:
        mine = acknowledged[key] = {}
        revision = number = 0
        while not stop.is_set():
            operation_id = f"op{number}"
            revision = await log.append(
                key, expected_revision=revision, operation_id=operation_id, data=b"x" * 200, timeout_seconds=20
            )
            mine[operation_id] = revision
            number += 1

    async with log_at(nats_server.url) as log:
        async with asyncio.TaskGroup() as writers:
            for number in range(8):
                writers.create_task(write(log, session_key("acme", f"writer{number}")))
            for _ in range(4):
                await asyncio.sleep(0.3)
                nats_server.kill()
                await asyncio.sleep(0.05)
                await asyncio.to_thread(nats_server.start)
            await asyncio.sleep(0.3)
            stop.set()
        for key, mine in acknowledged.items():
            stored = {record.operation_id: record.revision for record in await log.read(key, strict=True)}
            assert len(stored) == len(await log.read(key, strict=True)), "an operation was applied twice"
            assert mine == stored
            assert len(mine) > 10
