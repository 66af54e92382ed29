"""The tenants' objects in the object store.

Invariants:
- A key is `<tenant>/<session>/<kind>/<unique>`, and is written with one body, once. What lies under another tenant's
  name is not there: it is neither read nor told apart from what does not exist.
- Bytes are answered only when they have the digest that was asked for; everything else is a reason why not.

Never: a listing, a deletion, a byte without a digest.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from pagekeeper.core.errors import ContentCorrupt, PagekeeperError, PageNotFound
from pagekeeper.core.ids import SessionKey, TenantId, token_of
from pagekeeper.core.pages import Extent
from pagekeeper.runtime.blobs.port import BlobCorrupt, BlobError, BlobMissing, ByteRange, check_key, digest_of
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.errors import to_public_error

KINDS: Final = frozenset({"pages", "history", "state"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ref:
    """A byte range and the SHA-256 that it must have."""

    extent: Extent
    digest: bytes


@dataclass(frozen=True, slots=True)
class Unread:
    """Why there are no bytes."""

    error: type[PagekeeperError]


MISSING: Final = Unread(PageNotFound)
CORRUPT: Final = Unread(ContentCorrupt)


class Objects:
    """`new_id` names objects: it never answers twice alike, in any process."""

    def __init__(self, blobs: BlobStore, new_id: Callable[[], str]) -> None:
        self._blobs = blobs
        self._new_id = new_id

    async def put(self, key: SessionKey, kind: str, parts: Sequence[bytes]) -> list[Extent]:
        """Store all parts as one object; durable on return. Raises StoreUnavailable."""
        object_key = f"{key.tenant}/{token_of(key.session)}/{kind}/{self._new_id()}"
        data = b"".join(parts)
        await _from_store(self._blobs.put(object_key, data, digest=digest_of(data)))
        extents = []
        offset = 0
        for part in parts:
            extents.append(Extent(object_key, offset, len(part)))
            offset += len(part)
        return extents

    async def get(self, tenant: TenantId, refs: Sequence[Ref]) -> list[bytes | Unread]:
        """Bytes in the order asked for, each with an outcome of its own; an object is read once for all its ranges.

        Raises StoreUnavailable.
        """
        found: list[bytes | Unread] = [MISSING] * len(refs)
        by_object: dict[str, list[int]] = {}
        for index, ref in enumerate(refs):
            if _is_of(tenant, ref.extent.object_key):
                by_object.setdefault(ref.extent.object_key, []).append(index)
        try:
            async with asyncio.TaskGroup() as reads:
                for object_key, indexes in by_object.items():
                    reads.create_task(self._read(object_key, [refs[i] for i in indexes], indexes, found))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return found

    async def _read(
        self, object_key: str, refs: Sequence[Ref], indexes: Sequence[int], found: list[bytes | Unread]
    ) -> None:
        ranges = [ByteRange(ref.extent.offset, ref.extent.length, ref.digest) for ref in refs]
        try:
            data: Sequence[bytes | Unread] = await _from_store(self._blobs.get_ranges(object_key, ranges))
        except BlobMissing:
            return
        except BlobCorrupt:
            # One of them is, or the way to us spoiled it: each alone tells which, and is read a second time.
            data = [await self._read_alone(object_key, one) for one in ranges]
        for index, one in zip(indexes, data, strict=True):
            found[index] = one

    async def _read_alone(self, object_key: str, part: ByteRange) -> bytes | Unread:
        try:
            return await _from_store(self._blobs.get_range(object_key, part))
        except BlobMissing:
            return MISSING
        except BlobCorrupt:
            return CORRUPT


def _is_of(tenant: TenantId, object_key: str) -> bool:
    """Whether the tenant may have such a key. A malformed key belongs to no tenant."""
    if not object_key.startswith(f"{tenant}/"):
        return False
    try:
        check_key(object_key)
    except ValueError:
        return False
    return True


async def _from_store(asked: Coroutine[Any, Any, T]) -> T:
    """Await the store's answer and raise its failures as public errors, except errors about one object."""
    try:
        return await asked
    except (BlobMissing, BlobCorrupt):
        raise
    except BlobError as error:
        raise to_public_error(error) or error from error
