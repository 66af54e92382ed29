"""Artifact-storage put together, for a process of its own or for one that holds all services."""

import secrets
from dataclasses import dataclass
from typing import Final

from pagekeeper.artifact_storage.objects import Objects
from pagekeeper.artifact_storage.ports import PlacementsPort
from pagekeeper.artifact_storage.service import ArtifactStorageService
from pagekeeper.artifact_storage.write_back import WriteBack
from pagekeeper.runtime.background import Background
from pagekeeper.runtime.blobs.store import BlobStore
from pagekeeper.runtime.queue.port import WorkQueue
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.runtime.work import WRITEBACK

WRITEBACKS_AT_ONCE: Final = 4
"""A segment is up to 8 MiB in memory, and is mostly waited for."""
OBJECT_ID_BYTES: Final = 16


@dataclass(frozen=True, slots=True)
class ArtifactStorage:
    """The service, and the work that it does by itself."""

    service: ArtifactStorageService
    queue: WorkQueue

    def start(self, background: Background) -> None:
        background.start(
            "write-back",
            lambda: self.queue.consume(WRITEBACK, self.service.work, concurrency=WRITEBACKS_AT_ONCE),
        )


def new_object_id() -> str:
    """128 random bits: no two processes ever make the same, and nobody can guess one."""
    return secrets.token_hex(OBJECT_ID_BYTES)


def open_objects(blobs: BlobStore) -> Objects:
    """The tenants' objects. They are also what the folds of this process read blobs with."""
    return Objects(blobs, new_object_id)


def compose(objects: Objects, sessions: Sessions, placements: PlacementsPort, queue: WorkQueue) -> ArtifactStorage:
    """`sessions` must be kept current by whoever made it: see `Sessions.follow_log`."""
    write_back = WriteBack(objects, placements)
    return ArtifactStorage(ArtifactStorageService(objects, sessions, write_back, queue), queue)
