"""Artifact-storage put together, for a process of its own or for one that holds all services."""

import secrets
from collections.abc import Callable
from typing import Final

from pagekeeper.artifact_storage.objects import Objects
from pagekeeper.artifact_storage.service import ArtifactStorageService
from pagekeeper.runtime.blobs.store import BlobStore

OBJECT_ID_BYTES: Final = 16


def new_object_id() -> str:
    """128 random bits: no two processes ever make the same, and nobody can guess one."""
    return secrets.token_hex(OBJECT_ID_BYTES)


def compose(blobs: BlobStore, new_id: Callable[[], str] = new_object_id) -> ArtifactStorageService:
    """The service over the objects in `blobs`. `new_id` never answers twice alike, in any process."""
    return ArtifactStorageService(Objects(blobs, new_id))
