"""Pages in storage, one by one or together as a checkpoint, in a backend that the application gives.

Invariant: an artifact id is given only for what is stored. A bridge without a backend refuses, so the caller who evicts
a page still has it. A load gives the page that was stored, or an error. A checkpoint is restored whole or not at all.

A page is stored as its JSON, with the full page that it was made from; content that is bytes stands in it as base64.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Protocol
from uuid import uuid4

from pydantic import Field, ValidationError
from pydantic_core import PydanticSerializationError

from pagekeeper.memory.arguments import checked
from pagekeeper.memory.clock import utc_now
from pagekeeper.memory.models import (
    MEMORY_PAGE_MIME_TYPE,
    VM_CHECKPOINT_MIME_TYPE,
    MemoryPage,
    StorageStats,
    StorageTier,
)
from pagekeeper.memory.models.strict import StrictModel
from pagekeeper.memory.shown import shown

__all__ = [
    "ArtifactsBridge",
    "CheckpointEntry",
    "CheckpointManifest",
    "InMemoryBackend",
    "PageMetadata",
    "StorageBackend",
    "StorageError",
]

CHECKPOINT_PREFIX: Final = "checkpoint_"
STORED_TIERS: Final = frozenset({StorageTier.L2, StorageTier.L3, StorageTier.L4})


class StorageError(Exception):
    """A page or checkpoint could not be stored or read; the message says in doing what, and why."""

    def __init__(self, operation: str, why: str) -> None:
        super().__init__(f"Storage error in {operation}: {why}")
        self.operation = operation


class StorageBackend(Protocol):
    """Where bytes are kept. The errors that it raises go through the bridge to the caller."""

    async def store(self, page_id: str, data: bytes, metadata: Mapping[str, Any]) -> str:
        """Keep `data` and give the artifact id. `metadata` is for the backend's own use."""
        ...

    async def load(self, artifact_id: str) -> bytes | None:
        """The bytes that were stored under the id; None when the id is unknown."""
        ...

    async def delete(self, artifact_id: str) -> bool:
        """Delete what is stored under the id. False when the id is unknown."""
        ...

    async def exists(self, artifact_id: str) -> bool: ...

    async def list_pages(self) -> list[str]:
        """The ids of everything that is stored."""
        ...


class PageMetadata(StrictModel):
    """A stored page without its content. `checksum` is the SHA-256 of the stored bytes, in hexadecimal."""

    page_id: str
    modality: str
    tier: str
    compression_level: int
    size_bytes: int
    created_at: datetime
    checksum: str | None = None
    session_id: str | None = None


class CheckpointEntry(StrictModel):
    page_id: str
    artifact_id: str
    modality: str
    tier: str


class CheckpointManifest(StrictModel):
    """The pages of a checkpoint in order. `created_at` is UTC without a zone, as `datetime.utcnow()` is."""

    name: str
    created_at: datetime
    page_count: int
    pages: list[CheckpointEntry] = Field(default_factory=list)


@checked
class InMemoryBackend:
    """Keeps bytes as long as the process lives. Ids are `mem_<tier>_<number>`, and `checkpoint_<number>`."""

    persistent: Final = False

    def __init__(self) -> None:
        self._objects: dict[str, bytes] = {}
        self._stored_total = 0

    def __repr__(self) -> str:
        return f"InMemoryBackend({len(self._objects):,} objects, {sum(map(len, self._objects.values())):,} bytes)"

    async def store(self, page_id: str, data: bytes, metadata: Mapping[str, Any]) -> str:  # noqa: ARG002 - as the port has it
        checkpoint = metadata.get("mime_type") == VM_CHECKPOINT_MIME_TYPE
        self._stored_total += 1
        kind = "checkpoint" if checkpoint else f"mem_{metadata.get('tier', StorageTier.L3)}"
        self._objects[f"{kind}_{self._stored_total}"] = data
        return f"{kind}_{self._stored_total}"

    async def load(self, artifact_id: str) -> bytes | None:
        return self._objects.get(artifact_id)

    async def delete(self, artifact_id: str) -> bool:
        return self._objects.pop(artifact_id, None) is not None

    async def exists(self, artifact_id: str) -> bool:
        return artifact_id in self._objects

    async def list_pages(self) -> list[str]:
        return list(self._objects)


@checked
class ArtifactsBridge:
    """Stores pages in `backend`. Without a backend, every call but `get_stats` and `configure` raises StorageError."""

    def __init__(self, backend: StorageBackend | None = None, session_id: str | None = None) -> None:
        self.session_id = session_id
        self._backend = backend
        self._stored: dict[str, PageMetadata] = {}

    def __repr__(self) -> str:
        return f"ArtifactsBridge(session_id={shown(self.session_id)}, {self.get_stats()!r})"

    async def configure(self, artifact_store: StorageBackend | None = None, session_id: str | None = None) -> None:
        """Set the backend; `InMemoryBackend` when none is given."""
        self._backend = InMemoryBackend() if artifact_store is None else artifact_store
        self.session_id = session_id
        self._stored.clear()

    async def store_page(self, page: MemoryPage, tier: StorageTier | None = None) -> str:
        """Store the page under `tier` and give its artifact id.

        `tier` defaults to the page's own when that is L2, L3 or L4, and to L3 otherwise. Raises StorageError and the
        backend's errors; the page is stored only when an id comes back.
        """
        kept_in = tier or (page.storage_tier if page.storage_tier in STORED_TIERS else StorageTier.L3)
        data = page_bytes(page)
        metadata = self._metadata(page, kept_in, data, utc_now())
        artifact_id = await self._store(
            "store_page", page.page_id, data, {"mime_type": MEMORY_PAGE_MIME_TYPE, **metadata.model_dump(mode="json")}
        )
        self._stored[artifact_id] = metadata
        return artifact_id

    async def load_page(self, artifact_id: str) -> MemoryPage | None:
        """The page as it was stored; None when the id is unknown.

        Raises StorageError when the bytes differ from the stored ones, or hold no page.
        """
        data = await self._backend_for("load_page").load(artifact_id)
        if data is None:
            return None
        known = self._stored.get(artifact_id)
        if known is not None and known.checksum != sha256(data).hexdigest():
            raise StorageError("load_page", f"{artifact_id!r} is not what was stored")
        try:
            return MemoryPage.model_validate_json(data)
        except ValueError as broken:
            raise StorageError("load_page", f"{artifact_id!r} is no page") from broken

    async def delete_page(self, artifact_id: str) -> bool:
        """Delete what is stored under the id; whether there was something."""
        self._stored.pop(artifact_id, None)
        return await self._backend_for("delete_page").delete(artifact_id)

    async def list_pages(self) -> list[str]:
        """Artifact ids of all stored pages, the copies in checkpoints included."""
        checkpoints = set(await self.list_checkpoints())
        return [each for each in await self._backend_for("list_pages").list_pages() if each not in checkpoints]

    async def get_metadata(self, artifact_id: str) -> PageMetadata | None:
        """Metadata of a stored page, read from the page when another bridge has stored it; None for an unknown id."""
        known = self._stored.get(artifact_id)
        if known is not None:
            return known
        data = await self._backend_for("get_metadata").load(artifact_id)
        page = None if data is None else await self.load_page(artifact_id)
        return None if data is None or page is None else self._metadata(page, page.storage_tier, data, page.created_at)

    async def checkpoint(self, pages: Sequence[MemoryPage], name: str) -> str:
        """Store a copy of each page as it is now, and give the checkpoint's id."""
        entries = [
            CheckpointEntry(
                page_id=page.page_id,
                artifact_id=await self.store_page(page),
                modality=page.modality.value,
                tier=page.storage_tier.value,
            )
            for page in pages
        ]
        manifest = CheckpointManifest(
            name=name, created_at=utc_now().replace(tzinfo=None), page_count=len(entries), pages=entries
        )
        return await self.store_state(f"{CHECKPOINT_PREFIX}{uuid4().hex}", name, manifest.model_dump_json().encode())

    async def store_state(self, checkpoint_id: str, name: str, state: bytes) -> str:
        """Store what a checkpoint is restored from, and give the id that `load_state` finds it by."""
        known = {"mime_type": VM_CHECKPOINT_MIME_TYPE, "checkpoint_name": name, "session_id": self.session_id}
        return await self._store("checkpoint", checkpoint_id, state, known)

    async def load_state(self, checkpoint_id: str) -> bytes | None:
        """Return what was stored under the id; None when there is nothing."""
        return await self._backend_for("load_state").load(checkpoint_id)

    async def restore_checkpoint(self, checkpoint_id: str) -> list[MemoryPage]:
        """The pages of a checkpoint in order; empty when the checkpoint is unknown.

        Raises StorageError when a page of the checkpoint is missing or broken.
        """
        manifest = await self.get_checkpoint_manifest(checkpoint_id)
        if manifest is None:
            return []
        pages: list[MemoryPage] = []
        for entry in manifest.pages:
            page = await self.load_page(entry.artifact_id)
            if page is None:
                raise StorageError("restore_checkpoint", f"page {entry.page_id!r} of {checkpoint_id!r} is missing")
            pages.append(page)
        return pages

    async def list_checkpoints(self) -> list[str]:
        """Ids of all checkpoints in the backend, those of other bridges included."""
        listed = await self._backend_for("list_checkpoints").list_pages()
        others = [artifact_id for artifact_id in listed if artifact_id not in self._stored]
        return [each for each in others if await self.get_checkpoint_manifest(each) is not None]

    async def get_checkpoint_manifest(self, checkpoint_id: str) -> CheckpointManifest | None:
        """The manifest of a checkpoint; None when the id is unknown or names a page."""
        data = await self.load_state(checkpoint_id)
        if data is None:
            return None
        try:
            return CheckpointManifest.model_validate_json(data)
        except ValidationError:
            return None

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint and its copies of pages. False when the checkpoint is unknown."""
        manifest = await self.get_checkpoint_manifest(checkpoint_id)
        if manifest is None:
            return False
        for entry in manifest.pages:
            await self.delete_page(entry.artifact_id)
        return await self._backend_for("delete_checkpoint").delete(checkpoint_id)

    def get_stats(self) -> StorageStats:
        """Counts of what this bridge has stored. A backend that does not say whether it is `persistent` is."""
        if self._backend is None:
            return StorageStats(backend="unconfigured", session_id=self.session_id)
        in_memory = isinstance(self._backend, InMemoryBackend)
        return StorageStats(
            backend="in-memory" if in_memory else type(self._backend).__name__,
            persistent=bool(getattr(self._backend, "persistent", True)),
            session_id=self.session_id,
            pages_stored=len(self._stored),
            total_bytes=sum(metadata.size_bytes for metadata in self._stored.values()),
        )

    def _metadata(self, page: MemoryPage, tier: StorageTier, data: bytes, created_at: datetime) -> PageMetadata:
        return PageMetadata(
            page_id=page.page_id,
            modality=page.modality.value,
            tier=tier.value,
            compression_level=page.compression_level,
            size_bytes=len(data),
            created_at=created_at,
            checksum=sha256(data).hexdigest(),
            session_id=page.session_id or self.session_id,
        )

    def _backend_for(self, operation: str) -> StorageBackend:
        if self._backend is None:
            raise StorageError(operation, "no backend is configured")
        return self._backend

    async def _store(self, operation: str, page_id: str, data: bytes, metadata: Mapping[str, Any]) -> str:
        artifact_id = await self._backend_for(operation).store(page_id, data, metadata)
        if not artifact_id:
            raise StorageError(operation, f"the backend gave no id for {page_id!r}")
        return artifact_id


def page_bytes(page: MemoryPage) -> bytes:
    """The page as JSON. Raises StorageError when JSON has no form for its content or metadata."""
    try:
        return page.model_dump_json().encode()
    except PydanticSerializationError as unwritable:
        raise StorageError(
            "store_page", f"page {page.page_id!r} cannot be written as JSON: {unwritable}"
        ) from unwritable
