"""A bucket of any server that speaks S3, through the `minio` package.

The package blocks, so each request has a thread of a bounded pool that belongs to the bucket. Further requests wait for
a thread, not for a connection. The package's own retries are off, because `BlobStore` repeats requests.

Guarantees:
- A thread is occupied for hardly longer than the request's timeout, even by a server that sends a byte a second.
- A connection that was not read to its end is closed and never used again.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, Final, TypeVar

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, S3Error, ServerError
from urllib3.exceptions import HTTPError, ProtocolError

from pagekeeper.runtime.blobs.port import (
    BlobBroken,
    BlobCorrupt,
    BlobMissing,
    BlobRefused,
    BlobStat,
    BlobUnavailable,
)
from pagekeeper.runtime.clock import Clock

THREADS: Final = 16
"""Requests under way at a time. At 16 one local server is saturated: 1.2k PUT/s, 1.7k GET/s."""
CONNECT_SECONDS_MAX: Final = 2.0
"""A server that takes no connection within this time will not take one later; another attempt finds another replica."""
CHUNK_BYTES: Final = 256 * 1024
"""Read between two looks at the clock."""
BUCKET_LENGTH_MIN: Final = 3
BUCKET_LENGTH_MAX: Final = 63
PART_BYTES_MIN: Final = 5 * 1024 * 1024

CONTENT_TYPE: Final = "application/vnd.pagekeeper"
"""Said of every object, since a store may compress what it is told nothing of, when it looks like text. SeaweedFS then
unpacks a whole object for each range of it: 8 ms instead of 1.6 for a page of a segment of 1.3 MB."""

_DIGEST_FIELD: Final = "sha256"
_DIGEST_HEADER: Final = "x-amz-meta-sha256"
_MISSING: Final = frozenset({"NoSuchKey", "NoSuchObject"})
_LATER: Final = frozenset({"SlowDown", "SlowDownRead", "SlowDownWrite", "RequestTimeout", "TooManyRequests"})
_OURS_ALREADY: Final = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})
_TOO_MANY_REQUESTS: Final = 429
_SERVER_ERRORS: Final = 500

T = TypeVar("T")


class _Connections(urllib3.PoolManager):
    """Connections whose requests end by the time that their thread was given."""

    def __init__(self, clock: Clock, ca: Path | None) -> None:
        super().__init__(maxsize=THREADS, retries=False, cert_reqs="CERT_REQUIRED", ca_certs=ca and str(ca))
        self._clock = clock
        self._thread = threading.local()

    def give(self, deadline: float) -> None:
        """Let the requests of the running thread take until `deadline`, in seconds of `Clock.monotonic`."""
        self._thread.deadline = deadline

    def left_seconds(self) -> float:
        """Seconds until the running thread's deadline. Raises BlobUnavailable when none are left."""
        left: float = self._thread.deadline - self._clock.monotonic()
        if left <= 0:
            raise BlobUnavailable("timed out")
        return left

    def urlopen(self, method: str, url: str, **kw: Any) -> urllib3.BaseHTTPResponse:  # type: ignore[override]  # noqa: ANN401
        left = self.left_seconds()
        kw["timeout"] = urllib3.Timeout(connect=min(left, CONNECT_SECONDS_MAX), read=left)
        return super().urlopen(method, url, **kw)


class MinioBucket:
    """A `Bucket` at `endpoint` (`host:port`). `close` ends its threads and connections."""

    def __init__(  # noqa: PLR0913 - what one has to say of an S3 server
        self,
        bucket: str,
        *,
        endpoint: str,
        access_key: str,
        secret_key: str,
        secure: bool,
        clock: Clock,
        ca: Path | None = None,
        region: str = "us-east-1",
    ) -> None:
        """Connects to nothing yet. `ca` is a file of the authorities that are believed; without it, the machine's own.

        Raises ValueError for a name or endpoint that no S3 server would have.
        """
        if not BUCKET_LENGTH_MIN <= len(bucket) <= BUCKET_LENGTH_MAX:
            raise ValueError(
                f"a bucket has a name of {BUCKET_LENGTH_MIN} to {BUCKET_LENGTH_MAX} characters, not {bucket!r}"
            )
        self._bucket = bucket
        self._clock = clock
        self._connections = _Connections(clock, ca)
        self._client = Minio(
            endpoint,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            region=region,
            http_client=self._connections,
        )
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="minio")

    def close(self) -> None:
        """Give up what waits and let go of the connections. Requests under way end by their timeouts."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._connections.clear()

    async def write(self, key: str, data: bytes, *, digest: bytes, timeout_seconds: float) -> None:
        def put() -> None:
            self._client.put_object(
                self._bucket,
                key,
                BytesIO(data),
                len(data),
                content_type=CONTENT_TYPE,
                metadata={_DIGEST_FIELD: digest.hex()},
                part_size=max(len(data), PART_BYTES_MIN),  # one request, so never half an upload
            )

        await self._in_thread(put, timeout_seconds)

    async def read(self, key: str, *, timeout_seconds: float) -> bytes:
        return await self._in_thread(lambda: self._get(key, 0, 0), timeout_seconds)

    async def read_part(self, key: str, offset: int, length: int, *, timeout_seconds: float) -> bytes:
        return await self._in_thread(lambda: self._get(key, offset, length), timeout_seconds)

    async def stat(self, key: str, *, timeout_seconds: float) -> BlobStat | None:
        def head() -> BlobStat | None:
            try:
                found = self._client.stat_object(self._bucket, key)
            except S3Error as error:
                if error.code in _MISSING:
                    return None
                raise
            digest = (found.metadata or {}).get(_DIGEST_HEADER)
            if digest is None or found.size is None or found.last_modified is None:
                raise BlobCorrupt(f"{key} has no digest: it was not stored by Pagekeeper")
            return BlobStat(found.size, round(found.last_modified.timestamp() * 1_000), bytes.fromhex(digest))

        return await self._in_thread(head, timeout_seconds)

    async def delete(self, key: str, *, timeout_seconds: float) -> None:
        await self._in_thread(lambda: self._client.remove_object(self._bucket, key), timeout_seconds)

    async def ensure(self, *, timeout_seconds: float) -> None:
        def make() -> None:
            if self._client.bucket_exists(self._bucket):
                return
            try:
                self._client.make_bucket(self._bucket)
            except S3Error as error:
                if error.code not in _OURS_ALREADY:
                    raise

        await self._in_thread(make, timeout_seconds)

    async def _in_thread(self, request: Callable[[], T], timeout_seconds: float) -> T:
        deadline = self._clock.monotonic() + timeout_seconds

        def run() -> T:
            self._connections.give(deadline)
            with _as_blob_errors():
                return request()

        return await asyncio.get_running_loop().run_in_executor(self._threads, run)

    def _get(self, key: str, offset: int, length: int) -> bytes:
        """Read from `offset` on, `length` bytes or, when that is 0, to the end."""
        response = self._client.get_object(self._bucket, key, offset=offset, length=length)
        chunks: list[bytes] = []
        try:
            # `read1` returns what has come; `read` would wait for all of its bytes, however slowly they come.
            while chunk := response.read1(CHUNK_BYTES):
                chunks.append(chunk)
                self._connections.left_seconds()
            return b"".join(chunks)
        except ProtocolError as error:
            raise BlobBroken(f"{key}: the bytes broke off after {sum(map(len, chunks)):,}: {error}") from error
        finally:
            response.close()
            response.release_conn()


@contextmanager
def _as_blob_errors() -> Iterator[None]:
    """Say what an answer means, in our words."""
    try:
        yield
    except S3Error as error:
        status = error.response.status
        if error.code in _MISSING:
            raise BlobMissing(f"{error.object_name} does not exist") from error
        if error.code == "InvalidRange":
            raise BlobCorrupt(f"{error.object_name} ends before the range that was asked for") from error
        if error.code in _LATER or status >= _SERVER_ERRORS or status == _TOO_MANY_REQUESTS:
            raise BlobUnavailable(f"{error.code}: {error.message}") from error
        raise BlobRefused(f"{error.code}: {error.message}") from error
    except (ServerError, InvalidResponseError, HTTPError) as error:
        # No connection, no answer in time, an answer that broke off, or one that is not S3's but of a proxy before it.
        raise BlobUnavailable(f"{type(error).__name__}: {error}") from error
