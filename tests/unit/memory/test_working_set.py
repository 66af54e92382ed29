"""The tokens of a working set are its pages', whatever happens to them, and what is kept is not offered to go."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.drafts import page_to_map
from pagekeeper.core.errors import InvalidField, PageNotFound
from pagekeeper.core.events import (
    Event,
    ImportanceSet,
    MappedPage,
    PagesMapped,
    SessionConfig,
    SessionOpened,
    Transaction,
    TurnBegun,
)
from pagekeeper.core.pages import Extent, MessageRole, StoredRepresentation
from pagekeeper.core.policies import POLICIES
from pagekeeper.core.session import Session
from pagekeeper.memory import (
    ImportanceWeightedLRU,
    LRUEvictionPolicy,
    MemoryPage,
    Modality,
    PageType,
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

    def change_in_place(self, page_id: str, size: int) -> None:
        page = self.working_set.get_page(page_id)
        if page is not None and page_id in self.l0:
            page.size_tokens = size

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
    st.builds(lambda *said: lambda story: story.change_in_place(*said), page_ids, sizes),
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
    assert (held.tokens_used, held.get_l0_page_ids()) == (70, ["p1"])


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
    assert (budget.used, budget.tokens_by_modality[Modality.IMAGE]) == (250, 200)
    assert (held.tokens_used, held.tokens_available) == (200, 250)
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


def candidates(held: WorkingSetManager, tier: StorageTier = StorageTier.L0) -> list[str]:
    return [page_id for page_id, _ in held.get_eviction_candidates(from_tier=tier)]


drawn_pages = st.builds(
    MemoryPage,
    page_id=page_ids,
    content=st.text(max_size=60),
    size_tokens=st.integers(1, 300),
    page_type=st.sampled_from(PageType),
    importance=st.floats(0, 1),
    metadata=st.sampled_from([{}, {"role": "user"}, {"role": "assistant"}, {"role": "tool", "tool_name": "shell"}]),
)


@given(st.sampled_from(sorted(POLICIES)), st.lists(drawn_pages | st.none(), max_size=20))
def test_pages_go_in_the_order_of_a_session_of_the_core(policy: str, said: list[MemoryPage | None]) -> None:
    """Each fact that a policy reads reaches it: turns of use, position, kind, words, importance, size and type."""
    held = WorkingSetManager(eviction_policy=policy)
    session = Session()
    config = SessionConfig(max_l0_tokens=10**9, eviction_policy=policy)
    events: list[Event] = [SessionOpened(config)]
    for page in said:
        if page is None:
            held.new_turn()
            events.append(TurnBegun())
        elif held.is_in_l0(page.page_id):
            held.set_importance(page.page_id, page.importance)
            events.append(ImportanceSet(page.page_id, page.importance))
        else:
            held.add_to_l0(page)
            events.append(PagesMapped((fact_of(page),)))
    for revision, event in enumerate(events, start=1):
        session.apply(revision, Transaction(f"r{revision}", b"", 0, (event,)))
    assert candidates(held) == [resident.page_id for resident in session.eviction_order()]


def fact_of(page: MemoryPage) -> MappedPage:
    """The page as a session is told of it; the manager's turns are its caller's, so no page is a user's there."""
    role = MessageRole(page.metadata.get("role", "assistant"))
    return page_to_map(
        page.page_id,
        StoredRepresentation(0, page.estimate_tokens(), 0, b"", extent=Extent("", 0, 0)),
        page.content,
        page_type=page.page_type,
        role=MessageRole.ASSISTANT if role is MessageRole.USER else role,
        importance=page.importance,
        tool_name=page.metadata.get("tool_name", ""),
    )._replace(version=1)


def test_a_policy_is_given_by_its_name_or_as_an_object() -> None:
    order = {}
    for policy in (LRUEvictionPolicy(), ImportanceWeightedLRU(), "lru/1", "importance-lru/1"):
        held = WorkingSetManager(eviction_policy=policy)
        held.add_to_l0(MemoryPage(page_id="dear", size_tokens=10, importance=1.0))
        held.add_to_l0(MemoryPage(page_id="late", size_tokens=10, importance=0.1))
        order[policy if isinstance(policy, str) else type(policy).__name__] = candidates(held)
    assert order["lru/1"] == order["LRUEvictionPolicy"] == ["dear", "late"]
    assert order["importance-lru/1"] == order["ImportanceWeightedLRU"] == ["late", "dear"]
    with pytest.raises(InvalidField, match="importance-lru/1"):
        WorkingSetManager(eviction_policy="mru/1")


def test_what_is_added_again_is_used_again() -> None:
    held = WorkingSetManager(eviction_policy="lru/1")
    pages = {page_id: text_page(page_id, size_tokens=10) for page_id in ("a", "b", "c")}
    for page in pages.values():
        held.add_to_l0(page)
    held.new_turn()
    held.add_to_l0(pages["a"])
    held.remove("b")
    held.add_to_l0(pages["b"])
    assert held.get_l0_page_ids() == ["a", "c", "b"]
    for _ in range(5):
        held.new_turn()
    assert candidates(held) == ["c", "a", "b"]


def test_what_is_of_the_last_turns_or_just_came_back_goes_after_all_else() -> None:
    held = WorkingSetManager(eviction_policy="lru/1")
    for page_id in IDS:
        held.add_to_l0(MemoryPage(page_id=page_id, size_tokens=10, page_type=PageType.CLAIM))
    first = held.remove("a")
    assert first is not None
    for _ in range(5):
        held.new_turn()
    held.add_to_l0(text_page("new", size_tokens=10))
    held.add_to_l0(first)
    assert candidates(held) == ["b", "c", "d", "e", "new", "a"]
    held.new_turn()
    held.new_turn()
    held.add_to_l0(text_page("newer", size_tokens=10))
    assert candidates(held) == ["b", "c", "d", "e", "a", "new", "newer"]


pin_steps = st.lists(
    st.tuples(st.sampled_from(["pin", "unpin", "add", "leave", "turn"]), page_ids, st.booleans()), max_size=30
)


@given(pin_steps)
def test_what_is_pinned_is_not_offered_and_all_else_is(script: list[tuple[str, str, bool]]) -> None:
    """A page's own `pinned` counts when it arrives; later, whoever pinned or unpinned it last has it."""
    held = WorkingSetManager()
    pinned: set[str] = set()
    known: set[str] = set()
    for step, page_id, arrives_pinned in script:
        match step:
            case "pin" | "unpin":
                if page_id not in known:
                    with pytest.raises(PageNotFound):
                        held.pin_page(page_id)
                elif step == "pin":
                    held.pin_page(page_id)
                    pinned.add(page_id)
                else:
                    held.unpin_page(page_id)
                    pinned.discard(page_id)
            case "add":
                held.add_to_l0(MemoryPage(page_id=page_id, size_tokens=10, pinned=arrives_pinned))
                if arrives_pinned and page_id not in known:
                    pinned.add(page_id)
                known.add(page_id)
            case "leave":
                held.remove(page_id)
            case _:
                held.new_turn()
        assert sorted(candidates(held)) == sorted(set(held.get_l0_page_ids()) - pinned)
        assert {one for one in IDS if held.is_pinned(one)} == pinned


def test_what_the_application_instructs_the_model_to_do_is_pinned() -> None:
    held = WorkingSetManager()
    held.add_to_l0(MemoryPage(page_id="system", content="x", metadata={"role": "system"}))
    held.add_to_l0(text_page("plain", "x"))
    assert held.is_pinned("system")
    assert candidates(held) == ["plain"]


def test_at_hand_the_first_to_come_goes_first_and_a_pinned_page_stays() -> None:
    held = manager()
    for page_id in ("a", "b"):
        held.add_to_l1(text_page(page_id))
    held.add_to_l1(MemoryPage(page_id="pinned", pinned=True))
    held.add_to_l1(text_page("a"))
    assert candidates(held, StorageTier.L1) == ["b", "a"]
    assert candidates(held, StorageTier.L2) == []


def test_importance_that_a_page_is_given_goes_before_its_own() -> None:
    held = WorkingSetManager(eviction_policy=ImportanceWeightedLRU())
    for page_id in ("a", "b"):
        held.add_to_l0(MemoryPage(page_id=page_id, content="x", importance=0.5))
    held.set_importance("a", 5.0)
    assert candidates(held) == ["b", "a"]
    held.set_importance("a", 0.7)
    held.set_importance("b", 0.8)
    assert candidates(held) == ["a", "b"]
    held.clear_importance("b")
    assert candidates(held) == ["b", "a"]
    held.clear_importance("a")
    assert candidates(held) == ["a", "b"]
    with pytest.raises(PageNotFound):
        held.set_importance("unknown", 0.5)
