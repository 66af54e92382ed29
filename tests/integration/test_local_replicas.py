"""Several replicas of every service and three NATS servers, as the launcher starts them."""

import asyncio
import re
from pathlib import Path

import pytest

from pagekeeper.client import assistant, connect, user
from pagekeeper.core.ids import session_key
from pagekeeper.local.child import StartFailed, stop_all
from pagekeeper.local.nats_cluster import NatsCluster
from pagekeeper.local.stack import LocalStack, Topology
from pagekeeper.runtime.log.connection import connect as connect_to_nats
from pagekeeper.runtime.log.connection import now
from pagekeeper.runtime.log.jetstream import ask
from pagekeeper.runtime.log.nats_log import NatsLog
from pagekeeper.runtime.log.server_checks import check_server
from pagekeeper.runtime.log.streams import Capacity, make_streams
from tests.integration.launch import STAND_IN
from tests.integration.leavings import users_of
from tests.stacks import new_tenant

KEY = session_key("t", "s")
SMALL = Capacity(replicas=3, log_bytes_max=16 * 1024**2, work_bytes_max=1024**2, dead_bytes_max=1024**2)


async def test_a_service_has_as_many_processes_as_asked_for(tmp_path: Path) -> None:
    replicas = {"gateway": 2, "fault-handler": 3}
    async with LocalStack(tmp_path, serve=STAND_IN, replicas=replicas) as stack:
        assert sorted(stack.processes) == [
            "artifact-storage",
            "fault-handler",
            "fault-handler-2",
            "fault-handler-3",
            "gateway",
            "gateway-2",
            "page-table",
            "working-set",
        ]
        addresses = {name: process.address for name, process in stack.processes.items()}
        assert len(set(addresses.values())) == len(addresses)
        assert stack.endpoint == f"{addresses['gateway']},{addresses['gateway-2']}"
        of_fault_handler = [address for name, address in addresses.items() if name.startswith("fault-handler")]
        assert stack.environment["PK_FAULT_HANDLER"] == ",".join(of_fault_handler)
        assert stack.environment["PK_PAGE_TABLE"] == addresses["page-table"]
        assert (tmp_path / "logs" / "gateway-2.log").exists()
        assert len(users_of(tmp_path)) == 10  # two servers, eight processes
    assert not users_of(tmp_path)


async def test_the_one_process_may_run_several_times(tmp_path: Path) -> None:
    async with LocalStack(tmp_path, Topology.ONE, serve=STAND_IN, replicas={"all": 2}) as stack:
        assert list(stack.processes) == ["all", "all-2"]
        assert stack.endpoint == f"{stack.processes['all'].address},{stack.processes['all-2'].address}"
    assert not users_of(tmp_path)


async def test_a_replica_that_fails_ends_all(tmp_path: Path) -> None:
    settings = {"STAND_IN": "fault-handler=fails"}
    stack = LocalStack(tmp_path, settings=settings, serve=STAND_IN, replicas={"fault-handler": 2}, nats_servers=3)
    with pytest.raises(StartFailed, match=r"fault-handler.* ended with status 1"):
        await stack.__aenter__()
    assert not users_of(tmp_path)


async def test_a_cluster_keeps_the_log_while_one_server_is_down(tmp_path: Path) -> None:
    cluster = NatsCluster(tmp_path, 3)
    await cluster.start()
    try:
        assert [server.name for server in cluster.servers] == ["nats-server-1", "nats-server-2", "nats-server-3"]
        async with connect_to_nats(cluster.url.split(","), name="test") as connection:
            await check_server(connection)
            await make_streams(connection, partitions=1, capacity=SMALL)
            log = NatsLog(connection, partitions=1)
            revision = await log.append(KEY, expected_revision=0, operation_id="one", data=b"kept")
            stream = await ask(connection, "STREAM.INFO.PK_LOG_0", {}, deadline=now() + 10)
            assert len(stream["cluster"]["replicas"]) == 2
            leader = next(server for server in cluster.servers if server.name == stream["cluster"]["leader"])
            leader.kill()
            await log.append(KEY, expected_revision=revision, operation_id="two", data=b"kept too", timeout_seconds=20)
            await leader.restart()
            assert [record.data for record in await log.read(KEY, strict=True)] == [b"kept", b"kept too"]
    finally:
        await stop_all(cluster.servers)
    assert not users_of(tmp_path)


async def test_nobody_joins_the_cluster_without_the_password(tmp_path: Path) -> None:
    cluster = NatsCluster(tmp_path, 3)
    await cluster.start()
    try:
        for server in cluster.servers:
            assert (server.directory / "nats.conf").stat().st_mode & 0o077 == 0
            configuration = (server.directory / "nats.conf").read_text()
            listen = re.search(r'cluster \{[^}]*?listen: "127.0.0.1:(\d+)"', configuration)
            assert listen is not None
            reader, writer = await asyncio.open_connection("127.0.0.1", int(listen[1]))
            writer.write(b'CONNECT {"verbose":false,"name":"intruder","cluster":"pagekeeper"}\r\nPING\r\n')
            assert b"Authorization Violation" in await reader.read()
            writer.close()
    finally:
        await stop_all(cluster.servers)


@pytest.mark.parametrize(
    ("first", "second", "said"), [(1, 3, "of 1 NATS server, not of 3"), (3, 1, "of 3 NATS servers, not of 1")]
)
async def test_a_directory_keeps_the_size_of_its_cluster(tmp_path: Path, first: int, second: int, said: str) -> None:
    for _ in range(2):
        cluster = NatsCluster(tmp_path, first)
        await cluster.start()
        await stop_all(cluster.servers)
    with pytest.raises(StartFailed, match=f"{said}: start with NATS={first}, or with another DATA_DIR"):
        await NatsCluster(tmp_path, second).start()
    assert not users_of(tmp_path)


async def test_every_replica_serves_and_every_append_is_on_three_servers(tmp_path: Path) -> None:
    replicas = {"gateway": 2, "page-table": 2}
    async with LocalStack(tmp_path, replicas=replicas, nats_servers=3) as stack:
        for _ in range(4):
            async with connect(stack.endpoint, stack.token(new_tenant("replicas"))) as pagekeeper:
                for _ in range(4):
                    session = await pagekeeper.open_session()
                    await session.append(user("Where does the heron nest?"), assistant("In the tallest alder."))
                    prompt = await session.assemble()
                    assert any("In the tallest alder." in message.content for message in prompt.messages)
        for name in ("gateway", "gateway-2", "page-table", "page-table-2"):
            assert '"message": "call"' in stack.processes[name].log_path.read_text(), name
        async with connect_to_nats([stack.nats.url], name="test") as connection:
            for partition in range(4):
                stream = await ask(connection, f"STREAM.INFO.PK_LOG_{partition}", {}, deadline=now() + 10)
                assert stream["config"]["num_replicas"] == 3
    assert not users_of(tmp_path)
