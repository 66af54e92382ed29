"""The tenants' objects in the object store.

Invariants:
- A key is `<tenant>/<session>/<kind>/<unique>`, and is written with one body, once. What lies under another tenant's
  name is not there: it is neither read nor told apart from what does not exist.
- Bytes are answered only when they have the digest that was asked for; everything else is a reason why not.
- One object that cannot be read harms no other: its ranges have the reason, as long as the store serves others.

Never: a listing, a byte without a digest, a deletion but of the object that `BlobStore.check` has written.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pagekeeper.core.errors import ContentCorrupt, PagekeeperError, PageNotFound, StoreUnavailable
from pagekeeper.core.ids import SessionKey, TenantId, token_of
from pagekeeper.core.pages import Extent
from pagekeeper.runtime.blobs.port import (
    BlobBroken,
    BlobCorrupt,
    BlobError,
    BlobMissing,
    ByteRange,
    check_key,
    digest_of,
)
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.errors import to_public_error

KINDS: Final = frozenset({"pages", "history", "state"})

_log: Final = logging.getLogger(__name__)


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
UNAVAILABLE: Final = Unread(StoreUnavailable)
CHECK_SECONDS: Final = 2.0
"""For each step of finding out whether the store serves other objects than the one that it does not give."""


class Objects:
    """`new_id` names objects: it never answers twice alike, in any process."""

    def __init__(self, blobs: BlobStore, new_id: Callable[[], str]) -> None:
        self._blobs = blobs
        self._new_id = new_id

    async def put(self, key: SessionKey, kind: str, parts: Sequence[bytes]) -> list[Extent]:
        """Store all parts as one object; durable on return. Raises StoreUnavailable."""
        object_key = f"{key.tenant}/{token_of(key.session)}/{kind}/{self._new_id()}"
        data = b"".join(parts)
        try:
            await self._blobs.put(object_key, data, digest=digest_of(data))
        except BlobError as failure:
            raise to_public_error(failure) or failure from failure
        extents = []
        offset = 0
        for part in parts:
            extents.append(Extent(object_key, offset, len(part)))
            offset += len(part)
        return extents

    async def get(self, tenant: TenantId, refs: Sequence[Ref]) -> list[bytes | Unread]:
        """Bytes in the order asked for, each with an outcome of its own; an object is read once for all its ranges.

        An object whose bytes break off at every attempt, in a store that serves others, is corrupt. Raises
        StoreUnavailable when the store serves none.
        """
        found: list[bytes | Unread] = [MISSING] * len(refs)
        by_object: dict[str, list[int]] = {}
        for index, ref in enumerate(refs):
            if _is_of(tenant, ref.extent.object_key):
                by_object.setdefault(ref.extent.object_key, []).append(index)
        try:
            async with asyncio.TaskGroup() as reads:
                tasks = {
                    object_key: reads.create_task(self._read(object_key, [refs[i] for i in indexes], indexes, found))
                    for object_key, indexes in by_object.items()
                }
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        away = {object_key: failure for object_key, task in tasks.items() if (failure := task.result()) is not None}
        if away:
            serves = await self._serves()
            for object_key, failure in away.items():
                if not (serves or len(away) < len(by_object)):
                    raise to_public_error(failure) or failure from failure
                reason = CORRUPT if serves and isinstance(failure, BlobBroken) else UNAVAILABLE
                _log.warning("an object cannot be read: %s", failure, extra={"object": object_key})
                for index in by_object[object_key]:
                    found[index] = reason if found[index] is MISSING else found[index]
        return found

    async def _serves(self) -> bool:
        """Whether the store takes an object and gives it back."""
        try:
            await self._blobs.check(timeout_seconds=CHECK_SECONDS)
        except BlobError:
            return False
        return True

    async def _read(
        self, object_key: str, refs: Sequence[Ref], indexes: Sequence[int], found: list[bytes | Unread]
    ) -> BlobError | None:
        """Put what is read in its places; the answer is why the object cannot be had."""
        ranges = [ByteRange(ref.extent.offset, ref.extent.length, ref.digest) for ref in refs]
        try:
            data: Sequence[bytes | Unread] = await self._blobs.get_ranges(object_key, ranges)
        except BlobMissing:
            return None
        except BlobCorrupt:
            # One of them is, or the way to us spoiled it: each alone tells which, and is read a second time.
            return await self._read_each(object_key, ranges, indexes, found)
        except BlobBroken as broken:
            # It breaks off somewhere: what lies elsewhere in the object may be had.
            return broken if len(ranges) == 1 else await self._read_each(object_key, ranges, indexes, found)
        except BlobError as failure:
            return failure
        for index, one in zip(indexes, data, strict=True):
            found[index] = one
        return None

    async def _read_each(
        self, object_key: str, ranges: Sequence[ByteRange], indexes: Sequence[int], found: list[bytes | Unread]
    ) -> BlobError | None:
        """Each range alone; the answer is why one of them cannot be had."""
        outcomes = await asyncio.gather(*(self._read_alone(object_key, part) for part in ranges))
        for index, outcome in zip(indexes, outcomes, strict=True):
            if not isinstance(outcome, BlobError):
                found[index] = outcome
        return next((outcome for outcome in outcomes if isinstance(outcome, BlobError)), None)

    async def _read_alone(self, object_key: str, part: ByteRange) -> bytes | Unread | BlobError:
        try:
            return await self._blobs.get_range(object_key, part)
        except BlobMissing:
            return MISSING
        except BlobCorrupt:
            return CORRUPT
        except BlobError as failure:
            return failure


def _is_of(tenant: TenantId, object_key: str) -> bool:
    """Whether the tenant may have such a key. A malformed key belongs to no tenant."""
    if not object_key.startswith(f"{tenant}/"):
        return False
    try:
        check_key(object_key)
    except ValueError:
        return False
    return True
