"""Other users of the machine: what a stack keeps, says and serves is not for them."""

import http.client
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from pagekeeper.local.servers import SeaweedServer, secret_in
from pagekeeper.local.stack import LocalStack, Topology
from pagekeeper.local.sweeper import Sweeper
from tests.integration.launch import STAND_IN
from tests.integration.leavings import users_of
from tests.integration.test_local_stack import store_round_trip
from tests.servers import eventually

OTHERS = 0o077
# `store_round_trip` stores `t/a` in the bucket `kept`.
PATHS = ("/buckets/kept/t/a", "/buckets/kept/t/?pretty=y", "/", "/kept/t/a", "/dir/lookup?volumeId=1", "/dir/status")
STRANGER = ssl.create_default_context()
STRANGER.check_hostname = False
STRANGER.verify_mode = ssl.CERT_NONE


@pytest.fixture
def sweeper() -> Iterator[Sweeper]:
    with Sweeper() as sweeper:
        yield sweeper


def answer(connection: http.client.HTTPConnection, path: str) -> tuple[int, bytes]:
    """The status and the body of an answer; 0 when the server ends the connection instead."""
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def ports_of(pid: int) -> set[int]:
    """Ports that a process listens on, whichever it was told to."""
    inodes = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    fields = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return {
        int(field[1].partition(":")[2], 16) for field in fields if field[3] == "0A" and f"socket:[{field[9]}]" in inodes
    }


def unix_sockets_of(pid: int) -> list[Path]:
    inodes = {file.readlink().name.strip("socket:[]") for file in Path(f"/proc/{pid}/fd").iterdir()}
    lines = (line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:])
    return [Path(line[7]) for line in lines if len(line) > 7 and line[6] in inodes]


def open_to_others(path: Path) -> None:
    path.chmod(0o755)


def is_open_to_others(path: Path) -> bool:
    return path.stat().st_mode & OTHERS != 0


async def test_objects_are_had_with_the_credentials_of_s3_alone(tmp_path: Path, sweeper: Sweeper) -> None:
    """From every port that the server listens on, with HTTP and with TLS that shows no certificate."""
    async with SeaweedServer(tmp_path, sweeper) as server:
        await store_round_trip(server, "t/a", write=True)
        ports = ports_of(server.pid)
        assert len(ports) >= 10
        for port in ports:
            for path in PATHS:
                for connection in (
                    http.client.HTTPConnection("127.0.0.1", port, timeout=5),
                    http.client.HTTPSConnection("127.0.0.1", port, timeout=5, context=STRANGER),
                ):
                    status, body = answer(connection, path)
                    assert status == 0 or status >= 400, (port, path, body)


async def test_the_parts_of_the_object_store_speak_to_no_stranger_over_grpc(tmp_path: Path, sweeper: Sweeper) -> None:
    lookup = "/filer_pb.SeaweedFiler/GetFilerConfiguration"
    async with SeaweedServer(tmp_path, sweeper) as server:
        for port in ports_of(server.pid) - {server.port}:
            async with grpc.aio.insecure_channel(
                f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)]
            ) as channel:
                ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(lookup)
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await ask(b"", timeout=5)
                assert refused.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_only_its_user_reaches_what_the_object_store_leaves(tmp_path: Path, sweeper: Sweeper) -> None:
    """Its sockets in /tmp, which speak HTTP without TLS, and its files, in a directory that was open to all."""
    open_to_others(tmp_path)
    async with SeaweedServer(tmp_path, sweeper) as server:
        await store_round_trip(server, "t/a", write=True)
        sockets = unix_sockets_of(server.pid)
        assert sockets
        assert not [path for path in sockets if is_open_to_others(path)]
        assert not is_open_to_others(tmp_path)


async def test_a_stack_keeps_its_directory_to_itself(tmp_path: Path) -> None:
    """Also one that was there, open to all."""
    directory = tmp_path
    open_to_others(directory)
    async with LocalStack(directory, Topology.ONE, serve=STAND_IN) as stack:
        assert not is_open_to_others(directory)
        secrets = [stack.s3.secret_key, stack.nats.url, stack.nats.url.partition(":")[2].partition("@")[0]]
        secrets += [secret_in(Path(stack.environment[name])) for name in ("PK_TOKEN_KEY", "PK_INTERNAL_KEY")]
        users = users_of(directory)
        assert len(users) == 3  # two servers, one process
        assert not [user for user in users if any(secret in user for secret in secrets)]
        assert not is_open_to_others(directory / "logs" / "all.log")


async def test_each_start_has_an_authority_of_its_own(tmp_path: Path, sweeper: Sweeper) -> None:
    async with SeaweedServer(tmp_path, sweeper) as server:
        ca = tmp_path / "tls" / "ca.pem"
        first = secret_in(ca)
        await server.restart()
        assert secret_in(ca) != first
        await store_round_trip(server, "t/a", write=True)

        async def listens() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", server.port)) == 0

        await eventually(listens)
