"""Every policy orders all that may go and nothing else, and the same way each time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core import policies
from pagekeeper.core.errors import InvalidField
from pagekeeper.core.eviction import Candidate
from pagekeeper.memory import (
    AntiThrashPolicy,
    EvictionCandidate,
    EvictionContext,
    EvictionPolicy,
    ImportanceWeightedLRU,
    ImportanceWeightedLRUConfig,
    LRUEvictionPolicy,
    MemoryPage,
    Modality,
    ModalityAwareLRU,
    NamedEvictionPolicy,
    PageTable,
    PageType,
    StorageTier,
    WorkingSetManager,
)
from pagekeeper.memory.uses import UseHistory
from tests.unit.memory.pages import IDS, page_ids, text_page

POLICIES: dict[str, EvictionPolicy] = {
    "importance": ImportanceWeightedLRU(),
    "lru": LRUEvictionPolicy(),
    "modality": ModalityAwareLRU(),
    **{name: NamedEvictionPolicy(name) for name in policies.POLICIES},
}

known = st.builds(
    MemoryPage,
    page_id=page_ids,
    modality=st.sampled_from(Modality),
    page_type=st.sampled_from(PageType),
    content=st.just("some words"),
    importance=st.floats(0, 1),
    access_count=st.integers(0, 1_000),
    pinned=st.booleans(),
)


@st.composite
def contexts(draw: st.DrawFn) -> EvictionContext:
    thrashing = AntiThrashPolicy()
    for page_id, turn in draw(st.dictionaries(page_ids, st.integers(0, 9))).items():
        thrashing.record_fault(page_id, turn)
    table = PageTable()
    for page in draw(st.lists(known, max_size=3)):
        table.register(page)
    held = {page.page_id: page for page in draw(st.lists(known, max_size=5))}
    uses = UseHistory()
    for turn, page_id in enumerate(draw(st.lists(page_ids, max_size=9))):
        uses.record_use(page_id, held.get(page_id), turn)
    return EvictionContext(
        current_turn=9,
        l0_page_ids=list(IDS),
        l0_pages=held,
        l1_pages=held,
        pinned_page_ids=draw(st.sets(page_ids)),
        importance_overrides=draw(st.dictionaries(page_ids, st.floats(0, 1))),
        uses=uses,
        anti_thrash=draw(st.sampled_from([thrashing, None])),
        page_table=draw(st.sampled_from([table, None])),
    )


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@given(context=contexts(), tier=st.sampled_from([StorageTier.L0, StorageTier.L1]))
def test_a_policy_orders_what_may_go_and_nothing_else(
    policy: EvictionPolicy, context: EvictionContext, tier: StorageTier
) -> None:
    """A page is kept by a pin of its id or its own, wherever the page stands, and by what it went through."""
    scored = policy.score_candidates(context, tier)
    offered = [candidate.page_id for candidate in scored]
    may_go = set(context.tier_page_ids(tier)) - context.pinned_page_ids
    for page_id in set(may_go):
        page = context.page(page_id) or context.entry(page_id)
        protected = context.anti_thrash is not None and not context.anti_thrash.can_evict(page_id, 9)
        if protected or (page is not None and page.pinned):
            may_go.discard(page_id)
    assert sorted(offered) == sorted(may_go)
    assert scored == sorted(scored, key=lambda candidate: candidate.score)
    assert [candidate.page_id for candidate in policy.score_candidates(context, tier)] == offered


def order(policy: EvictionPolicy, context: EvictionContext, tier: StorageTier = StorageTier.L0) -> list[str]:
    return [candidate.page_id for candidate in policy.score_candidates(context, tier)]


def test_weights_are_what_they_are_configured_to_be() -> None:
    context = EvictionContext(l0_page_ids=["a", "b"], importance_overrides={"a": 1.0, "b": 0.0})
    by_position = ImportanceWeightedLRUConfig(l0_position_weight=1, l0_importance_weight=0, l0_thrash_weight=0)
    by_importance = ImportanceWeightedLRUConfig(l0_position_weight=0, l0_importance_weight=1, l0_thrash_weight=0)
    assert order(ImportanceWeightedLRU(by_position), context) == ["a", "b"]
    assert order(ImportanceWeightedLRU(by_importance), context) == ["b", "a"]


def test_a_page_s_own_importance_counts_in_l0() -> None:
    dear = MemoryPage(page_id="a", importance=1.0)
    cheap = MemoryPage(page_id="b", importance=0.0)
    context = EvictionContext(l0_page_ids=["a", "b"], l0_pages={"a": dear, "b": cheap})
    assert order(ImportanceWeightedLRU(), context) == ["b", "a"]


def test_media_go_before_text() -> None:
    held = WorkingSetManager(eviction_policy=ModalityAwareLRU())
    for modality in (Modality.TEXT, Modality.IMAGE, Modality.VIDEO):
        held.add_to_l1(MemoryPage(page_id=modality.value, modality=modality, content="some words"))
    offered = [page_id for page_id, _ in held.get_eviction_candidates(from_tier=StorageTier.L1)]
    assert offered == ["video", "image", "text"]


def test_a_policy_of_the_core_is_had_by_its_name() -> None:
    """By turns of use, which the guide's policies do not know."""
    held = WorkingSetManager()
    for page_id in ("a", "b", "c"):
        held.add_to_l0(text_page(page_id, "some words"))
    for _ in range(5):
        held.new_turn()
    held.record_access("a")
    held.set_eviction_policy(NamedEvictionPolicy("lru/1"))
    assert [page_id for page_id, _ in held.get_eviction_candidates()] == ["b", "c", "a"]
    with pytest.raises(InvalidField, match="importance-lru/1"):
        NamedEvictionPolicy("mru/1")


def test_what_is_used_again_is_kept_by_who_counts_it_even_after_it_was_gone() -> None:
    held = WorkingSetManager(eviction_policy=NamedEvictionPolicy("reuse/4"))
    pages = {page_id: text_page(page_id, size_tokens=50) for page_id in IDS}
    for page in pages.values():
        held.add_to_l0(page)
    for _ in range(3):
        held.new_turn()
        held.record_access("a")
        held.remove("b")
        held.add_to_l0(pages["b"])
        held.record_fault("b")
    for _ in range(5):
        held.new_turn()
    assert {page_id for page_id, _ in held.get_eviction_candidates()[-2:]} == {"a", "b"}


@given(st.lists(page_ids, min_size=1, max_size=30), page_ids)
def test_the_core_s_policies_are_shown_a_page_s_whole_history(used: list[str], page_id: str) -> None:
    uses = UseHistory()
    for turn, one in enumerate(used):
        uses.record_use(one, text_page(one), turn)
    shown = uses.candidate(page_id, PageType.CLAIM, 0.7, 12, 3, turn=99)
    assert shown[:4] == (page_id, PageType.CLAIM, 0.7, 12)
    assert (shown.position, shown.turn) == (3, 99)
    at = [turn for turn, one in enumerate(used) if one == page_id]
    if not at:
        assert shown[7:] == Candidate("", PageType.CLAIM, 0, 0, 0, 0, 0)[7:]
        return
    since_first, since_last = used[at[0] + 1 :], used[at[-1] + 1 :]
    assert (shown.last_used_turn, shown.reuses) == (at[-1], len(at) - 1)
    assert shown.first_reference == at[0] + 1
    assert shown.idle_references == len(since_last)
    assert shown.known_reuses == len(since_first) - len(set(since_first) - set(used[: at[0] + 1]))
    assert shown.idle_reuses == len(since_last) - len(set(since_last) - set(used[: at[-1] + 1]))
    if len(at) > 1:
        assert shown.gap_references == at[-1] - at[-2]


class LargestFirst:
    """An application's own policy."""

    def score_candidates(
        self, context: EvictionContext, from_tier: StorageTier, tokens_needed: int = 0
    ) -> list[EvictionCandidate]:
        fitting = [page_id for page_id in context.evictable(from_tier) if self.size(context, page_id) >= tokens_needed]
        scored = [EvictionCandidate(page_id=page_id, score=-self.size(context, page_id)) for page_id in fitting]
        return sorted(scored, key=lambda candidate: candidate.score)

    def size(self, context: EvictionContext, page_id: str) -> int:
        page = context.page(page_id)
        return 0 if page is None else page.estimate_tokens()


def test_an_application_may_have_its_own_policy() -> None:
    assert isinstance(LargestFirst(), EvictionPolicy)
    held = WorkingSetManager(eviction_policy=LargestFirst())
    for page_id, size in (("small", 10), ("large", 300), ("middling", 50)):
        held.add_to_l0(text_page(page_id, size_tokens=size))
    assert [page_id for page_id, _ in held.get_eviction_candidates()] == ["large", "middling", "small"]
    assert [page_id for page_id, _ in held.get_eviction_candidates(tokens_needed=40)] == ["large", "middling"]
