"""What a `BlobStore` promises, on the in-memory fake and on every S3 server."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from itertools import count
from pathlib import Path
from random import Random

import pytest

from pagekeeper.local.sweeper import Sweeper
from pagekeeper.runtime.blobs.minio_bucket import MinioBucket
from pagekeeper.runtime.blobs.port import (
    BlobCorrupt,
    BlobMissing,
    BlobRefused,
    BlobUnavailable,
    Bucket,
    ByteRange,
    digest_of,
)
from pagekeeper.runtime.blobs.store import GAP_BYTES_MAX, BlobStore
from tests.contract.bucket_backends import BACKENDS, CLOCK, REAL, Backend, running
from tests.fakes.memory_bucket import MemoryBucket

MIB = 1024 * 1024
CLOCK_STEP_MS = 2_000
"""How far a store's idea of when an object was stored may be from ours: S3 counts seconds."""

_names = count()


@pytest.fixture(scope="module", params=REAL)
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    with running(request.param, tmp_path_factory.mktemp(request.param)) as backend:
        yield backend


@pytest.fixture(scope="module", params=["memory", *REAL])
def open_bucket(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], Bucket]]:
    """Opens a bucket by its name, which does not exist yet, in memory and in every store."""
    if request.param == "memory":
        yield lambda _: MemoryBucket(CLOCK)
        return
    with running(request.param, tmp_path_factory.mktemp(request.param)) as backend:
        yield backend.open_bucket


@pytest.fixture
def bucket(open_bucket: Callable[[str], Bucket]) -> Iterator[Bucket]:
    with closing(open_bucket(f"contract-{next(_names)}")) as bucket:
        yield bucket


@pytest.fixture
async def store(bucket: Bucket) -> BlobStore:
    store = BlobStore(bucket, Random(1))
    await store.ensure_bucket()
    return store


@pytest.fixture
async def real_store(backend: Backend) -> AsyncIterator[BlobStore]:
    with closing(backend.open_bucket(f"contract-{next(_names)}")) as bucket:
        store = BlobStore(bucket, Random(1))
        await store.ensure_bucket()
        yield store


def some_bytes(length: int) -> bytes:
    return Random(length).randbytes(length)


def part(data: bytes, offset: int, length: int) -> ByteRange:
    return ByteRange(offset, length, digest_of(data[offset : offset + length]))


async def put(store: BlobStore, key: str, data: bytes) -> None:
    await store.put(key, data, digest=digest_of(data))


@pytest.mark.parametrize("length", [0, 1, 4096, 5 * MIB, 5 * MIB + 1])
async def test_what_was_put_comes_back(store: BlobStore, length: int) -> None:
    data = some_bytes(length)
    await put(store, "t/s/pages/1", data)
    assert await store.get("t/s/pages/1", digest=digest_of(data)) == data


async def test_every_byte_value_and_every_character_of_a_key_survive(store: BlobStore) -> None:
    data = bytes(range(256)) * 3
    key = "Tenant_1-x/" + "s" * 64 + "/0123456789.ABC_xyz-"
    await put(store, key, data)
    assert await store.get(key, digest=digest_of(data)) == data


async def test_other_bytes_than_asked_for_are_never_returned(store: BlobStore) -> None:
    await put(store, "t/a", b"what was stored")
    with pytest.raises(BlobCorrupt):
        await store.get("t/a", digest=digest_of(b"what was expected"))
    with pytest.raises(BlobCorrupt):
        await store.get_range("t/a", ByteRange(0, 4, digest_of(b"WHAT")))
    with pytest.raises(BlobCorrupt):
        await store.get_ranges("t/a", [part(b"what was stored", 0, 4), ByteRange(5, 3, digest_of(b"WAS"))])


async def test_a_digest_that_is_not_of_the_data_is_not_stored(store: BlobStore) -> None:
    with pytest.raises(ValueError, match="digest"):
        await store.put("t/a", b"data", digest=digest_of(b"other"))
    assert await store.stat("t/a") is None


async def test_what_was_never_put_is_missing(store: BlobStore) -> None:
    with pytest.raises(BlobMissing):
        await store.get("t/none", digest=digest_of(b""))
    with pytest.raises(BlobMissing):
        await store.get_range("t/none", ByteRange(0, 1, digest_of(b"x")))
    assert await store.stat("t/none") is None
    await store.delete("t/none")


async def test_a_put_may_be_repeated(store: BlobStore) -> None:
    for _ in range(3):
        await put(store, "t/again", b"the same")
    assert await store.get("t/again", digest=digest_of(b"the same")) == b"the same"


async def test_deleted_is_missing(store: BlobStore) -> None:
    await put(store, "t/gone", b"soon")
    await store.delete("t/gone")
    await store.delete("t/gone")
    with pytest.raises(BlobMissing):
        await store.get("t/gone", digest=digest_of(b"soon"))
    assert await store.stat("t/gone") is None


async def test_stat_tells_size_time_and_digest(store: BlobStore) -> None:
    before_ms = CLOCK.now_ms()
    await put(store, "t/known", b"12345")
    after_ms = CLOCK.now_ms()
    stat = await store.stat("t/known")
    assert stat is not None
    assert stat.size_bytes == 5
    assert stat.digest == digest_of(b"12345")
    assert before_ms - CLOCK_STEP_MS <= stat.modified_ms <= after_ms + CLOCK_STEP_MS


async def test_ranges_come_back_in_the_order_asked_for(store: BlobStore) -> None:
    data = some_bytes(2 * MIB)
    await put(store, "t/segment", data)
    last = len(data) - 1
    wanted = [
        part(data, last, 1),  # the last byte
        part(data, 0, 1),  # the first
        part(data, 0, len(data)),  # all
        part(data, 100, 50),
        part(data, 120, 50),  # overlaps the one before
        part(data, 100, 50),  # the same again
        part(data, 150 + GAP_BYTES_MAX, 10),  # read along with those before
        part(data, last, 0),  # nothing
        part(data, len(data), 0),  # nothing, at the end
    ]
    assert await store.get_ranges("t/segment", wanted) == [data[p.offset : p.offset + p.length] for p in wanted]
    assert await store.get_ranges("t/segment", []) == []
    assert await store.get_range("t/segment", part(data, last, 1)) == data[-1:]


async def test_random_ranges(store: BlobStore) -> None:
    data, dice = some_bytes(4 * MIB), Random(7)
    await put(store, "t/segment", data)
    wanted = [part(data, dice.randrange(len(data) - 4096), dice.randrange(4096)) for _ in range(200)]
    assert await store.get_ranges("t/segment", wanted) == [data[p.offset : p.offset + p.length] for p in wanted]


async def test_a_range_beyond_the_end_is_corrupt(store: BlobStore) -> None:
    await put(store, "t/short", b"0123456789")
    for offset, length in ((8, 3), (10, 1), (1_000_000, 1)):
        with pytest.raises(BlobCorrupt):
            await store.get_range("t/short", ByteRange(offset, length, digest_of(b"x" * length)))


async def test_thirty_two_at_once(store: BlobStore) -> None:
    async def round_trip(number: int) -> None:
        data = some_bytes(1_000 + number)
        await put(store, f"t/{number}", data)
        assert await store.get(f"t/{number}", digest=digest_of(data)) == data

    async with asyncio.TaskGroup() as tasks:
        for number in range(32):
            tasks.create_task(round_trip(number))


async def test_what_is_no_key_is_refused(store: BlobStore) -> None:
    for key in ("", "/", "/a", "a/", "a//b", "..", "a/../b", "a/./b", "a b", "grün", "a\x00", "a\n", "*", "k" * 513):
        for attempt in (
            store.put(key, b"", digest=digest_of(b"")),
            store.get(key, digest=digest_of(b"")),
            store.get_ranges(key, [ByteRange(0, 1, b"")]),
            store.stat(key),
            store.delete(key),
        ):
            with pytest.raises(ValueError, match="key"):
                await attempt


async def test_a_check_passes_and_leaves_nothing(store: BlobStore) -> None:
    await store.check()


async def test_a_bucket_may_be_ensured_by_several_at_once(bucket: Bucket) -> None:
    store = BlobStore(bucket, Random(1))
    async with asyncio.TaskGroup() as tasks:
        for _ in range(8):
            tasks.create_task(store.ensure_bucket())
    await store.check()
    await store.ensure_bucket()


async def test_without_the_bucket_everything_is_refused(bucket: Bucket) -> None:
    store = BlobStore(bucket, Random(1))
    for attempt in (put(store, "t/a", b"a"), store.get("t/a", digest=digest_of(b"a"))):
        with pytest.raises(BlobRefused):
            await attempt


def test_a_name_that_is_too_short_for_a_bucket_is_refused() -> None:
    with pytest.raises(ValueError, match="3 to 63 characters"):
        MinioBucket("pk", endpoint="127.0.0.1:1", access_key="a", secret_key="b", secure=False, clock=CLOCK)


async def test_wrong_credentials_are_refused_at_once(backend: Backend) -> None:
    with closing(backend.open_as_stranger("contract-credentials")) as bucket, pytest.raises(BlobRefused):
        await BlobStore(bucket, Random(1)).ensure_bucket(timeout_seconds=2)


async def test_a_range_of_text_is_read_as_quickly_as_one_of_noise(real_store: BlobStore) -> None:
    """A store that packed what looks like text would unpack all of it each time."""
    words = [some_bytes(length).hex().encode() for length in range(1, 5)]
    text = b" ".join(Random(1).choices(words, k=400_000))
    assert await seconds_for_a_range(real_store, text) < 3 * await seconds_for_a_range(
        real_store, some_bytes(len(text))
    )


async def seconds_for_a_range(store: BlobStore, data: bytes) -> float:
    """The least of some attempts, which other work on the machine hardly changes."""
    key = f"t/{digest_of(data).hex()}"
    await put(store, key, data)
    seconds = []
    for offset in range(0, 20 * 4096, 4096):
        started = CLOCK.monotonic()
        await store.get_range(key, part(data, offset, 4096))
        seconds.append(CLOCK.monotonic() - started)
    return min(seconds)


async def test_a_body_replaced_behind_our_back_is_corrupt(backend: Backend) -> None:
    with closing(backend.open_bucket(f"contract-{next(_names)}")) as bucket:
        store = BlobStore(bucket, Random(1))
        await store.ensure_bucket()
        await put(store, "t/a", b"0123456789")
        await bucket.write("t/a", b"012345678X", digest=digest_of(b"0123456789"), timeout_seconds=5)
        with pytest.raises(BlobCorrupt):
            await store.get("t/a", digest=digest_of(b"0123456789"))
        assert await store.get_range("t/a", part(b"0123456789", 0, 9)) == b"012345678"


async def test_a_server_that_is_down_is_unavailable_and_then_back(backend: Backend, real_store: BlobStore) -> None:
    await put(real_store, "t/kept", b"kept")
    backend.server.kill()
    try:
        started = CLOCK.monotonic()
        with pytest.raises(BlobUnavailable):
            await put(real_store, "t/down", b"down")
        with pytest.raises(BlobUnavailable):
            await real_store.get("t/kept", digest=digest_of(b"kept"), timeout_seconds=0.2)
        assert CLOCK.monotonic() - started < 5
    finally:
        await backend.server.restart()
    assert await real_store.get("t/kept", digest=digest_of(b"kept")) == b"kept"
    await put(real_store, "t/down", b"down")
    assert await real_store.get("t/down", digest=digest_of(b"down")) == b"down"


async def test_a_server_that_hangs_is_unavailable_by_the_timeout(backend: Backend, real_store: BlobStore) -> None:
    await put(real_store, "t/kept", b"kept")
    os.kill(backend.server.pid, signal.SIGSTOP)
    try:
        wait_until_stopped(backend.server.pid)
        started = CLOCK.monotonic()
        async with asyncio.TaskGroup() as tasks:  # more than there are threads
            for _ in range(40):
                tasks.create_task(expect_unavailable(real_store))
        assert 0.5 <= CLOCK.monotonic() - started < 5
    finally:
        os.kill(backend.server.pid, signal.SIGCONT)
    assert await real_store.get("t/kept", digest=digest_of(b"kept")) == b"kept"


def wait_until_stopped(pid: int) -> None:
    """A signal is on its way for a while, and threads go on meanwhile."""
    tasks = Path(f"/proc/{pid}/task")
    while any((task / "stat").read_text().rpartition(")")[2].split()[0] != "T" for task in tasks.iterdir()):
        time.sleep(0.01)


async def expect_unavailable(store: BlobStore) -> None:
    with pytest.raises(BlobUnavailable):
        await store.get("t/kept", digest=digest_of(b"kept"), timeout_seconds=0.5)


async def test_what_was_acknowledged_survives_a_power_cut(tmp_path: Path) -> None:
    """SeaweedFS never syncs its volume indexes: after a power cut they may be empty."""
    with Sweeper() as sweeper:
        backend = BACKENDS["seaweedfs"](tmp_path, sweeper)
        async with backend.server:
            with closing(backend.open_bucket("power-cut")) as bucket:
                store = BlobStore(bucket, Random(1))
                await store.ensure_bucket()
                for number in range(20):
                    await put(store, f"t/{number}", some_bytes(number))
                await store.delete("t/7")
                backend.server.kill()
                empty_indexes(tmp_path)
                await backend.server.restart()
                for number in range(20):
                    if number != 7:
                        data = await store.get(f"t/{number}", digest=digest_of(some_bytes(number)))
                        assert data == some_bytes(number)
                assert await store.stat("t/7") is None
                await put(store, "t/after", b"after")


def empty_indexes(directory: Path) -> None:
    indexes = list(directory.glob("**/*.idx"))
    assert indexes
    for index in indexes:
        os.truncate(index, 0)
