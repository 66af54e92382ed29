"""Reading and writing objects so that the bytes read are the bytes stored.

Guarantees:
- Bytes are returned only with the digest that the caller asks for, which the caller knows from the log. No method reads
  without a digest.
- An operation ends by its timeout. Until then an unavailable store is asked up to ATTEMPTS_MAX times, which is safe
  because every operation may be repeated.
- Ranges of one object that lie close together are read as one range.

Failure case: a writer that is cut off may leave an object without a reference. Garbage collection finds the object.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final, TypeVar

from pagekeeper.runtime.blobs.port import (
    BlobBroken,
    BlobCorrupt,
    BlobStat,
    BlobUnavailable,
    Bucket,
    ByteRange,
    check_key,
    digest_of,
)

TIMEOUT_SECONDS: Final = 10.0
ATTEMPTS_MAX: Final = 5
PAUSE_SECONDS_MIN: Final = 0.05
PAUSE_SECONDS_MAX: Final = 1.0

GAP_BYTES_MAX: Final = 128 * 1024
"""Unwanted bytes that are read along rather than asking twice. A request costs about 1.1 ms whatever its size and a
further MiB 1.7 ms, so on the same machine 640 KiB would pay; a fifth of it leaves room for slower networks."""

SPAN_BYTES_MAX: Final = 8 * 1024 * 1024
"""The largest range that joined ranges make: a segment, so that joining never holds more memory."""

T = TypeVar("T")


class BlobStore:
    """The objects of one bucket, verified. Safe to share between tasks of one event loop.

    Errors of every method: BlobUnavailable after its timeout or ATTEMPTS_MAX attempts, and of these BlobBroken when all
    of them broke off in the object's bytes; BlobRefused; ValueError for what only a defect of the caller can ask for.
    """

    def __init__(self, bucket: Bucket, random: Random) -> None:
        """`random` spreads the attempts of many and names the objects of `check`."""
        self._bucket = bucket
        self._random = random

    async def put(self, key: str, data: bytes, *, digest: bytes, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Store `data`, whose `digest_of` is `digest`, under a key that was never used. Durable on return.

        Safe to repeat with the same data. Another body under a key that is in use is a defect of the caller and may
        or may not replace the first.
        """
        check_key(key)
        if digest_of(data) != digest:
            raise ValueError(f"{key}: the digest is not that of the data")
        await self._insist(
            timeout_seconds, lambda left: self._bucket.write(key, data, digest=digest, timeout_seconds=left)
        )

    async def get(self, key: str, *, digest: bytes, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
        """Return the whole object. Errors: BlobMissing, BlobCorrupt."""
        check_key(key)
        data = await self._insist(timeout_seconds, lambda left: self._bucket.read(key, timeout_seconds=left))
        if digest_of(data) != digest:
            raise BlobCorrupt(f"{key}: {len(data):,} bytes with another digest than was stored")
        return data

    async def get_range(self, key: str, part: ByteRange, *, timeout_seconds: float = TIMEOUT_SECONDS) -> bytes:
        """Return one part of an object. Errors: BlobMissing, BlobCorrupt."""
        [data] = await self.get_ranges(key, [part], timeout_seconds=timeout_seconds)
        return data

    async def get_ranges(
        self, key: str, parts: Sequence[ByteRange], *, timeout_seconds: float = TIMEOUT_SECONDS
    ) -> list[bytes]:
        """Return parts of an object, in the order asked for; they may overlap, repeat or be empty.

        Errors: BlobMissing, BlobCorrupt if any of them is; `get_range` tells which.
        """
        check_key(key)
        found: list[bytes] = [b""] * len(parts)
        try:
            async with asyncio.TaskGroup() as reads:
                for span in join(parts):
                    reads.create_task(self._read_span(key, span, parts, found, timeout_seconds))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        for part, data in zip(parts, found, strict=True):
            _verify(key, part, data)
        return found

    async def stat(self, key: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> BlobStat | None:
        """None when there is no such object. Errors: BlobCorrupt if it has no digest, so was not stored by `put`."""
        check_key(key)
        return await self._insist(timeout_seconds, lambda left: self._bucket.stat(key, timeout_seconds=left))

    async def delete(self, key: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Remove the object; it need not exist."""
        check_key(key)
        await self._insist(timeout_seconds, lambda left: self._bucket.delete(key, timeout_seconds=left))

    async def ensure_bucket(self, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Make the bucket if it does not exist. Safe to repeat, also by several at once."""
        await self._insist(timeout_seconds, lambda left: self._bucket.ensure(timeout_seconds=left))

    async def check(self, *, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        """Write, read and delete an object: what a service asks for before it says that it is ready.

        `timeout_seconds` is for each of the four steps. Errors: also BlobMissing and BlobCorrupt, if the store does not
        give back what it took.
        """
        key = f"check/{self._random.getrandbits(64):016x}"
        data = self._random.randbytes(64)
        await self.put(key, data, digest=digest_of(data), timeout_seconds=timeout_seconds)
        await self.get(key, digest=digest_of(data), timeout_seconds=timeout_seconds)
        await self.delete(key, timeout_seconds=timeout_seconds)
        if await self.stat(key, timeout_seconds=timeout_seconds) is not None:
            raise BlobCorrupt(f"{key} is still there after it was deleted")

    async def _read_span(
        self, key: str, span: "Span", parts: Sequence[ByteRange], found: list[bytes], timeout_seconds: float
    ) -> None:
        data = memoryview(
            await self._insist(
                timeout_seconds,
                lambda left: self._bucket.read_part(key, span.start, span.end - span.start, timeout_seconds=left),
            )
        )
        for index in span.indexes:
            start = parts[index].offset - span.start
            found[index] = bytes(data[start : start + parts[index].length])

    async def _insist(self, timeout_seconds: float, attempt: Callable[[float], Awaitable[T]]) -> T:
        """Make attempts, each told how many seconds are left, until one has a definite outcome."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_seconds
        pause_seconds = PAUSE_SECONDS_MIN
        failure: BlobUnavailable | None = None
        only_broken = True
        try:
            async with asyncio.timeout_at(deadline):
                for attempts_left in reversed(range(ATTEMPTS_MAX)):
                    try:
                        return await attempt(deadline - loop.time())
                    except BlobUnavailable as error:
                        failure = error
                        only_broken = only_broken and isinstance(error, BlobBroken)
                    if attempts_left:
                        await asyncio.sleep(pause_seconds * self._random.uniform(0.5, 1.0))
                        pause_seconds = min(2 * pause_seconds, PAUSE_SECONDS_MAX)
        except TimeoutError:
            reason = f": {failure}" if failure else ""
            raise BlobUnavailable(f"no answer within {timeout_seconds:g} s{reason}") from failure
        assert failure is not None
        raise failure if only_broken else BlobUnavailable(str(failure)) from failure


@dataclass(slots=True)
class Span:
    """Bytes from `start` up to `end` that are read as one, and which parts lie inside."""

    start: int
    end: int
    indexes: list[int]

    def takes(self, start: int, end: int) -> bool:
        """Tell whether to read a part that begins no earlier than this span along with it."""
        inside = end <= self.end
        near = start - self.end <= GAP_BYTES_MAX and end - self.start <= SPAN_BYTES_MAX
        return inside or near


def join(parts: Sequence[ByteRange]) -> list[Span]:
    """Plan the reads for `parts`: neighbours with at most GAP_BYTES_MAX between them share one.

    Empty parts need none. Raises ValueError for a negative number.
    """
    if any(part.offset < 0 or part.length < 0 for part in parts):
        raise ValueError("a byte range begins and extends at 0 or above")
    spans: list[Span] = []
    for index in sorted((i for i, part in enumerate(parts) if part.length), key=lambda i: parts[i].offset):
        start, end = parts[index].offset, parts[index].offset + parts[index].length
        if spans and spans[-1].takes(start, end):
            spans[-1].end = max(spans[-1].end, end)
            spans[-1].indexes.append(index)
        else:
            spans.append(Span(start, end, [index]))
    return spans


def _verify(key: str, part: ByteRange, data: bytes) -> None:
    if len(data) != part.length:
        raise BlobCorrupt(f"{key}: {len(data):,} of {part.length:,} bytes at {part.offset:,}")
    if digest_of(data) != part.digest:
        raise BlobCorrupt(f"{key}: {part.length:,} bytes at {part.offset:,} with another digest than was stored")
