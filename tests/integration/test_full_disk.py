"""A NATS server whose disk is full: what it refuses, what it drops, and that writing goes on when there is space.

A disk of a few megabytes is a tmpfs, which only root may mount.
"""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from pagekeeper.core.ids import session_key
from pagekeeper.local.healing import heal
from pagekeeper.local.servers import NatsServer as LocalNats
from pagekeeper.runtime.log.connection import connect
from pagekeeper.runtime.log.nats_log import NatsLog
from pagekeeper.runtime.log.port import NoRoom
from pagekeeper.runtime.log.streams import Capacity, make_streams
from tests.servers import NatsServer, eventually, running

MEBIBYTE = 1024**2
DISK_BYTES = 24 * MEBIBYTE
KEY = session_key("acme", "disk")
RECORD = b"x" * 100_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "disk"
    directory.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if mount is None or unmount is None:
        pytest.skip("a disk cannot be mounted here")
    asked = [mount, "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "pagekeeper-test", str(directory)]
    if subprocess.run(asked, check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("only root may mount a disk")
    try:
        yield directory
    finally:
        subprocess.run([unmount, str(directory)], check=True)


@contextmanager
def full(disk: Path, *, left_bytes: int) -> Iterator[None]:
    """A disk that others have filled but for `left_bytes`, for the block."""
    state, ballast = os.statvfs(disk), disk / "ballast"
    ballast.write_bytes(bytes(max(state.f_bavail * state.f_frsize - left_bytes, 0)))
    try:
        yield
    finally:
        ballast.unlink()


@asynccontextmanager
async def log_on(server: NatsServer | LocalNats) -> AsyncIterator[NatsLog]:
    capacity = Capacity(log_bytes_max=12 * MEBIBYTE, work_bytes_max=MEBIBYTE, dead_bytes_max=MEBIBYTE)
    async with connect([server.url], name="test") as connection:
        await make_streams(connection, partitions=1, capacity=capacity)
        yield NatsLog(connection, partitions=1)


async def test_a_full_disk_is_a_full_log_until_the_server_has_started_again(disk: Path) -> None:
    with running(NatsServer(disk)) as server:
        async with log_on(server) as log:
            revisions = [0]
            with full(disk, left_bytes=350_000), pytest.raises(NoRoom, match="disk"):  # noqa: PT012
                for number in range(10):
                    revisions.append(
                        await log.append(KEY, expected_revision=revisions[-1], operation_id=f"op{number}", data=RECORD)
                    )
            kept = len(revisions)
            assert 1 < kept < 10
            clock = asyncio.get_running_loop()
            for number in range(20):
                began = clock.time()
                with pytest.raises(NoRoom, match="started again"):
                    await log.append(
                        KEY,
                        expected_revision=revisions[-1],
                        operation_id=f"after{number}",
                        data=b"x",
                        timeout_seconds=9,
                    )
                assert clock.time() - began < 9
            server.kill()
            server.start()
            await eventually(lambda: takes(log, revisions))
            assert [record.revision for record in await log.read(KEY, strict=True)] == revisions[1:]
            assert len(revisions) == kept + 1


async def test_the_launcher_starts_the_server_again_when_the_disk_has_space(disk: Path) -> None:
    async with LocalNats(disk / "nats") as server:
        assert not await heal(server)
        async with log_on(server) as log:
            revisions = [0]
            with full(disk, left_bytes=350_000):
                with pytest.raises(NoRoom, match="disk"):  # noqa: PT012
                    while True:
                        revisions.append(
                            await log.append(
                                KEY, expected_revision=revisions[-1], operation_id=f"op{len(revisions)}", data=RECORD
                            )
                        )
                assert not await heal(server)
            kept = len(revisions)
            assert await heal(server)
            await eventually(lambda: takes(log, revisions))
            assert not await heal(server)
            assert [record.revision for record in await log.read(KEY, strict=True)] == revisions[1:]
            assert len(revisions) == kept + 1


async def takes(log: NatsLog, revisions: list[int]) -> bool:
    """Whether the log takes one more record."""
    try:
        revisions.append(await log.append(KEY, expected_revision=revisions[-1], operation_id="again", data=RECORD))
    except NoRoom:
        return False
    return True
