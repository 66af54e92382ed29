"""Bytes come back as they were or not at all, and to nobody but their tenant."""

import asyncio
from hashlib import sha256
from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.errors import ContentCorrupt, ContentTooLarge, InvalidField, StoreUnavailable
from pagekeeper.runtime.artifacts import ArtifactBlobReader
from pagekeeper.runtime.blobs.port import (
    BlobBroken,
    BlobCorrupt,
    BlobError,
    BlobMissing,
    BlobRefused,
    BlobUnavailable,
    Bucket,
)
from pagekeeper.runtime.extents import extent_message
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb
from pagekeeper.v1 import error_reason_pb2, page_pb2
from tests.fakes.faulty_bucket import Faults
from tests.unit.stack import TENANT, Replica, Stores, caller, key, ready

MISSING = error_reason_pb2.ERROR_REASON_PAGE_NOT_FOUND
CORRUPT = error_reason_pb2.ERROR_REASON_CONTENT_CORRUPT
UNAVAILABLE = error_reason_pb2.ERROR_REASON_STORE_UNAVAILABLE


async def put(replica: Replica, *blobs: bytes, tenant: str = TENANT) -> list[artifact_pb.BlobRef]:
    request = artifact_pb.PutBlobsRequest(session_id="s1", blobs=blobs, kind="pages")
    response = await replica.artifacts.put_blobs(caller(tenant), request)
    return [
        artifact_pb.BlobRef(extent=extent, digest=sha256(blob).digest())
        for extent, blob in zip(response.extents, blobs, strict=True)
    ]


async def get(replica: Replica, *refs: artifact_pb.BlobRef, tenant: str = TENANT) -> list[artifact_pb.BlobItem]:
    request = artifact_pb.GetBlobsRequest(refs=refs)
    return list((await replica.artifacts.get_blobs(caller(tenant), request)).items)


@settings(max_examples=60)
@given(st.lists(st.lists(st.binary(max_size=300), min_size=1, max_size=5), min_size=1, max_size=4), st.randoms())
def test_what_was_put_is_got_in_any_order(puts: list[list[bytes]], random: Random) -> None:
    async def play() -> None:
        replica = Replica(await ready(Stores()))
        stored = [(blob, ref) for blobs in puts for blob, ref in zip(blobs, await put(replica, *blobs), strict=True)]
        asked = [random.choice(stored) for _ in range(2 * len(stored))]
        items = await get(replica, *(ref for _, ref in asked))
        assert [item.data for item in items] == [blob for blob, _ in asked]
        assert {item.failure for item in items} == {0}

    asyncio.run(play())


@settings(max_examples=60)
@given(
    st.lists(st.binary(min_size=1, max_size=2_000), min_size=1, max_size=8),
    st.sampled_from((Faults(wrong=0.5), Faults(cut=0.5), Faults(wrong=0.3, cut=0.3))),
    st.integers(0, 1_000),
)
def test_a_wrong_byte_is_never_served(blobs: list[bytes], faults: Faults, seed: int) -> None:
    async def play() -> None:
        stores = await ready(Stores(seed=seed))
        replica = Replica(stores)
        refs = await put(replica, *blobs)
        stores.bucket.faults = faults
        for _ in range(5):
            for item, blob in zip(await get(replica, *refs), blobs, strict=True):
                assert item.failure in {0, MISSING, CORRUPT}
                assert item.data == (b"" if item.failure else blob)

    asyncio.run(play())


async def test_one_wrong_part_does_not_take_the_others_along() -> None:
    replica = Replica(await ready(Stores()))
    refs = await put(replica, b"first", b"second", b"third")
    refs[1].digest = sha256(b"another").digest()
    items = await get(replica, *refs)
    assert [item.failure for item in items] == [0, CORRUPT, 0]
    assert [item.data for item in items] == [b"first", b"", b"third"]


class BadObjects:
    """A bucket of which some objects cannot be read, in one way or another; all others can."""

    def __init__(self, inner: Bucket) -> None:
        self._inner = inner
        self.bad: dict[str, BlobError] = {}
        self.all_fail: BlobError | None = None
        self.write, self.stat, self.delete = inner.write, inner.stat, inner.delete
        self.ensure, self.close = inner.ensure, inner.close

    async def read(self, key: str, *, timeout_seconds: float) -> bytes:
        if self.all_fail is not None:
            raise self.all_fail
        return await self._inner.read(key, timeout_seconds=timeout_seconds)

    async def read_part(self, key: str, offset: int, length: int, *, timeout_seconds: float) -> bytes:
        failure = self.all_fail or self.bad.get(key)
        if failure is not None:
            raise failure
        return await self._inner.read_part(key, offset, length, timeout_seconds=timeout_seconds)


FAILURES: Final = {
    BlobBroken("broke off"): CORRUPT,
    BlobCorrupt("another digest"): CORRUPT,
    BlobMissing("gone"): MISSING,
    BlobUnavailable("500"): UNAVAILABLE,
}


@settings(max_examples=10, deadline=None)
@given(st.lists(st.sampled_from([None, *FAILURES]), min_size=1, max_size=5), st.integers(1, 3))
def test_an_object_that_cannot_be_read_harms_no_other(outcomes: list[BlobError | None], parts: int) -> None:
    async def play() -> None:
        stores = await ready(Stores())
        stores.bucket = bucket = BadObjects(stores.bucket)  # type: ignore[assignment] # the same port
        replica = Replica(stores)
        wanted: list[tuple[artifact_pb.BlobRef, bytes, BlobError | None]] = []
        for number, outcome in enumerate(outcomes):
            blobs = [f"object {number} part {part}".encode() for part in range(parts)]
            refs = await put(replica, *blobs)
            if outcome is not None:
                bucket.bad[refs[0].extent.object_key] = outcome
            wanted += [(ref, blob, outcome) for ref, blob in zip(refs, blobs, strict=True)]
        items = await get(replica, *(ref for ref, _, _ in wanted))
        for item, (_, blob, outcome) in zip(items, wanted, strict=True):
            assert (item.data, item.failure) == ((blob, 0) if outcome is None else (b"", FAILURES[outcome]))

    asyncio.run(play())


@pytest.mark.parametrize("failure", [BlobBroken("broke off"), BlobUnavailable("500"), BlobRefused("no such bucket")])
async def test_a_store_that_serves_nothing_is_unavailable_and_calls_no_object_corrupt(failure: BlobError) -> None:
    stores = await ready(Stores())
    stores.bucket = bucket = BadObjects(stores.bucket)  # type: ignore[assignment] # the same port
    replica = Replica(stores)
    refs = [*await put(replica, b"one"), *await put(replica, b"two")]
    bucket.all_fail = failure
    with pytest.raises(StoreUnavailable):
        await get(replica, *refs)
    with pytest.raises(StoreUnavailable):
        await get(replica, refs[0])


async def test_another_tenants_bytes_do_not_exist() -> None:
    replica = Replica(await ready(Stores()))
    [ref] = await put(replica, b"secret")
    [missing] = await get(replica, artifact_pb.BlobRef(extent=page_pb2.Extent(object_key="foreign/s1/pages/none")))
    [foreign] = await get(replica, ref, tenant="foreign")
    assert foreign == missing == artifact_pb.BlobItem(failure=MISSING)


@pytest.mark.parametrize(
    "object_key",
    [
        "",
        "acme",
        "acme/",
        "acme/../foreign/s1/pages/x",
        "acme//x",
        "acmeX/s1/pages/0",
        "acme/\x00",
        "acme/*",
        "/acme/s1",
    ],
)
async def test_a_key_that_is_none_is_not_found(object_key: str) -> None:
    replica = Replica(await ready(Stores()))
    extent = page_pb2.Extent(object_key=object_key, length=1)
    [item] = await get(replica, artifact_pb.BlobRef(extent=extent, digest=b"x" * 32))
    assert item.failure == MISSING


async def test_a_range_beyond_the_end_is_corrupt() -> None:
    replica = Replica(await ready(Stores()))
    [ref] = await put(replica, b"short")
    for offset, length in ((0, 9), (4, 2), (100, 1), (2**63, 1)):
        ref.extent.offset, ref.extent.length = offset, length
        assert [item.failure for item in await get(replica, ref)] == [CORRUPT]


async def test_what_is_too_much_for_one_message_is_refused() -> None:
    replica = Replica(await ready(Stores()))
    with pytest.raises(ContentTooLarge):
        await put(replica, b"x" * (5 << 20), b"x" * (4 << 20))
    huge = artifact_pb.BlobRef(extent=page_pb2.Extent(object_key="acme/s1/pages/0", length=2**63))
    with pytest.raises(ContentTooLarge):
        await get(replica, huge)
    for refused in (
        artifact_pb.PutBlobsRequest(session_id="s1", kind="pages"),
        artifact_pb.PutBlobsRequest(session_id="s1", blobs=[b"x"], kind="../other"),
        artifact_pb.PutBlobsRequest(session_id="../s*1", blobs=[b"x"], kind="pages"),
    ):
        with pytest.raises(InvalidField):
            await replica.artifacts.put_blobs(caller(), refused)
    with pytest.raises(InvalidField):
        await replica.artifacts.get_blobs(caller(), artifact_pb.GetBlobsRequest())


async def test_the_folds_of_other_processes_read_through_the_service() -> None:
    replica = Replica(await ready(Stores()))
    [ref] = await put(replica, b"state")
    reader = ArtifactBlobReader(replica.artifacts)
    extent = (await replica.objects.put(key("s1"), "state", [b"state"]))[0]
    assert await reader.read_blob(key("s1"), extent, ref.digest) == b"state"
    with pytest.raises(ContentCorrupt):
        await reader.read_blob(key("s1"), extent, sha256(b"other").digest())
    with pytest.raises(ContentCorrupt):
        await reader.read_blob(key("s1", "foreign"), extent, ref.digest)
    assert extent_message(extent).object_key.startswith("acme/s1/state/")
