"""Guesses follow from what was recorded, are counted when they come true, and their records stay small."""

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory import MemoryPage, PageTable, PageType, SimplePrefetcher
from pagekeeper.memory import prefetcher as limits

ids = st.sampled_from(["a", "b", "c", "d"])


async def test_what_is_guessed_and_in_which_order() -> None:
    table = PageTable()
    for page_id, page_type in (("claim", PageType.CLAIM), ("talk", PageType.TRANSCRIPT)):
        table.register(MemoryPage(page_id=page_id, page_type=page_type))
    prefetcher = SimplePrefetcher(similar=lambda page_id, limit: [f"like_{page_id}"][:limit])
    prefetcher.set_last_segment_summary("summary")
    for page_id in ("talk", "after_talk", "talk", "talk", "claim", "talk"):
        prefetcher.record_page_access(page_id)
    prefetcher.record_tool_call("deploy", turn=3, pages_accessed_before=["runbook", "talk"])
    assert await prefetcher.prefetch_on_turn_start("s1", table) == [
        "summary",
        "claim",
        "runbook",
        "talk",
        "after_talk",
        "like_talk",
    ]


async def test_nothing_recorded_nothing_guessed() -> None:
    assert await SimplePrefetcher().prefetch_on_turn_start("s1") == []
    assert SimplePrefetcher().get_stats().model_dump() == {
        "tools_tracked": 0,
        "pages_tracked": 0,
        "total_accesses": 0,
        "pages_prefetched": 0,
        "hit_rate": 0.0,
    }


async def test_tools_are_likely_by_recency_then_by_use() -> None:
    prefetcher = SimplePrefetcher(max_recent_tools=2)
    for name, turn in (("old", 1), ("once", 9), ("often", 9), ("often", 9)):
        prefetcher.record_tool_call(name, turn, [f"before_{name}"])
    assert await prefetcher.prefetch_on_turn_start("s1") == ["before_often", "before_once"]


async def test_what_follows_a_page_is_what_followed_it_most() -> None:
    prefetcher = SimplePrefetcher(max_claims_to_prefetch=0)
    for page_id in ("q", "answer", "q", "q", "answer", "q", "other", "q"):
        prefetcher.record_page_access(page_id)
    assert await prefetcher.prefetch_on_turn_start("s1") == ["answer", "other"]
    prefetcher.record_page_access("unseen")
    assert await prefetcher.prefetch_on_turn_start("s1") == []


@given(st.lists(st.tuples(st.booleans(), ids), max_size=30))
def test_a_guess_comes_true_at_most_once(history: list[tuple[bool, str]]) -> None:
    prefetcher = SimplePrefetcher()
    pending: set[str] = set()
    guessed = came_true = 0
    for brought, page_id in history:
        if brought:
            guessed += page_id not in pending
            pending.add(page_id)
            prefetcher.record_prefetched([page_id])
        else:
            came_true += page_id in pending
            pending.discard(page_id)
            prefetcher.record_page_access(page_id)
    assert prefetcher.get_stats().hit_rate == (came_true / guessed if guessed else 0.0)
    assert prefetcher.get_stats().pages_prefetched == guessed


async def test_records_stay_small() -> None:
    prefetcher = SimplePrefetcher(max_claims_to_prefetch=0, max_recent_tools=0)
    for number in range(limits.PAGES_MAX + 5):
        prefetcher.record_page_access(f"p{number}")
    for number in range(limits.TOOLS_MAX + 5):
        prefetcher.record_tool_call(f"t{number}", number)
    stats = prefetcher.get_stats()
    assert (stats.pages_tracked, stats.tools_tracked) == (limits.PAGES_MAX, limits.TOOLS_MAX)
    prefetcher.record_page_access("p0")
    assert await prefetcher.prefetch_on_turn_start("s1") == []
