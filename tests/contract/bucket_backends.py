"""The object stores that the contract of a bucket is checked on, each with its process, which a test may kill.

A backend is one row of `BACKENDS`: how its server is started in a directory, and how a bucket at it is opened.
"""

import asyncio
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from pagekeeper.local.child import Child
from pagekeeper.local.servers import MinioServer, S3Server, SeaweedServer
from pagekeeper.local.sweeper import Sweeper
from pagekeeper.runtime.blobs.minio_bucket import MinioBucket
from pagekeeper.runtime.blobs.port import Bucket
from pagekeeper.runtime.clock import SystemClock

CLOCK = SystemClock()


@dataclass(frozen=True, slots=True)
class Backend:
    """A store that runs: `open_bucket` is given a name, `open_as_stranger` opens it with credentials that are wrong."""

    server: Child
    open_bucket: Callable[[str], Bucket]
    open_as_stranger: Callable[[str], Bucket]


def s3_bucket(server: S3Server, name: str, secret_key: str) -> Bucket:
    return MinioBucket(
        name,
        endpoint=server.endpoint,
        access_key=server.access_key,
        secret_key=secret_key,
        secure=False,
        clock=CLOCK,
    )


def s3(server: S3Server) -> Backend:
    """Whatever speaks S3."""
    return Backend(
        server,
        lambda name: s3_bucket(server, name, server.secret_key),
        lambda name: s3_bucket(server, name, "x" * 40),
    )


def seaweedfs(directory: Path, sweeper: Sweeper) -> Backend:
    return s3(SeaweedServer(directory, sweeper))


def minio(directory: Path, sweeper: Sweeper) -> Backend:
    del sweeper
    return s3(MinioServer(directory))


BACKENDS: dict[str, Callable[[Path, Sweeper], Backend]] = {"seaweedfs": seaweedfs, "minio": minio}
MISSING = {"minio": "there is no minio on the PATH"} if shutil.which("minio") is None else {}
REAL = [
    pytest.param(name, marks=[pytest.mark.skipif(name in MISSING, reason=MISSING.get(name, ""))]) for name in BACKENDS
]


@contextmanager
def running(name: str, directory: Path) -> Iterator[Backend]:
    with Sweeper() as sweeper:
        backend = BACKENDS[name](directory, sweeper)
        asyncio.run(backend.server.start())
        try:
            yield backend
        finally:
            asyncio.run(backend.server.stop())
