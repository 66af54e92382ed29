"""The launcher: real servers, stand-ins for our processes, and what is left when it ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random

import pytest

from pagekeeper.core.ids import session_key
from pagekeeper.local import processes, servers
from pagekeeper.local.child import ChildFailed, PortTaken, StartFailed
from pagekeeper.local.ports import free_ports, is_free
from pagekeeper.local.processes import Process
from pagekeeper.local.servers import NatsServer, S3Server, s3_server
from pagekeeper.local.stack import PARTITIONS, LocalStack, Topology
from pagekeeper.local.sweeper import Sweeper
from pagekeeper.runtime.bearer_tokens import PUBLIC_AUDIENCE, TokenVerifier
from pagekeeper.runtime.blobs.minio_bucket import MinioBucket
from pagekeeper.runtime.blobs.port import digest_of
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.runtime.log.connection import connect
from pagekeeper.runtime.log.nats_log import NatsLog
from pagekeeper.runtime.log.server_checks import check_server
from pagekeeper.runtime.log.streams import Capacity, make_streams
from pagekeeper.runtime.token_keys import KeyFile
from tests.integration.launch import STAND_IN
from tests.integration.leavings import sockets_of, users_of

LAUNCH = Path(__file__).with_name("launch.py")
CLOCK = SystemClock()
KEY = session_key("t", "s")
SMALL = Capacity(log_bytes_max=16 * 1024**2, work_bytes_max=1024**2, dead_bytes_max=1024**2)


@pytest.fixture
def sweeper() -> Iterator[Sweeper]:
    with Sweeper() as sweeper:
        yield sweeper


def stand_in(directory: Path, behaviour: str = "") -> Process:
    [port] = free_ports(1)
    environment = {"PK_LISTEN": f"127.0.0.1:{port}", "STAND_IN": f"gateway={behaviour}"}
    return Process("gateway", [*STAND_IN, "gateway"], environment, directory, port)


def wait_until(holds: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = CLOCK.monotonic() + seconds
    while not holds():
        assert CLOCK.monotonic() < deadline
        time.sleep(0.02)


async def store_round_trip(server: S3Server, key: str, *, write: bool) -> None:
    bucket = MinioBucket(
        "kept",
        endpoint=server.endpoint,
        access_key=server.access_key,
        secret_key=server.secret_key,
        secure=False,
        clock=CLOCK,
    )
    with closing(bucket):
        store = BlobStore(bucket, Random(1))
        await store.ensure_bucket()
        if write:
            await store.put(key, b"kept", digest=digest_of(b"kept"))
        assert await store.get(key, digest=digest_of(b"kept")) == b"kept"


async def log_round_trip(server: NatsServer, *, write: bool, partitions: int = 1) -> None:
    """`partitions` is what the streams that are there were made for; a server of no stack gets its streams here."""
    async with connect([server.url], name="test") as connection:
        await check_server(connection)
        await make_streams(connection, partitions=partitions, capacity=SMALL)
        log = NatsLog(connection, partitions=partitions)
        if write:
            await log.append(KEY, expected_revision=0, operation_id="one", data=b"kept")
        assert [record.data for record in await log.read(KEY, strict=True)] == [b"kept"]


async def test_nats_syncs_every_write_and_keeps_it_through_sigkill(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        assert await server.version() >= "2.15.1"
        await log_round_trip(server, write=True)
        url, pid = server.url, server.pid
        server.kill()
        assert not server.running
        await server.restart()
        assert server.url == url
        assert server.pid != pid
        await log_round_trip(server, write=False)


async def test_the_object_store_keeps_objects_through_sigkill_and_for_another_server(
    tmp_path: Path, sweeper: Sweeper
) -> None:
    async with s3_server(tmp_path, sweeper) as server:
        await store_round_trip(server, "t/a", write=True)
        endpoint = server.endpoint
        server.kill()
        await server.restart()
        assert server.endpoint == endpoint
        await store_round_trip(server, "t/a", write=False)
    async with s3_server(tmp_path, sweeper) as other:
        await store_round_trip(other, "t/a", write=False)


async def test_only_the_platform_may_use_the_servers(tmp_path: Path) -> None:
    async with NatsServer(tmp_path) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"CONNECT {}\r\nPING\r\n")
        assert b"Authorization Violation" in await reader.read()
        writer.close()
        assert (tmp_path / "password").stat().st_mode & 0o077 == 0
        assert (tmp_path / "nats.conf").stat().st_mode & 0o077 == 0


def test_ports_come_from_where_no_outgoing_connection_takes_one() -> None:
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found = free_ports(20)
    assert len(set(found)) == 20
    assert all(port < first for port in found)


async def test_a_port_that_was_taken_meanwhile_is_chosen_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert not is_free(port)
        choices = iter([[port], free_ports(1)])
        monkeypatch.setattr(servers, "free_ports", lambda _: next(choices))
        async with NatsServer(tmp_path) as server:
            assert server.port != port


async def test_a_port_that_stays_taken_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        monkeypatch.setattr(servers, "free_ports", lambda _: [taken.getsockname()[1]])
        with pytest.raises(PortTaken, match="address already in use"):
            await NatsServer(tmp_path).start()


async def test_a_process_that_fails_says_why(tmp_path: Path) -> None:
    process = stand_in(tmp_path, "fails")
    with pytest.raises(StartFailed, match=r"(?s)gateway ended with status 1.*it was told to fail"):
        await process.start()
    assert not process.running


async def test_a_process_that_never_serves_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "START_SECONDS_MAX", 2.0)
    process = stand_in(tmp_path, "waits")
    with pytest.raises(StartFailed, match="not ready within 2 s"):
        await process.start()
    assert not users_of(tmp_path)


async def test_a_start_that_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    process = stand_in(tmp_path, "waits")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await process.start()
    assert not users_of(tmp_path)


async def test_a_process_that_ignores_sigterm_is_killed_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "STOP_SECONDS_MAX", 0.5)
    process = stand_in(tmp_path, "stays")
    await process.start()
    assert not await process.stop()
    assert not users_of(tmp_path)


async def test_a_process_stops_in_order_and_comes_back_where_it_was(tmp_path: Path) -> None:
    process = stand_in(tmp_path)
    await process.start()
    address, pid = process.address, process.pid
    assert await process.stop()
    await process.start()
    process.kill()
    await process.restart()
    assert (process.address, process.running) == (address, True)
    assert process.pid != pid
    await process.stop()


async def test_a_stack_of_five_and_then_of_one_on_the_same_files(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, serve=STAND_IN) as stack:
        token = stack.token("tenant-1", "someone")
        verifier = TokenVerifier(KeyFile(Path(stack.environment["PK_TOKEN_KEY"]), CLOCK), PUBLIC_AUDIENCE, CLOCK)
        assert verifier.verify(f"Bearer {token}").tenant == "tenant-1"
        assert set(stack.processes) == {"gateway", "page-table", "working-set", "fault-handler", "artifact-storage"}
        assert stack.endpoint == stack.processes["gateway"].address
        for name, variable in (("page-table", "PK_PAGE_TABLE"), ("artifact-storage", "PK_ARTIFACT_STORAGE")):
            assert stack.environment[variable] == stack.processes[name].address
        await log_round_trip(stack.nats, write=True, partitions=PARTITIONS)
        with pytest.raises(StartFailed, match="another launcher"):
            await LocalStack(tmp_path, serve=STAND_IN).__aenter__()
    assert not users_of(tmp_path)
    async with LocalStack(tmp_path, Topology.ONE, serve=STAND_IN) as stack:
        assert set(stack.processes) == {"all"}
        assert stack.endpoint == stack.processes["all"].address
        assert "PK_PAGE_TABLE" not in stack.environment
        assert verifier.verify(f"Bearer {token}").subject == "someone"
        await log_round_trip(stack.nats, write=False, partitions=PARTITIONS)
    assert not users_of(tmp_path)


async def test_two_stacks_at_a_time(tmp_path: Path) -> None:
    one, two = (LocalStack(tmp_path / name, Topology.ONE, serve=STAND_IN) for name in ("one", "two"))
    async with one, two:
        assert one.endpoint != two.endpoint
        await log_round_trip(one.nats, write=True, partitions=PARTITIONS)
        await log_round_trip(two.nats, write=True, partitions=PARTITIONS)


async def test_a_stack_of_which_one_part_fails_leaves_nothing(tmp_path: Path) -> None:
    stack = LocalStack(tmp_path, settings={"STAND_IN": "fault-handler=fails"}, serve=STAND_IN)
    with pytest.raises(StartFailed, match="fault-handler ended with status 1"):
        await stack.__aenter__()
    assert not users_of(tmp_path)


async def test_work_ends_when_a_part_of_the_stack_does(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, Topology.ONE, serve=STAND_IN) as stack:
        assert await stack.watched(asyncio.sleep(0, "done")) == "done"
        stack.processes["all"].kill()
        with pytest.raises(ChildFailed, match="all ended with status -9"):
            await stack.watched(asyncio.sleep(60))


@contextmanager
def launched(directory: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    launcher = subprocess.Popen(
        [sys.executable, str(LAUNCH), str(directory)], stdout=subprocess.PIPE, env={**os.environ, **variables}
    )
    try:
        yield launcher
    finally:
        launcher.kill()
        launcher.communicate()


@pytest.mark.parametrize(
    ("replicas", "nats_servers", "processes"),
    [
        ("", "1", 8),  # the launcher, two servers, five processes
        ("gateway=2", "3", 11),  # two NATS servers and a gateway more
    ],
)
def test_nothing_is_left_when_the_launcher_is_killed(
    tmp_path: Path, replicas: str, nats_servers: str, processes: int
) -> None:
    with launched(tmp_path, REPLICAS=replicas, NATS=nats_servers) as launcher:
        assert launcher.stdout is not None
        assert launcher.stdout.readline() == b"started\n"
        users = users_of(tmp_path)
        assert len(users) == processes
        launcher.send_signal(signal.SIGKILL)
        wait_until(lambda: not users_of(tmp_path), seconds=20)
    wait_until(lambda: not sockets_of(users))


@pytest.mark.parametrize("after_seconds", [0.4, 0.8, 1.2, 1.6, 2.0, 2.4])
def test_nothing_is_left_when_the_launcher_is_killed_while_it_starts(tmp_path: Path, after_seconds: float) -> None:
    with launched(tmp_path) as launcher:
        time.sleep(after_seconds)
        users = users_of(tmp_path)
        launcher.send_signal(signal.SIGKILL)
        wait_until(lambda: not users_of(tmp_path), seconds=20)
    wait_until(lambda: not sockets_of(users))
