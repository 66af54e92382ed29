"""A bucket that fails as real ones do, by the roll of given dice. For simulations: one seed, one history."""

import asyncio
from dataclasses import dataclass
from random import Random
from typing import Final

from pagekeeper.runtime.blobs.port import BlobStat, BlobUnavailable, Bucket

SLOW_SECONDS_MAX: Final = 2.0


@dataclass(frozen=True, slots=True)
class Faults:
    """How probable each fault is, per attempt, from 0 to 1."""

    refused: float = 0.0
    """Nothing happens, and the store says that it is not available."""
    lost: float = 0.0
    """It happens, but the answer is lost."""
    stuck: float = 0.0
    """Nothing happens and no answer comes."""
    slow: float = 0.0
    """It happens up to SLOW_SECONDS_MAX later."""
    cut: float = 0.0
    """Bytes that are read end too early."""
    wrong: float = 0.0
    """One bit of the bytes that are read is another."""


class FaultyBucket:
    """A `Bucket` over another one, with faults. `faults` may be replaced at any time."""

    def __init__(self, inner: Bucket, random: Random, faults: Faults) -> None:
        self._inner = inner
        self._random = random
        self.faults = faults

    async def write(self, key: str, data: bytes, *, digest: bytes, timeout_seconds: float) -> None:
        await self._before(timeout_seconds)
        await self._inner.write(key, data, digest=digest, timeout_seconds=timeout_seconds)
        self._after()

    async def read(self, key: str, *, timeout_seconds: float) -> bytes:
        await self._before(timeout_seconds)
        data = await self._inner.read(key, timeout_seconds=timeout_seconds)
        self._after()
        return self._spoil(data)

    async def read_part(self, key: str, offset: int, length: int, *, timeout_seconds: float) -> bytes:
        await self._before(timeout_seconds)
        data = await self._inner.read_part(key, offset, length, timeout_seconds=timeout_seconds)
        self._after()
        return self._spoil(data)

    async def stat(self, key: str, *, timeout_seconds: float) -> BlobStat | None:
        await self._before(timeout_seconds)
        stat = await self._inner.stat(key, timeout_seconds=timeout_seconds)
        self._after()
        return stat

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        await self._before(timeout_seconds)
        await self._inner.delete(key, timeout_seconds=timeout_seconds)
        self._after()

    async def ensure(self, *, timeout_seconds: float) -> None:
        await self._before(timeout_seconds)
        await self._inner.ensure(timeout_seconds=timeout_seconds)
        self._after()

    def close(self) -> None:
        self._inner.close()

    async def _before(self, timeout_seconds: float) -> None:
        if self._happens(self.faults.refused):
            raise BlobUnavailable("refused by the dice")
        if self._happens(self.faults.stuck):
            await asyncio.sleep(timeout_seconds)
            raise BlobUnavailable("stuck by the dice")
        if self._happens(self.faults.slow):
            await asyncio.sleep(self._random.uniform(0.0, SLOW_SECONDS_MAX))

    def _after(self) -> None:
        if self._happens(self.faults.lost):
            raise BlobUnavailable("the answer was lost by the dice")

    def _spoil(self, data: bytes) -> bytes:
        if data and self._happens(self.faults.cut):
            data = data[: self._random.randrange(len(data))]
        if data and self._happens(self.faults.wrong):
            spoiled = bytearray(data)
            spoiled[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
            return bytes(spoiled)
        return data

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability
