"""Pages stored beyond the context, one by one or together as a checkpoint, in a backend that the application gives.

Invariant: nothing is said to be stored that is not. A bridge without a backend refuses, so that whoever evicts a page
still has it; what a backend gives back is the page that was stored, or an error; and a checkpoint is restored whole.

A page is stored as its JSON with every level that it carries, content that is bytes in base64.
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any, Final, Protocol, overload
from uuid import uuid4

from pydantic import Field, ValidationError

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
    "CheckpointMetadata",
    "InMemoryBackend",
    "PageMetadata",
    "StorageBackend",
    "StorageError",
]

CHECKPOINT_PREFIX: Final = "checkpoint_"
STORED_TIERS: Final = frozenset({StorageTier.L2, StorageTier.L3, StorageTier.L4})
_BYTES: Final = "content_base64"


class StorageError(Exception):
    """A page or checkpoint could not be stored or read; the message says in doing what, and why."""

    def __init__(self, operation: str, why: str) -> None:
        super().__init__(f"Storage error in {operation}: {why}")
        self.operation = operation


class StorageBackend(Protocol):
    """Where bytes are kept. It may raise what it likes; nothing here takes an error for an answer."""

    async def store(self, page_id: str, data: bytes, metadata: Mapping[str, Any]) -> str:
        """Keep `data`, and say under which id it is found. `metadata` is for the backend's own use."""
        ...

    async def load(self, artifact_id: str) -> bytes | None:
        """What was stored under the id, byte for byte; None when there is nothing."""
        ...

    async def delete(self, artifact_id: str) -> bool:
        """Whether there was something."""
        ...

    async def exists(self, artifact_id: str) -> bool: ...

    async def list_pages(self) -> list[str]:
        """The ids of everything that is stored."""
        ...


class PageMetadata(StrictModel):
    """What is known of a stored page without its content; `checksum` is the SHA-256 of what was stored."""

    page_id: str
    modality: str
    tier: str
    compression_level: int
    size_bytes: int
    created_at: datetime
    checksum: str | None = None
    session_id: str | None = None


class CheckpointMetadata(StrictModel):
    checkpoint_name: str
    page_count: int
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
    """Keeps bytes as long as the process lives. Ids are `mem_<tier>_<number>`; a checkpoint's, `checkpoint_<number>`.

    It also takes a page and its tier, and then gives back the page: what goes in comes out.
    """

    persistent: Final = False

    def __init__(self) -> None:
        self.pages: dict[str, bytes] = {}
        self.counter = 0
        self._given_as_pages: set[str] = set()

    def __repr__(self) -> str:
        return f"InMemoryBackend({len(self.pages):,} objects, {sum(map(len, self.pages.values())):,} bytes)"

    @overload
    async def store(self, page_id: MemoryPage, data: StorageTier) -> str: ...

    @overload
    async def store(self, page_id: str, data: bytes, metadata: Mapping[str, Any]) -> str: ...

    async def store(
        self, page_id: str | MemoryPage, data: bytes | StorageTier, metadata: Mapping[str, Any] | None = None
    ) -> str:
        if isinstance(page_id, MemoryPage) and isinstance(data, str):
            artifact_id = self._kept(page_bytes(page_id), f"mem_{StorageTier(data)}")
            self._given_as_pages.add(artifact_id)
            return artifact_id
        if isinstance(data, str):
            raise TypeError("a page's data are bytes")
        known = metadata or {}
        checkpoint = known.get("mime_type") == VM_CHECKPOINT_MIME_TYPE
        return self._kept(data, "checkpoint" if checkpoint else f"mem_{known.get('tier', StorageTier.L3)}")

    async def load(self, artifact_id: str) -> Any:  # noqa: ANN401 - bytes or a page, as it was given
        data = self.pages.get(artifact_id)
        return page_from(data) if data is not None and artifact_id in self._given_as_pages else data

    async def delete(self, artifact_id: str) -> bool:
        self._given_as_pages.discard(artifact_id)
        return self.pages.pop(artifact_id, None) is not None

    async def exists(self, artifact_id: str) -> bool:
        return artifact_id in self.pages

    async def list_pages(self) -> list[str]:
        return list(self.pages)

    def clear(self) -> None:
        self.pages.clear()
        self._given_as_pages.clear()
        self.counter = 0

    def _kept(self, data: bytes, kind: str) -> str:
        self.counter += 1
        artifact_id = f"{kind}_{self.counter}"
        self.pages[artifact_id] = data
        return artifact_id


@checked
class ArtifactsBridge:
    """Pages in `backend`. Without one, everything but `get_stats` raises StorageError until `configure` sets it."""

    def __init__(self, backend: StorageBackend | None = None, session_id: str | None = None) -> None:
        self.session_id = session_id
        self._backend = backend
        self._stored: dict[str, PageMetadata] = {}
        self._checkpoints: set[str] = set()

    def __repr__(self) -> str:
        return f"ArtifactsBridge(session_id={shown(self.session_id)}, {self.get_stats()!r})"

    async def configure(self, artifact_store: StorageBackend | None = None, session_id: str | None = None) -> None:
        """Set the backend; the one in memory when none is given."""
        self._backend = InMemoryBackend() if artifact_store is None else artifact_store
        self.session_id = session_id
        self._stored.clear()
        self._checkpoints.clear()

    @property
    def is_configured(self) -> bool:
        return self._backend is not None

    @property
    def is_persistent(self) -> bool:
        """Whether pages outlive the process. A backend is taken to keep them unless its `persistent` is False."""
        return self._backend is not None and bool(getattr(self._backend, "persistent", True))

    async def store_page(self, page: MemoryPage, tier: StorageTier | None = None) -> str:
        """Store the page and give its artifact id; as a page of its own tier, or of L3 when that is not a stored one.

        Raises StorageError, and whatever the backend raises: unless an id comes back, nothing may be given up.
        """
        kept_in = tier or (page.storage_tier if page.storage_tier in STORED_TIERS else StorageTier.L3)
        data = page_bytes(page)
        metadata = PageMetadata(
            page_id=page.page_id,
            modality=page.modality.value,
            tier=kept_in.value,
            compression_level=page.compression_level,
            size_bytes=len(data),
            created_at=utc_now(),
            checksum=sha256(data).hexdigest(),
            session_id=page.session_id or self.session_id,
        )
        artifact_id = await self._store(
            "store_page", page.page_id, data, {"mime_type": MEMORY_PAGE_MIME_TYPE, **metadata.model_dump(mode="json")}
        )
        self._stored[artifact_id] = metadata
        return artifact_id

    async def load_page(self, artifact_id: str) -> MemoryPage | None:
        """The page as it was stored; None when there is none. Raises StorageError when it is not what was stored."""
        data = await self._load("load_page", artifact_id)
        if data is None:
            return None
        known = self._stored.get(artifact_id)
        if known is not None and known.checksum != sha256(data).hexdigest():
            raise StorageError("load_page", f"{artifact_id!r} is not what was stored")
        try:
            return page_from(data)
        except ValueError as broken:
            raise StorageError("load_page", f"{artifact_id!r} is no page") from broken

    async def update_page(self, artifact_id: str, page: MemoryPage) -> str:
        """Store `page` in place of what is stored under `artifact_id`, and give its new artifact id.

        What was stored goes when the page is stored. Raises StorageError when nothing was stored under the id.
        """
        if not await self.exists(artifact_id):
            raise StorageError("update_page", f"nothing is stored under {artifact_id!r}")
        known = self._stored.get(artifact_id)
        updated = await self.store_page(page, None if known is None else StorageTier(known.tier))
        if updated != artifact_id:
            await self.delete_page(artifact_id)
        return updated

    async def delete_page(self, artifact_id: str) -> bool:
        """Delete what is stored under the id; whether there was something."""
        self._stored.pop(artifact_id, None)
        return await self._backend_for("delete_page").delete(artifact_id)

    async def exists(self, artifact_id: str) -> bool:
        return await self._backend_for("exists").exists(artifact_id)

    async def list_pages(self) -> list[str]:
        """Artifact ids of all stored pages, those of checkpoints included."""
        checkpoints = set(await self.list_checkpoints())
        return [
            artifact_id
            for artifact_id in await self._backend_for("list_pages").list_pages()
            if artifact_id not in checkpoints
        ]

    async def get_metadata(self, artifact_id: str) -> PageMetadata | None:
        """What is known of a stored page; read from the page itself when another bridge has stored it."""
        known = self._stored.get(artifact_id)
        if known is not None:
            return known
        data = await self._load("get_metadata", artifact_id)
        if data is None:
            return None
        page = await self.load_page(artifact_id)
        if page is None:
            return None
        return PageMetadata(
            page_id=page.page_id,
            modality=page.modality.value,
            tier=page.storage_tier.value,
            compression_level=page.compression_level,
            size_bytes=len(data),
            created_at=page.created_at,
            checksum=sha256(data).hexdigest(),
            session_id=page.session_id,
        )

    async def checkpoint(self, pages: Sequence[MemoryPage], name: str) -> str:
        """Store copies of all pages as they are now, and give the checkpoint's id."""
        self._backend_for("checkpoint")
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
        metadata = CheckpointMetadata(checkpoint_name=name, page_count=len(entries), session_id=self.session_id)
        checkpoint_id = await self._store(
            "checkpoint",
            f"{CHECKPOINT_PREFIX}{uuid4().hex}",
            manifest.model_dump_json().encode(),
            {"mime_type": VM_CHECKPOINT_MIME_TYPE, **metadata.model_dump()},
        )
        self._checkpoints.add(checkpoint_id)
        return checkpoint_id

    async def restore_checkpoint(self, checkpoint_id: str) -> list[MemoryPage]:
        """The pages of a checkpoint in order; none when there is no such checkpoint.

        Raises StorageError when a page of it is missing or broken: part of a checkpoint is no checkpoint.
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

    async def store_checkpoint(self, pages: Sequence[MemoryPage], checkpoint_name: str) -> str:
        """`checkpoint` by its other name."""
        return await self.checkpoint(pages, checkpoint_name)

    async def load_checkpoint(self, checkpoint_id: str) -> list[MemoryPage]:
        """`restore_checkpoint` by its other name."""
        return await self.restore_checkpoint(checkpoint_id)

    async def list_checkpoints(self) -> list[str]:
        """Ids of all checkpoints, also those that another bridge has stored in the same place."""
        found: list[str] = []
        for artifact_id in await self._backend_for("list_checkpoints").list_pages():
            if artifact_id in self._stored:
                continue
            if artifact_id in self._checkpoints or await self.get_checkpoint_manifest(artifact_id) is not None:
                found.append(artifact_id)
        self._checkpoints.update(found)
        return found

    async def get_checkpoint_manifest(self, checkpoint_id: str) -> CheckpointManifest | None:
        """None when nothing is stored under the id, or something else than a checkpoint."""
        data = await self._load("get_checkpoint_manifest", checkpoint_id)
        if data is None:
            return None
        try:
            return CheckpointManifest.model_validate_json(data)
        except ValidationError:
            return None

    async def delete_checkpoint(self, checkpoint_id: str) -> bool:
        """Delete a checkpoint and the copies that it holds; whether there was one."""
        manifest = await self.get_checkpoint_manifest(checkpoint_id)
        if manifest is None:
            return False
        for entry in manifest.pages:
            await self.delete_page(entry.artifact_id)
        self._checkpoints.discard(checkpoint_id)
        return await self._backend_for("delete_checkpoint").delete(checkpoint_id)

    def get_stats(self) -> StorageStats:
        """What this bridge has stored, and where."""
        if self._backend is None:
            return StorageStats(backend="unconfigured", session_id=self.session_id)
        in_memory = isinstance(self._backend, InMemoryBackend)
        return StorageStats(
            backend="in-memory" if in_memory else type(self._backend).__name__,
            persistent=self.is_persistent,
            session_id=self.session_id,
            pages_stored=len(self._stored),
            total_bytes=sum(metadata.size_bytes for metadata in self._stored.values()),
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

    async def _load(self, operation: str, artifact_id: str) -> bytes | None:
        return await self._backend_for(operation).load(artifact_id)


def page_bytes(page: MemoryPage) -> bytes:
    """The page as JSON. Halves of a character stay two where they follow one another; escaped they would become one."""
    return json.dumps(_as_json(page), ensure_ascii=False).encode("utf-8", "surrogatepass")


def page_from(data: bytes) -> MemoryPage:
    """The page that `page_bytes` was given. Raises ValueError when `data` is none."""
    return _from_json(json.loads(data.decode("utf-8", "surrogatepass")))


def _as_json(page: MemoryPage) -> dict[str, Any]:
    fields = page.model_dump(mode="json", exclude={"content", "original"})
    fields["original"] = None if page.original is None else _as_json(page.original)
    if isinstance(page.content, bytes):
        return {**fields, _BYTES: b64encode(page.content).decode()}
    return {**fields, "content": page.content}


def _from_json(fields: Any) -> MemoryPage:  # noqa: ANN401 - JSON is any value
    if not isinstance(fields, dict):
        return MemoryPage.model_validate(fields)
    original, encoded = fields.get("original"), fields.pop(_BYTES, None)
    if encoded is not None:
        fields["content"] = b64decode(encoded)
    page = MemoryPage.model_validate({**fields, "original": None})
    return page if original is None else page.model_copy(update={"original": _from_json(original)})
