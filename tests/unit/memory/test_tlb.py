"""The TLB is a bounded LRU, and behind it the page table has the last word."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory import (
    MemoryPage,
    PageTable,
    PageTableEntry,
    PageTLB,
    StorageTier,
    TLBWithPageTable,
)
from tests.unit.memory.pages import IDS, page_ids, pages, text_page

Step = Callable[[TLBWithPageTable], object]
tiers = st.sampled_from(StorageTier)


def entry(page: MemoryPage) -> PageTableEntry:
    return PageTableEntry(page_id=page.page_id, tier=page.storage_tier)


Change = Callable[[PageTable | TLBWithPageTable], object]
either: st.SearchStrategy[Change] = st.one_of(
    st.builds(lambda page: lambda table: table.register(page), pages),
    st.builds(lambda page_id: lambda table: table.remove(page_id), page_ids),
    st.builds(lambda page_id, tier: lambda table: table.update_location(page_id, tier), page_ids, tiers),
    st.builds(lambda page_id: lambda table: table.mark_dirty(page_id), page_ids),
)
of_the_table: st.SearchStrategy[Callable[[PageTable], object]] = st.one_of(
    st.builds(lambda page_id: lambda table: table.mark_clean(page_id), page_ids),
    st.builds(lambda page_id: lambda table: table.mark_accessed(page_id), page_ids),
    st.builds(lambda page: lambda table: table.register_entry(entry(page)), pages),
)
steps: st.SearchStrategy[Step] = st.one_of(
    either,
    st.builds(lambda change: lambda both: change(both.page_table), either | of_the_table),
    st.builds(lambda page_id: lambda both: both.lookup(page_id), page_ids),
    st.builds(lambda tier: lambda both: both.tlb.invalidate_tier(tier), tiers),
)


@given(st.lists(steps, max_size=40), st.integers(1, 4))
def test_no_lookup_answers_what_the_page_table_would_not(script: list[Step], max_entries: int) -> None:
    """An entry in the TLB is never stale, also when the page table was changed without the TLB being told."""
    both = TLBWithPageTable(PageTable(), PageTLB(max_entries=max_entries))
    for step in script:
        step(both)
        for page_id in IDS:
            assert both.lookup(page_id) is both.page_table.lookup(page_id)
        assert len(both.tlb) <= max_entries


def test_what_was_cached_of_another_table_is_dropped() -> None:
    table, tlb = PageTable(), PageTLB()
    tlb.insert(PageTableEntry(page_id="p1", tier=StorageTier.L4))
    tlb.insert(table.register(text_page("p2")))
    both = TLBWithPageTable(table, tlb)
    assert both.lookup("p1") is None
    assert both.lookup("p2") is table.lookup("p2")
    assert tlb.hits == 1


@given(st.lists(st.tuples(st.sampled_from(["insert", "lookup", "invalidate"]), page_ids)), st.integers(1, 4))
def test_it_holds_the_entries_used_last(script: list[tuple[str, str]], max_entries: int) -> None:
    tlb = PageTLB(max_entries=max_entries)
    by_use: list[str] = []
    hits = misses = 0
    for step, page_id in script:
        known = page_id in by_use
        match step:
            case "insert":
                tlb.insert(PageTableEntry(page_id=page_id, tier=StorageTier.L1))
            case "lookup":
                hits, misses = hits + known, misses + (not known)
                assert (tlb.lookup(page_id) is not None) == known
            case _:
                assert tlb.invalidate(page_id) == known
        by_use = [one for one in by_use if one != page_id]
        if step == "insert" or (step == "lookup" and known):
            by_use = [*by_use, page_id][-max_entries:]
        assert [one.page_id for one in tlb.get_all()] == by_use
        assert (tlb.hits, tlb.misses) == (hits, misses)


def test_a_tier_and_all_of_it_can_be_dropped_and_counted() -> None:
    tlb = PageTLB(max_entries=10)
    for index, tier in enumerate((StorageTier.L0, StorageTier.L0, StorageTier.L1)):
        tlb.insert(PageTableEntry(page_id=f"p{index}", tier=tier))
    assert tlb.get_stats().utilization == pytest.approx(0.3)
    assert tlb.invalidate_tier(StorageTier.L0) == 2
    assert tlb.flush() == 1
    assert len(tlb) == 0
    assert tlb.hit_rate == 0.0
    with pytest.raises(ValueError, match="max_entries"):
        PageTLB(max_entries=0)
