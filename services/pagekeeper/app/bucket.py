"""The object store, opened for one process.

In a module of its own: its client takes 0.4 s to import, and most processes have no object store.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

from pagekeeper.runtime.blobs.minio_bucket import MinioBucket
from pagekeeper.runtime.blobs.port import BlobError, Bucket
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.clock import Clock, SystemClock
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.settings import StoreSettings


def bucket_of(settings: StoreSettings, clock: Clock) -> Bucket:
    """Return the bucket that the settings describe: the one place that names a backend.

    Connects to nothing yet. Raises CannotStart for a name or an endpoint that no server would have.
    """
    try:
        return MinioBucket(
            settings.s3_bucket,
            endpoint=settings.s3_endpoint,
            access_key=settings.s3_access_key,
            secret_key=settings.s3_secret_key.get_secret_value(),
            secure=settings.s3_secure,
            ca=settings.s3_ca,
            clock=clock,
        )
    except ValueError as problem:
        raise CannotStart(f"the object store: {problem}") from problem


@asynccontextmanager
async def open_store(settings: StoreSettings) -> AsyncIterator[BlobStore]:
    """Raises CannotStart when the bucket cannot be reached or made."""
    bucket = bucket_of(settings, SystemClock())
    try:
        store = BlobStore(bucket, Random())
        try:
            await store.ensure_bucket()
        except BlobError as problem:
            raise CannotStart(f"the object store at {settings.s3_endpoint}: {problem}") from problem
        yield store
    finally:
        bucket.close()
