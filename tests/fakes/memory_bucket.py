"""A bucket in memory, for tests and simulations. It passes the contract suite of the real ones.

It is stricter than they are in one thing: another body under a key that is in use is refused with ValueError, where S3
would replace the first without a word.
"""

from pagekeeper.runtime.blobs.port import BlobCorrupt, BlobMissing, BlobRefused, BlobStat
from pagekeeper.runtime.clock import Clock


class MemoryBucket:
    """A `Bucket` that forgets everything with the process. Never waits, so no operation is unavailable."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._objects: dict[str, tuple[bytes, BlobStat]] = {}
        self._exists = False

    async def write(self, key: str, data: bytes, *, digest: bytes, timeout_seconds: float) -> None:
        del timeout_seconds
        self._check_exists()
        if key in self._objects and self._objects[key][0] != data:
            raise ValueError(f"{key} is in use; a key is written with one body only")
        self._objects[key] = (bytes(data), BlobStat(len(data), self._clock.now_ms(), digest))

    async def read(self, key: str, *, timeout_seconds: float) -> bytes:
        del timeout_seconds
        self._check_exists()
        if key not in self._objects:
            raise BlobMissing(key)
        return self._objects[key][0]

    async def read_part(self, key: str, offset: int, length: int, *, timeout_seconds: float) -> bytes:
        data = await self.read(key, timeout_seconds=timeout_seconds)
        if offset >= len(data):
            raise BlobCorrupt(f"{key} ends before {offset:,}")
        return data[offset : offset + length]

    async def stat(self, key: str, *, timeout_seconds: float) -> BlobStat | None:
        del timeout_seconds
        self._check_exists()
        return self._objects[key][1] if key in self._objects else None

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        del timeout_seconds
        self._check_exists()
        self._objects.pop(key, None)

    async def ensure(self, *, timeout_seconds: float) -> None:
        del timeout_seconds
        self._exists = True

    def close(self) -> None:
        """It holds nothing but memory."""

    def _check_exists(self) -> None:
        if not self._exists:
            raise BlobRefused("the bucket does not exist")
