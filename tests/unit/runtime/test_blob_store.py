"""Laws of `BlobStore` over random ranges and random faults."""

import asyncio
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.runtime.blobs.port import BlobCorrupt, BlobUnavailable, ByteRange, digest_of
from pagekeeper.runtime.blobs.store import GAP_BYTES_MAX, SPAN_BYTES_MAX, BlobStore, join
from tests.fakes.faulty_bucket import Faults, FaultyBucket
from tests.fakes.manual_clock import ManualClock
from tests.fakes.memory_bucket import MemoryBucket

parts = st.lists(
    st.builds(
        ByteRange,
        offset=st.integers(0, 20 * 1024 * 1024),
        length=st.integers(0, 10 * 1024 * 1024) | st.integers(0, 5_000),
        digest=st.just(b""),
    ),
    max_size=30,
)


@given(parts)
def test_joined_spans_hold_every_part_and_little_else(wanted: list[ByteRange]) -> None:
    spans = join(wanted)
    held = sorted(index for span in spans for index in span.indexes)
    assert held == [index for index, part in enumerate(wanted) if part.length]
    for span in spans:
        inside = sorted((wanted[i].offset, wanted[i].offset + wanted[i].length) for i in span.indexes)
        assert span.start == inside[0][0]
        assert span.end == max(end for _, end in inside)
        # Nothing but gaps of the size that is worth reading along.
        reached = span.start
        for start, end in inside:
            assert start - reached <= GAP_BYTES_MAX
            reached = max(reached, end)
        # Only a part that is itself larger makes a larger read.
        assert span.end - span.start <= max(SPAN_BYTES_MAX, *(end - start for start, end in inside))


def test_sixty_four_pages_of_a_segment_are_one_read() -> None:
    page, dice = 4096, Random(3)
    offsets = dice.sample(range(0, 1024 * 1024, page), 64)
    assert len(join([ByteRange(offset, page, b"") for offset in offsets])) == 1


def test_a_range_is_not_negative() -> None:
    for offset, length in ((-1, 1), (1, -1)):
        with pytest.raises(ValueError, match="byte range"):
            join([ByteRange(offset, length, b"")])


FAULTS = Faults(refused=0.1, lost=0.1, cut=0.15, wrong=0.15)


@pytest.mark.parametrize("seed", range(20))
async def test_under_faults_a_read_gives_what_was_stored_or_an_error(seed: int) -> None:
    dice = Random(seed)
    faulty = FaultyBucket(MemoryBucket(ManualClock()), dice, Faults())
    store = BlobStore(faulty, dice)
    await store.ensure_bucket()
    stored = {f"t/{n}": dice.randbytes(dice.randrange(3_000)) for n in range(5)}
    faulty.faults = FAULTS
    for key, data in stored.items():
        await insist_on_put(store, key, data)
    outcomes = {"right": 0, "corrupt": 0, "unavailable": 0}
    for _ in range(30):
        key = dice.choice(list(stored))
        start, end = sorted(dice.randrange(len(stored[key]) + 1) for _ in range(2))
        wanted = stored[key][start:end]
        try:
            found = await store.get_range(key, ByteRange(start, len(wanted), digest_of(wanted)))
        except BlobCorrupt:
            outcomes["corrupt"] += 1
        except BlobUnavailable:
            outcomes["unavailable"] += 1
        else:
            assert found == wanted
            outcomes["right"] += 1
    assert outcomes["right"]
    assert outcomes["corrupt"]
    faulty.faults = Faults()
    for key, data in stored.items():
        assert await store.get(key, digest=digest_of(data)) == data


async def insist_on_put(store: BlobStore, key: str, data: bytes) -> None:
    while True:
        try:
            return await store.put(key, data, digest=digest_of(data))
        except BlobUnavailable:
            continue


async def test_a_store_that_is_stuck_is_unavailable_by_the_timeout() -> None:
    dice = Random(1)
    faulty = FaultyBucket(MemoryBucket(ManualClock()), dice, Faults())
    store = BlobStore(faulty, dice)
    await store.ensure_bucket()
    faulty.faults = Faults(stuck=1.0)
    loop = asyncio.get_running_loop()
    started = loop.time()
    with pytest.raises(BlobUnavailable):
        await store.get("t/a", digest=digest_of(b""), timeout_seconds=0.05)
    assert loop.time() - started < 0.5


async def test_another_body_under_a_key_in_use_is_a_defect() -> None:
    store = BlobStore(MemoryBucket(ManualClock()), Random(1))
    await store.ensure_bucket()
    await store.put("t/a", b"one", digest=digest_of(b"one"))
    with pytest.raises(ValueError, match="in use"):
        await store.put("t/a", b"two", digest=digest_of(b"two"))
