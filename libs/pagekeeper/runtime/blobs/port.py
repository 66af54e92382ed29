"""The port of an object store, and the checks of every answer of a store.

A `Bucket` tries once, and may answer wrongly. `BlobStore` alone repeats attempts and checks bytes against digests, so
every bucket, real or fake, is checked in the same place.

A key is immutable and unique: a key is written with one body, ever. Safety does not rest on a store that refuses a
second body. Every operation may therefore be repeated, and a write of unknown outcome is settled by a repetition.
"""

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

KEY_LENGTH_MAX: Final = 512

_KEY: Final = re.compile(r"[A-Za-z0-9_.=-]+(/[A-Za-z0-9_.=-]+)*")


class BlobError(Exception):
    """The object store did not do what it was asked to."""


class BlobMissing(BlobError):
    """No object has this key. Definite."""


class BlobCorrupt(BlobError):
    """The object is there, but not with the bytes that were stored: cut short, or of another digest. Definite."""


class BlobUnavailable(BlobError):
    """No answer in time, or an answer to come back later. Not definite: the operation may have happened; repeat it."""


class BlobBroken(BlobUnavailable):
    """The store began to give the object's bytes and broke off.

    An object that is damaged in the store ends so again and again; a store that goes away does it once.
    """


class BlobRefused(BlobError):
    """The store will not do it however often it is asked: credentials, permissions, a missing bucket. Definite."""


@dataclass(frozen=True, slots=True)
class ByteRange:
    """A part of an object and the SHA-256 that its bytes must have. Both numbers are in bytes."""

    offset: int
    length: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class BlobStat:
    """An object's facts without its bytes. `digest` is the SHA-256 that the object was stored with."""

    size_bytes: int
    modified_ms: int
    digest: bytes


class Bucket(Protocol):
    """One bucket of an object store. Safe to share between tasks of one event loop.

    Every method tries once and gives up after about `timeout_seconds`. Errors of all: BlobUnavailable, BlobRefused.
    """

    async def write(self, key: str, data: bytes, *, digest: bytes, timeout_seconds: float) -> None:
        """Store an object; durable on return. `digest` is kept with it for `stat`."""
        ...

    async def read(self, key: str, *, timeout_seconds: float) -> bytes:
        """Whatever the store gives as the object's bytes. Errors: BlobMissing."""
        ...

    async def read_part(self, key: str, offset: int, length: int, *, timeout_seconds: float) -> bytes:
        """Whatever the store gives as these bytes; fewer if the object ends before. `length` is at least 1.

        Errors: BlobMissing, BlobCorrupt if the object ends before `offset`.
        """
        ...

    async def stat(self, key: str, *, timeout_seconds: float) -> BlobStat | None:
        """None when there is no such object. Errors: BlobCorrupt if it was not stored by `write`."""
        ...

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        """Remove the object; it need not exist."""
        ...

    async def ensure(self, *, timeout_seconds: float) -> None:
        """Make the bucket if it does not exist. Safe to repeat, also by several at once."""
        ...

    def close(self) -> None:
        """Let go of threads and connections, without waiting. Nothing is asked of the bucket afterwards."""
        ...


def digest_of(data: bytes | memoryview) -> bytes:
    """SHA-256, the digest of everything that is stored."""
    return sha256(data).digest()


def check_key(key: str) -> str:
    """Return `key` when it is one: segments of ids as tokens, digits and dots, parted by single slashes.

    Keys are built from checked ids, so anything else is a defect of the caller and raises ValueError. No key may
    continue another one behind a slash: some stores keep keys as paths, and a file is not a directory.
    """
    if len(key) > KEY_LENGTH_MAX or _KEY.fullmatch(key) is None or not {".", ".."}.isdisjoint(key.split("/")):
        raise ValueError(f"not an object key: {key[:KEY_LENGTH_MAX]!r}")
    return key
