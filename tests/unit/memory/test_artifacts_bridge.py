"""What is said to be stored is stored, and comes back as it was or not at all."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pagekeeper.core.wellformed import whole_text
from pagekeeper.memory import (
    ArtifactsBridge,
    CompressionLevel,
    InMemoryBackend,
    MemoryPage,
    PageTable,
    StorageBackend,
    StorageError,
    StorageTier,
    WorkingSetManager,
)
from tests.unit.hostile_text import hostile_texts
from tests.unit.memory.pages import lower_levels, pages, text_page


class Folder:
    """A backend of one's own: ids are paths, and it knows nothing of what it keeps."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}

    async def store(self, page_id: str, data: bytes, metadata: Mapping[str, Any]) -> str:
        assert metadata["mime_type"]
        path = f"memory/{len(self.files)}-{page_id}"
        self.files[path] = data
        return path

    async def load(self, artifact_id: str) -> bytes | None:
        return self.files.get(artifact_id)

    async def delete(self, artifact_id: str) -> bool:
        return self.files.pop(artifact_id, None) is not None

    async def exists(self, artifact_id: str) -> bool:
        return artifact_id in self.files

    async def list_pages(self) -> list[str]:
        return list(self.files)


@pytest.fixture(params=[InMemoryBackend, Folder])
def backend(request: pytest.FixtureRequest) -> StorageBackend:
    made: StorageBackend = request.param()
    return made


@given(pages, st.none() | lower_levels)
async def test_a_page_comes_back_as_it_was(page: MemoryPage, level: CompressionLevel | None) -> None:
    """Bytes as bytes, and a shortened page with its full one."""
    if level is not None:
        page = page.shortened(level, "in short", 2)
    bridge = ArtifactsBridge(InMemoryBackend())
    assert await bridge.load_page(await bridge.store_page(page)) == page


@given(hostile_texts)
@example("\ud800\udfff")
async def test_any_text_comes_back_with_its_characters_whole(text: str) -> None:
    bridge = ArtifactsBridge(InMemoryBackend())
    loaded = await bridge.load_page(await bridge.store_page(text_page(content=text)))
    assert loaded is not None
    assert loaded.content == whole_text(text)


async def test_what_is_stored_does_not_change_with_the_page(backend: StorageBackend) -> None:
    bridge, page = ArtifactsBridge(backend), text_page(content="then")
    artifact_id = await bridge.store_page(page)
    page.content = "now"
    loaded = await bridge.load_page(artifact_id)
    assert loaded is not None
    assert loaded.content == "then"


async def test_without_a_store_an_eviction_keeps_the_page() -> None:
    """It once said that the page was in L3, where nobody had put it."""
    bridge, table, working_set = ArtifactsBridge(), PageTable(), WorkingSetManager()
    page = text_page(content="the only copy")
    working_set.add_to_l0(page)
    table.register(page)

    async def evict() -> None:
        artifact_id = await bridge.store_page(page, StorageTier.L3)
        table.update_location(page.page_id, tier=StorageTier.L3, artifact_id=artifact_id)
        working_set.remove_from_l0(page.page_id, page)

    with pytest.raises(StorageError, match="Storage error in store_page: no backend is configured"):
        await evict()
    entry = table.lookup(page.page_id)
    assert entry is not None
    assert (entry.tier, entry.artifact_id) == (StorageTier.L0, None)
    assert working_set.get_l0_page_ids() == [page.page_id]
    assert page.content == "the only copy"


async def test_a_backend_that_gives_no_id_has_stored_nothing() -> None:
    class Forgetful(Folder):
        async def store(self, page_id: str, data: bytes, metadata: Mapping[str, Any]) -> str:
            await super().store(page_id, data, metadata)
            return ""

    bridge = ArtifactsBridge(Forgetful())
    with pytest.raises(StorageError, match="gave no id"):
        await bridge.store_page(text_page())
    assert bridge.get_stats().pages_stored == 0


async def test_without_a_store_nothing_is_answered() -> None:
    bridge = ArtifactsBridge()
    for asked in (
        bridge.load_page("x"),
        bridge.delete_page("x"),
        bridge.list_pages(),
        bridge.get_metadata("x"),
        bridge.checkpoint([], "c"),
        bridge.restore_checkpoint("x"),
        bridge.list_checkpoints(),
        bridge.delete_checkpoint("x"),
    ):
        with pytest.raises(StorageError, match="no backend"):
            await asked
    assert bridge.get_stats().backend == "unconfigured"


async def test_the_backend_in_memory_may_be_asked_for() -> None:
    bridge = ArtifactsBridge()
    await bridge.configure(session_id="s1")
    await bridge.store_page(text_page())
    stats = bridge.get_stats()
    assert (stats.backend, stats.persistent, stats.session_id, stats.pages_stored) == ("in-memory", False, "s1", 1)
    assert stats.total_bytes > 0
    assert ArtifactsBridge(Folder()).get_stats().model_dump(include={"backend", "persistent"}) == {
        "backend": "Folder",
        "persistent": True,
    }


async def test_ids_say_tier_and_number() -> None:
    bridge = ArtifactsBridge(InMemoryBackend())
    in_l2 = MemoryPage(page_id="b", storage_tier=StorageTier.L2)
    assert await bridge.store_page(text_page("a")) == "mem_L3_1"
    assert await bridge.store_page(in_l2) == "mem_L2_2"
    assert await bridge.store_page(in_l2, StorageTier.L4) == "mem_L4_3"
    assert await bridge.checkpoint([], "empty") == "checkpoint_4"


async def test_pages_are_listed_described_and_deleted(backend: StorageBackend) -> None:
    bridge = ArtifactsBridge(backend, session_id="s1")
    artifact_id = await bridge.store_page(text_page("a", "hello"))
    assert await bridge.list_pages() == [artifact_id]
    metadata = await bridge.get_metadata(artifact_id)
    assert metadata is not None
    assert (metadata.page_id, metadata.modality, metadata.tier, metadata.session_id) == ("a", "text", "L3", "s1")
    assert (await bridge.get_metadata("nothing")) is None
    assert await bridge.delete_page(artifact_id)
    assert not await bridge.delete_page(artifact_id)
    assert await bridge.load_page(artifact_id) is None
    assert bridge.get_stats().pages_stored == 0


async def test_another_bridge_reads_what_is_there(backend: StorageBackend) -> None:
    first = ArtifactsBridge(backend)
    artifact_id = await first.store_page(text_page("a", "hello"))
    checkpoint_id = await first.checkpoint([text_page("b", "later")], "c")
    second = ArtifactsBridge(backend)
    assert await second.load_page(artifact_id) == await first.load_page(artifact_id)
    assert await second.list_checkpoints() == [checkpoint_id]
    assert checkpoint_id not in await second.list_pages()
    here, there = await first.get_metadata(artifact_id), await second.get_metadata(artifact_id)
    assert here is not None
    assert there is not None
    assert (here.page_id, here.size_bytes, here.checksum) == (there.page_id, there.size_bytes, there.checksum)
    assert [page.page_id for page in await second.restore_checkpoint(checkpoint_id)] == ["b"]


async def test_what_is_not_what_was_stored_is_never_a_page() -> None:
    folder = Folder()
    bridge = ArtifactsBridge(folder)
    artifact_id = await bridge.store_page(text_page("a", "hello"))
    folder.files[artifact_id] = folder.files[artifact_id].replace(b"hello", b"hullo")
    with pytest.raises(StorageError, match="not what was stored"):
        await bridge.load_page(artifact_id)
    for broken in (b"", b"{", b"[]", b"\xff", b'{"modality": "text"}'):
        folder.files["alien"] = broken
        with pytest.raises(StorageError, match="no page"):
            await bridge.load_page("alien")


@given(st.lists(pages, max_size=4, unique_by=lambda page: page.page_id))
async def test_a_checkpoint_is_restored_whole(saved: list[MemoryPage]) -> None:
    bridge = ArtifactsBridge(InMemoryBackend())
    as_they_were = [page.model_copy(deep=True) for page in saved]
    checkpoint_id = await bridge.checkpoint(pages=saved, name="then")
    for page in saved:
        page.content = "changed"
    assert await bridge.restore_checkpoint(checkpoint_id) == as_they_were
    manifest = await bridge.get_checkpoint_manifest(checkpoint_id)
    assert manifest is not None
    assert (manifest.name, manifest.page_count) == ("then", len(saved))
    assert manifest.created_at <= datetime.now(UTC).replace(tzinfo=None)  # noqa: TID251 - the guide compares so


async def test_part_of_a_checkpoint_is_no_checkpoint(backend: StorageBackend) -> None:
    bridge = ArtifactsBridge(backend)
    checkpoint_id = await bridge.checkpoint([text_page("a"), text_page("b")], "c")
    manifest = await bridge.get_checkpoint_manifest(checkpoint_id)
    assert manifest is not None
    await backend.delete(manifest.pages[1].artifact_id)
    with pytest.raises(StorageError, match=r"page 'b' .* is missing"):
        await bridge.restore_checkpoint(checkpoint_id)


async def test_a_checkpoint_goes_with_its_copies_and_with_nothing_else(backend: StorageBackend) -> None:
    bridge = ArtifactsBridge(backend)
    page = text_page("a", "hello")
    kept = await bridge.store_page(page)
    checkpoint_id = await bridge.checkpoint([page], "c")
    assert await bridge.list_checkpoints() == [checkpoint_id]
    assert await bridge.delete_checkpoint(checkpoint_id)
    assert not await bridge.delete_checkpoint(checkpoint_id)
    assert await bridge.restore_checkpoint(checkpoint_id) == []
    assert await backend.list_pages() == [kept]


@pytest.mark.parametrize("content", [object(), {"seen": {1, object()}}, "cut \ud83d"])
async def test_what_json_has_no_form_for_is_refused_by_name(content: object) -> None:
    bridge, page = ArtifactsBridge(InMemoryBackend()), text_page("p1")
    page.content = content
    with pytest.raises(StorageError, match="page 'p1' cannot be written as JSON"):
        await bridge.store_page(page)
    assert await bridge.list_pages() == []
