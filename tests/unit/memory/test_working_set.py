"""The tokens of a working set are its pages', whatever happens to them, and what is kept is not offered to go."""

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory import (
    AntiThrashPolicy,
    CompressionLevel,
    ImportanceWeightedLRU,
    MemoryPage,
    Modality,
    PageTable,
    PageType,
    PinnedSet,
    StorageTier,
    TokenBudget,
    WorkingSetConfig,
    WorkingSetManager,
)
from tests.unit.memory.pages import IDS, page_ids, text_page

TOTAL, RESERVED, L1_PAGES = 1_000, 100, 3
Step = Callable[["Story"], None]
sizes = st.integers(0, 600)


def manager(total: int = TOTAL, reserved: int = RESERVED) -> WorkingSetManager:
    return WorkingSetManager(WorkingSetConfig(max_l0_tokens=total, max_l1_pages=L1_PAGES, reserved_tokens=reserved))


class Story:
    """A working set beside what it should hold, told in the simplest way: ids and sizes."""

    def __init__(self) -> None:
        self.working_set = manager()
        self.l0: dict[str, int] = {}
        self.l1: set[str] = set()

    def fits(self, page_id: str, size: int) -> bool:
        return sum(self.l0.values()) - self.l0.get(page_id, 0) + size <= TOTAL - RESERVED

    def add_to_l0(self, page_id: str, size: int, modality: Modality) -> None:
        page = MemoryPage(page_id=page_id, modality=modality, size_tokens=size, storage_tier=StorageTier.L3)
        fits = self.fits(page_id, size)
        assert self.working_set.add_to_l0(page) == fits
        assert page.storage_tier == (StorageTier.L0 if fits else StorageTier.L3)
        if fits:
            self.l0[page_id] = size
            self.l1.discard(page_id)

    def add_to_l1(self, page_id: str, size: int) -> None:
        fits = page_id in self.l1 or len(self.l1) < L1_PAGES
        assert self.working_set.add_to_l1(text_page(page_id, size_tokens=size)) == fits
        if fits:
            self.l1.add(page_id)
            self.l0.pop(page_id, None)

    def promote(self, page_id: str) -> None:
        page = self.working_set.get_page(page_id) or text_page(page_id)
        fits = page_id in self.l1 and self.fits(page_id, page.estimate_tokens())
        assert self.working_set.promote_to_l0(page) == fits
        if fits:
            self.l1.remove(page_id)
            self.l0[page_id] = page.estimate_tokens()

    def demote(self, page_id: str) -> None:
        page = self.working_set.get_page(page_id) or text_page(page_id)
        fits = page_id in self.l0 and len(self.l1) < L1_PAGES
        assert self.working_set.demote_to_l1(page) == fits
        if fits:
            del self.l0[page_id]
            self.l1.add(page_id)

    def remove(self, page_id: str) -> None:
        was_there = page_id in self.l0 or page_id in self.l1
        assert (self.working_set.remove(page_id) is not None) == was_there
        self.l0.pop(page_id, None)
        self.l1.discard(page_id)

    def remove_from_l0(self, page_id: str, size: int) -> None:
        """With a page of another size than it came in with: the guide's caller may hold a newer one."""
        assert self.working_set.remove_from_l0(page_id, text_page(page_id, size_tokens=size)) == (page_id in self.l0)
        self.l0.pop(page_id, None)

    def update_tokens(self, page_id: str, size: int) -> None:
        fits = page_id in self.l0 and self.fits(page_id, size)
        assert self.working_set.update_page_tokens(page_id, 1, size) == fits
        if fits:
            self.l0[page_id] = size

    def replace(self, page_id: str, size: int) -> None:
        fits = page_id in self.l1 or (page_id in self.l0 and self.fits(page_id, size))
        assert self.working_set.replace_page(text_page(page_id, size_tokens=size)) == fits
        if fits and page_id in self.l0:
            self.l0[page_id] = size

    def change_in_place(self, page_id: str, size: int) -> None:
        page = self.working_set.get_page(page_id)
        if page is not None and page_id in self.l0:
            page.size_tokens = size

    def take_another_budget(self) -> None:
        self.working_set.budget = TokenBudget(total_limit=TOTAL, reserved=RESERVED)

    def clear(self) -> None:
        self.working_set.clear()
        self.l0.clear()
        self.l1.clear()

    def check(self) -> None:
        held = self.working_set
        assert held.tokens_used == held.budget.used == sum(self.l0.values()) == sum(held.tokens_by_modality().values())
        assert held.budget.tokens_by_modality == held.get_stats().tokens_by_modality == held.tokens_by_modality()
        assert held.tokens_used <= TOTAL - RESERVED
        assert held.tokens_available == TOTAL - RESERVED - held.tokens_used
        assert set(held.get_l0_page_ids()) == set(self.l0)
        assert {page.page_id for page in held.get_l1_pages()} == self.l1
        assert not self.l1 & set(self.l0)
        assert len(held) == len(self.l0) + len(self.l1) == held.get_stats().total_pages


steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(lambda *said: lambda story: story.add_to_l0(*said), page_ids, sizes, st.sampled_from(Modality)),
    st.builds(lambda *said: lambda story: story.add_to_l0(*said), page_ids, sizes, st.sampled_from(Modality)),
    st.builds(lambda *said: lambda story: story.add_to_l1(*said), page_ids, sizes),
    st.builds(lambda page_id: lambda story: story.promote(page_id), page_ids),
    st.builds(lambda page_id: lambda story: story.demote(page_id), page_ids),
    st.builds(lambda page_id: lambda story: story.remove(page_id), page_ids),
    st.builds(lambda *said: lambda story: story.remove_from_l0(*said), page_ids, sizes),
    st.builds(lambda *said: lambda story: story.update_tokens(*said), page_ids, sizes),
    st.builds(lambda *said: lambda story: story.replace(*said), page_ids, sizes),
    st.builds(lambda *said: lambda story: story.change_in_place(*said), page_ids, sizes),
    st.just(Story.take_another_budget),
    st.just(Story.clear),
)


@given(st.lists(steps, max_size=40))
def test_the_tokens_used_are_the_sum_of_the_resident_pages_sizes(script: list[Step]) -> None:
    """Whatever is added twice, replaced, resized in place, moved or taken away, no token is counted twice or leaks."""
    story = Story()
    for step in script:
        step(story)
        story.check()


def test_a_page_added_to_l0_twice_counts_once() -> None:
    """Adding a page to L0 twice must not count its tokens twice."""
    held = manager()
    page = text_page("p1", size_tokens=100)
    assert held.add_to_l0(page)
    assert held.add_to_l0(page)
    assert held.add_to_l0(text_page("p1", size_tokens=70))
    assert (held.tokens_used, held.l0_pages) == (70, ["p1"])


def test_a_page_that_is_removed_leaves_no_tokens() -> None:
    """Removing a page must not leak its tokens, even when whoever removes it has only its id."""
    held = manager()
    for page_id in IDS:
        held.add_to_l0(text_page(page_id, size_tokens=100))
    for page_id in IDS:
        assert held.remove(page_id) is not None
    assert held.tokens_used == 0
    assert held.can_fit(TOTAL - RESERVED)


def test_a_page_that_does_not_fit_is_refused_and_stays_where_it_was() -> None:
    held = manager()
    large = text_page("large", size_tokens=TOTAL)
    held.add_to_l1(large)
    assert not held.promote_to_l0(large)
    assert (large.storage_tier, held.is_in_l1("large"), held.tokens_used) == (StorageTier.L1, True, 0)


def test_the_budget_that_is_given_follows_the_pages() -> None:
    budget = TokenBudget(total_limit=500, reserved=0)
    held = WorkingSetManager(WorkingSetConfig(max_l0_tokens=500), budget)
    budget.add(50, Modality.TEXT)
    held.add_to_l0(MemoryPage(page_id="i1", modality=Modality.IMAGE, size_tokens=200))
    assert (budget.used, budget.image_tokens, budget.text_tokens) == (250, 200, 50)
    assert (held.tokens_used, held.tokens_available) == (200, 250)
    held.budget = TokenBudget(total_limit=300, reserved=0)
    assert (budget.used, held.budget.used) == (50, 200)
    with pytest.raises(ValueError, match="500 tokens"):
        WorkingSetManager(WorkingSetConfig(max_l0_tokens=500), TokenBudget(total_limit=400))


def test_eviction_begins_above_the_threshold_and_ends_at_the_target() -> None:
    held = manager(total=1_000, reserved=0)
    held.add_to_l0(text_page("p1", size_tokens=850))
    assert not held.needs_eviction()
    held.add_to_l0(text_page("p2", size_tokens=10))
    assert held.needs_eviction()
    assert held.calculate_eviction_target() == 360
    assert held.calculate_eviction_target(tokens_needed=40) == 400
    held.remove("p1")
    assert held.calculate_eviction_target(tokens_needed=40) == 0


def test_an_order_of_ids_can_be_given() -> None:
    held = manager()
    for page_id in ("a", "b"):
        held.add_to_l0(text_page(page_id, size_tokens=100))
    held.l0_pages = ["c", "b"]
    assert (held.get_l0_page_ids(), held.tokens_used) == (["c", "b"], 100)
    assert [page_id for page_id, _ in held.get_eviction_candidates()] == ["c", "b"]


def candidates(held: WorkingSetManager, tier: StorageTier = StorageTier.L0) -> list[str]:
    return [page_id for page_id, _ in held.get_eviction_candidates(from_tier=tier)]


@pytest.mark.parametrize("tier", [StorageTier.L0, StorageTier.L1])
def test_a_page_s_own_pin_counts_in_every_tier(tier: StorageTier) -> None:
    """A page's own `pinned` must not be ignored in L0, nor be contradicted by other places that know of pins."""
    held = manager()
    add = held.add_to_l0 if tier is StorageTier.L0 else held.add_to_l1
    pinned = MemoryPage(page_id="pinned", pinned=True)
    add(pinned)
    add(text_page("plain"))
    assert candidates(held, tier) == ["plain"]
    assert held.is_pinned("pinned")
    assert held.pinned_page_ids() == {"pinned"}
    pinned.pinned = False
    assert set(candidates(held, tier)) == {"pinned", "plain"}
    pinned.pinned = True
    held.unpin_page("pinned")
    assert not held.is_pinned("pinned")
    assert set(candidates(held, tier)) == {"pinned", "plain"}


def test_a_page_that_was_unpinned_may_go_whatever_the_page_table_remembers() -> None:
    held, table = manager(), PageTable()
    page = MemoryPage(page_id="p1", pinned=True)
    table.register(page)
    held.add_to_l0(page)
    held.unpin_page("p1")
    assert [page_id for page_id, _ in held.get_eviction_candidates(page_table=table)] == ["p1"]


pin_steps = st.lists(
    st.tuples(st.sampled_from(["pin", "unpin", "own", "disown", "add", "turn", "fault"]), page_ids), max_size=30
)


@given(pin_steps, st.sampled_from([StorageTier.L0, StorageTier.L1]))
def test_what_is_pinned_or_protected_is_not_offered_and_all_else_is(
    script: list[tuple[str, str]], tier: StorageTier
) -> None:
    held = WorkingSetManager()
    add = held.add_to_l0 if tier is StorageTier.L0 else held.add_to_l1
    for page_id in IDS[1:]:
        add(text_page(page_id, size_tokens=10))
    for step, page_id in script:
        page = held.get_page(page_id)
        match step:
            case "pin":
                held.pin_page(page_id)
                assert held.is_pinned(page_id)
            case "unpin":
                held.unpin_page(page_id)
                assert not held.is_pinned(page_id)
            case "own" | "disown" if page is not None:
                page.pinned = step == "own"
            case "add":
                add(page or text_page(page_id, size_tokens=10))
            case "turn":
                held.new_turn()
            case _:
                held.record_fault(page_id)
        resident = held.l0_pages if tier is StorageTier.L0 else list(held.l1_cache)
        free = {one for one in resident if held.anti_thrash.can_evict(one, held.current_turn)}
        assert set(candidates(held, tier)) == free - held.pinned_page_ids()
        assert {one for one in IDS if held.is_pinned(one)} == held.pinned_page_ids()


def test_what_a_conversation_stands_on_is_pinned_automatically() -> None:
    held = WorkingSetManager(pinned_set=PinnedSet(auto_pin_last_n_turns=2, max_auto_pins=2))
    system = MemoryPage(page_id="system", content="x", metadata={"role": "system"})
    plan = MemoryPage(page_id="plan", content="x", metadata={"type": "plan"})
    claim = MemoryPage(page_id="claim", content="x", page_type=PageType.CLAIM, importance=0.9)
    for page in (system, plan, claim, text_page("first", "x")):
        held.add_to_l0(page)
    assert held.pinned_page_ids() == {"system", "plan", "claim"}
    held.new_turn()
    held.add_to_l0(text_page("second", "x"))
    assert held.pinned_page_ids() == {"system", "plan", "claim", "second"}
    held.new_turn()
    held.new_turn()
    assert held.pinned_page_ids() == {"system", "plan", "claim"}
    held.unpin_page("claim")
    assert set(candidates(held)) == {"claim", "first", "second"}


def test_automatic_pins_of_last_turns_leave_half_of_the_budget() -> None:
    held = manager(total=1_000, reserved=0)
    held.new_turn()
    for page_id in IDS:
        held.add_to_l0(text_page(page_id, size_tokens=200))
    assert held.pinned_page_ids() == {"d", "e"}
    assert candidates(held) == ["a", "b", "c"]


def test_pins_are_counted_once_and_automatic_ones_taken_back_together() -> None:
    pins = PinnedSet(max_auto_pins=10)
    pins.pin("a")
    pins.auto_pin("a")
    pins.auto_pin("b")
    assert (pins.count(), pins.get_all()) == (2, {"a", "b"})
    pins.clear_auto_pins()
    assert pins.get_all_pinned() == {"a"}


def test_a_page_just_faulted_in_or_just_evicted_is_protected() -> None:
    policy = AntiThrashPolicy(eviction_cooldown_turns=3, fault_protection_turns=2)
    policy.record_fault("f", turn=5)
    policy.record_eviction("e", turn=5)
    assert [policy.can_evict("f", turn) for turn in (5, 6, 7)] == [False, False, True]
    assert [policy.can_evict("e", turn) for turn in (5, 7, 8)] == [False, False, True]
    policy.cleanup_old_history(current_turn=100, max_age=20)
    assert policy.get_eviction_penalty("f", 100) == 0.0


def test_the_thrash_penalty_counts_where_it_is_used() -> None:
    """The penalty must not be 0 for all pages that may be evicted: a page that was lately missed goes after others."""
    held = WorkingSetManager()
    for page_id in ("a", "b"):
        held.add_to_l0(text_page(page_id, "x"))
    assert candidates(held) == ["a", "b"]
    held.pinned_set.auto_pin_last_n_turns = 0
    held.record_fault("a")
    scores = {}
    for turn in range(1, 8):
        held.new_turn()
        assert ("a" in candidates(held)) == (turn >= held.anti_thrash.fault_protection_turns)
        scores[turn] = dict(held.get_eviction_candidates())
    unfaulted = {page_id: score for page_id, score in scores[7].items() if page_id == "a"}
    assert scores[2]["a"] > scores[4]["a"] > unfaulted["a"]
    assert candidates(held) == ["a", "b"]


@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 20))
def test_a_penalty_is_at_most_one_and_fades(cooldown: int, protection: int, age: int) -> None:
    policy = AntiThrashPolicy(eviction_cooldown_turns=cooldown, fault_protection_turns=protection)
    policy.record_eviction("p", 0)
    policy.record_fault("p", 0)
    penalties = [policy.get_eviction_penalty("p", turn) for turn in range(age + 2)]
    assert all(0.0 <= later <= sooner <= 1.0 for sooner, later in pairwise(penalties))
    assert penalties[0] == 1.0


def test_importance_that_a_page_is_given_goes_before_its_own() -> None:
    held = WorkingSetManager(eviction_policy=ImportanceWeightedLRU())
    for page_id in ("a", "b"):
        held.add_to_l0(MemoryPage(page_id=page_id, content="x", importance=0.5))
    held.set_importance("a", 5.0)
    assert held.importance_overrides == {"a": 1.0}
    assert dict(held.get_eviction_candidates())["a"] == pytest.approx(0.4)
    held.set_importance("b", -1.0)
    assert candidates(held) == ["b", "a"]
    held.clear_importance("a")
    held.clear_importance("b")
    assert candidates(held) == ["a", "b"]


def test_a_shortened_page_takes_its_place_with_its_own_size() -> None:
    held = manager()
    page = text_page("p1", "x" * 400)
    held.add_to_l0(page)
    held.add_to_l0(text_page("p2", "x" * 400))
    assert held.replace_page(page.shortened(CompressionLevel.ABSTRACT, "x" * 40, 10))
    assert (held.l0_pages, held.tokens_used) == (["p1", "p2"], 110)
    shown = held.get_page("p1")
    assert shown is not None
    assert shown.full == page
