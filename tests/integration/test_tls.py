"""TLS everywhere: what is encrypted answers, what is not is refused, and files are rotated while they are in use."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import grpc
import pytest

from pagekeeper.client import connect, user
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.local.certificates import Certificate, issue
from pagekeeper.local.stack import LocalStack
from pagekeeper.runtime.blobs.minio_bucket import MinioBucket
from pagekeeper.runtime.blobs.port import BlobUnavailable
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.log.connection import Unreachable
from pagekeeper.runtime.log.connection import connect as connect_to_nats
from pagekeeper.runtime.rpc.channel import new_channel
from pagekeeper.runtime.rpc.peers import RESOLVE_SECONDS, open_peers
from pagekeeper.runtime.rpc.probe import SERVING, health_of
from pagekeeper.runtime.rpc.tls import ServerTls, Trust
from tests.integration.rpc_services import Surroundings
from tests.servers import eventually
from tests.stacks import client, new_tenant

UNAVAILABLE = grpc.StatusCode.UNAVAILABLE.name


@pytest.fixture
async def stack(tmp_path: Path) -> AsyncIterator[LocalStack]:
    async with LocalStack(tmp_path, tls=True) as stack:
        yield stack


async def answers(stack: LocalStack, ca: Path | None) -> bool:
    """Tell whether the gateway answers a caller with a token who believes these authorities."""
    async with connect(stack.endpoint, stack.token(new_tenant("t")), call_seconds=3.0, ca=ca) as pagekeeper:
        try:
            await pagekeeper.open_session()
        except PagekeeperError:
            return False
    return True


def authority_of(certificate: Certificate, other: Path) -> Path:
    """A copy of a certificate's authority, in another file."""
    return Path(shutil.copy(certificate.ca, other))


async def shown_by(address: str) -> bytes:
    """The certificate that a server shows, whoever has signed it."""
    host, _, port = address.rpartition(":")
    return (await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))).encode()


async def bucket_of_stack(stack: LocalStack, ca: Path | None) -> None:
    """Ask the object store whether the bucket is there, as one who believes these authorities."""
    s3 = stack.s3
    bucket = MinioBucket(
        stack.environment["PK_S3_BUCKET"],
        endpoint=s3.endpoint,
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        secure=True,
        clock=SystemClock(),
        ca=ca,
    )
    with closing(bucket):
        await bucket.ensure(timeout_seconds=5.0)


async def test_a_stack_speaks_tls_and_nothing_else(stack: LocalStack, tmp_path: Path) -> None:
    async with client(stack, new_tenant("alice")) as pagekeeper:
        session = await pagekeeper.open_session()
        appended = await session.append(user("Remember the lantern."))
        await session.flush()
        assert await session.read(appended.pages[0].page_id) == b"Remember the lantern."
        assert "lantern" in (await session.assemble()).messages[-1].content
    assert not await answers(stack, None), "a caller without TLS"
    assert not await answers(stack, issue(tmp_path / "others").ca), "a caller who believes somebody else"
    for process in stack.processes.values():
        assert await health_of(process.address) == UNAVAILABLE
        assert await health_of(process.address, ca=stack.ca) == SERVING
    assert stack.nats.url.startswith("tls://")
    assert await shown_by(stack.s3.endpoint) != await shown_by(stack.endpoint), "each has a certificate"
    for wrong in (stack.ca, None):
        with pytest.raises(Unreachable):
            async with connect_to_nats([stack.nats.url], name="test", timeout_seconds=2.0, ca=wrong):
                pass
        with pytest.raises(BlobUnavailable, match="certificate verify failed"):
            await bucket_of_stack(stack, wrong)
    await bucket_of_stack(stack, Path(stack.environment["PK_S3_CA"]))


async def test_a_certificate_is_rotated_under_a_running_stack(stack: LocalStack, tmp_path: Path) -> None:
    """Every process takes it up, servers and callers; the old authority is believed no more."""
    assert stack.ca is not None
    old = Path(shutil.copy(stack.ca, tmp_path / "old-ca.pem"))
    before = await shown_by(stack.endpoint)
    async with client(stack, new_tenant("alice")) as pagekeeper:
        session = await pagekeeper.open_session()
        issue(stack.ca.parent)

        async def rotated() -> bool:
            return all([await shown_by(process.address) != before for process in stack.processes.values()])

        await eventually(rotated)
        assert await answers(stack, stack.ca)
        assert not await answers(stack, old)
        await session.append(user("The connection of before goes on."))
    async with client(stack, new_tenant("bob")) as pagekeeper:
        session = await pagekeeper.open_session()
        await session.append(user("And a new one is made."))
        await session.flush()


async def test_a_server_shows_the_certificate_of_now(tmp_path: Path) -> None:
    certificate = issue(tmp_path)
    old = authority_of(certificate, tmp_path / "old.pem")
    surroundings = Surroundings(tmp_path)
    tls = ServerTls(certificate.certificate, certificate.key)
    async with surroundings.server({}, tls=tls) as server:
        address = f"127.0.0.1:{server.port}"
        assert await health_of(address, ca=certificate.ca) == SERVING
        issue(tmp_path)
        assert await health_of(address, ca=certificate.ca) == SERVING
        assert await health_of(address, ca=old) == UNAVAILABLE
        assert await health_of(address) == UNAVAILABLE
        certificate.key.write_text("no key")
        assert await health_of(address, ca=certificate.ca) == SERVING, "the last pair stays in force"


async def test_a_caller_takes_up_a_new_authority(tmp_path: Path) -> None:
    ours, others = issue(tmp_path / "ours"), issue(tmp_path / "others")
    believed = authority_of(others, tmp_path / "believed.pem")
    surroundings = Surroundings(tmp_path)
    async with surroundings.server({}, tls=ServerTls(ours.certificate, ours.key)) as server:
        address = f"127.0.0.1:{server.port}"
        async with open_peers(address, surroundings.clock, warm_up_seconds=RESOLVE_SECONDS / 2, ca=believed) as peers:
            with pytest.raises(PagekeeperError):
                await peers.check()
            authority_of(ours, believed)

            async def believes() -> bool:
                try:
                    await peers.check()
                except PagekeeperError:
                    return False
                return True

            await eventually(believes)


async def test_a_certificate_is_for_the_name_that_was_asked_for(tmp_path: Path) -> None:
    certificate = issue(tmp_path)
    surroundings = Surroundings(tmp_path)
    async with surroundings.server({}, tls=ServerTls(certificate.certificate, certificate.key)) as server:
        trust = Trust(certificate.ca).credentials()
        for authority, code in (("localhost:1", None), ("page-table.example:1", UNAVAILABLE)):
            async with new_channel(f"ipv4:127.0.0.1:{server.port}", authority, trust) as channel:
                assert await code_of(channel) == code


async def code_of(channel: grpc.aio.Channel) -> str | None:
    """The status of a health check; None when it is answered."""
    ask: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/grpc.health.v1.Health/Check")
    try:
        await ask(b"", timeout=5)
    except grpc.aio.AioRpcError as error:
        return str(error.code().name)
    return None


def test_files_that_are_no_pair_stop_the_start(tmp_path: Path) -> None:
    one, two = issue(tmp_path / "one"), issue(tmp_path / "two")
    with pytest.raises(CannotStart, match="are no certificate and its key"):
        ServerTls(one.certificate, two.key)
    with pytest.raises(CannotStart, match="cannot be read: No such file"):
        ServerTls(one.certificate, tmp_path / "none.pem")
    with pytest.raises(CannotStart, match="holds no certificates of authorities"):
        Trust(one.key)


async def test_reflection_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    surroundings = Surroundings(tmp_path)
    for reflection, code in ((False, grpc.StatusCode.UNAUTHENTICATED), (True, grpc.StatusCode.OK)):
        async with (
            surroundings.server({}, reflection=reflection) as server,
            new_channel(f"127.0.0.1:{server.port}", "localhost:1", None) as channel,
        ):
            path = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            call: grpc.aio.StreamStreamCall[bytes, bytes] = channel.stream_stream(path)(timeout=5)
            await call.done_writing()
            assert await call.code() == code, "without reflection, what any unknown method answers a stranger"
