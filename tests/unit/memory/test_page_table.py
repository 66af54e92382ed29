"""Every view of a page table is what its entries say, whatever was done to them and by whom."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory import CompressionLevel, MemoryPage, Modality, PageTable, PageType, StorageTier
from tests.unit.memory.pages import IDS, page_ids, pages, text_page

Step = Callable[[PageTable], object]
tiers = st.sampled_from(StorageTier)


def in_place(page_id: str, tier: StorageTier, modality: Modality) -> Step:
    """An application holds entries, and may change one without asking the table."""

    def change(table: PageTable) -> None:
        entry = table.lookup(page_id)
        if entry is not None:
            entry.tier, entry.modality, entry.dirty = tier, modality, not entry.dirty

    return change


steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda page: lambda table: table.register(page), pages),
    st.builds(lambda page_id: lambda table: table.remove(page_id), page_ids),
    st.builds(lambda page_id, tier: lambda table: table.update_location(page_id, tier), page_ids, tiers),
    st.builds(lambda page_id: lambda table: table.mark_dirty(page_id), page_ids),
    st.builds(lambda page_id: lambda table: table.mark_clean(page_id), page_ids),
    st.builds(in_place, page_ids, tiers, st.sampled_from(Modality)),
)


@given(st.lists(steps, max_size=30))
def test_every_page_is_in_exactly_the_views_of_its_entry(script: list[Step]) -> None:
    """Registering twice, removing and changing in place leave nothing behind in a view or in a total."""
    table = PageTable()
    for step in script:
        step(table)
        entries = list(table.entries.values())
        assert [entry for tier in StorageTier for entry in table.get_by_tier(tier)] == sorted(
            entries, key=lambda entry: entry.tier
        )
        for modality in Modality:
            assert {entry.page_id for entry in table.get_by_modality(modality)} == {
                entry.page_id for entry in entries if entry.modality is modality
            }
        assert sum(len(table.get_by_type(page_type)) for page_type in PageType) == len(table)
        assert {entry.page_id for entry in table.get_dirty_pages()} == {e.page_id for e in entries if e.dirty}
        assert table.get_total_tokens() == sum(table.get_total_tokens([tier]) for tier in StorageTier)
        stats = table.get_stats()
        assert stats.total_pages == len(table) == sum(stats.pages_by_tier.values())
        assert stats.total_pages == sum(stats.pages_by_modality.values())
        assert stats.working_set_size == len(table.get_working_set())


def test_an_entry_is_what_the_page_said() -> None:
    page = MemoryPage(
        page_id="c1", page_type=PageType.CLAIM, content="x" * 40, provenance=["m1"], pinned=True, dirty=True
    )
    entry = PageTable().register(page)
    assert (entry.page_type, entry.size_tokens, entry.provenance) == (PageType.CLAIM, 10, ["m1"])
    assert entry.pinned
    assert entry.dirty
    page.provenance.append("m2")
    assert entry.provenance == ["m1"]


def test_moving_a_page_changes_only_what_is_said() -> None:
    table = PageTable()
    table.register(text_page("p1"))
    assert table.update_location("p1", StorageTier.L3, artifact_id="art", compression_level=CompressionLevel.ABSTRACT)
    assert table.update_location("p1", StorageTier.L2)
    entry = table.lookup("p1")
    assert entry is not None
    assert (entry.tier, entry.artifact_id, entry.compression_level) == (
        StorageTier.L2,
        "art",
        CompressionLevel.ABSTRACT,
    )


def test_a_page_is_clean_once_it_is_flushed() -> None:
    table = PageTable()
    entry = table.register(text_page("p1"))
    table.mark_dirty("p1")
    assert entry.last_flushed is None
    table.mark_clean("p1")
    assert entry.last_flushed is not None
    assert table.get_dirty_pages() == []


def test_the_page_accessed_longest_ago_goes_first_and_a_pinned_one_not_at_all() -> None:
    table = PageTable()
    now = datetime(2020, 1, 1, tzinfo=UTC)
    for age, page_id in enumerate(IDS):
        page = MemoryPage(page_id=page_id, pinned=page_id == "e")
        table.register(page).last_accessed = now - timedelta(hours=age)
    assert [entry.page_id for entry in table.get_eviction_candidates(limit=3)] == ["d", "c", "b"]
    table.mark_accessed("d")
    assert [entry.page_id for entry in table.get_eviction_candidates(limit=3)] == ["c", "b", "a"]


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.update_location("p1", StorageTier.L1),
        lambda table: table.mark_accessed("p1"),
        lambda table: table.mark_dirty("p1"),
        lambda table: table.mark_clean("p1"),
    ],
)
def test_a_page_that_is_not_known_is_not_changed(change: Callable[[PageTable], bool]) -> None:
    table = PageTable()
    assert not change(table)
    assert table.remove("p1") is None
    assert len(table) == 0
