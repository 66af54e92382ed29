"""The pre-pass names what a message calls for, from every page of the session, and touches no budget."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory import (
    DemandPagingMode,
    DemandPagingPrePass,
    MemoryPage,
    PageFaultHandler,
    PageSearchHandler,
    PageTable,
    PageType,
    StorageTier,
)
from tests.unit.hostile_text import hostile_texts

PAGES = {
    "talk_db": (PageType.TRANSCRIPT, "The reporting service should use PostgreSQL, said Ines."),
    "talk_lunch": (PageType.TRANSCRIPT, "Soup again."),
    "summary_1": (PageType.SUMMARY, "First segment."),
    "claim_auth": (PageType.CLAIM, "Tokens expire after an hour."),
    "summary_2": (PageType.SUMMARY, "Second segment."),
}


def session(pages: dict[str, tuple[PageType, str]]) -> tuple[PageTable, PageSearchHandler]:
    table = PageTable()
    for page_id, (page_type, content) in pages.items():
        page = MemoryPage(page_id=page_id, page_type=page_type, content=content, storage_tier=StorageTier.L2)
        table.register(page)
    return table, PageSearchHandler(
        page_table=table, page_hints={page_id: said for page_id, (_, said) in pages.items()}
    )


TABLE, SEARCH = session(PAGES)


def candidates(message: str, pager: DemandPagingPrePass | None = None, present: tuple[str, ...] = ()) -> list[str]:
    return (pager or DemandPagingPrePass()).get_prefetch_candidates(message, TABLE, {}, present, SEARCH)


def test_a_topic_is_looked_up_in_every_page() -> None:
    assert candidates("Which tables has PostgreSQL?") == ["talk_db"]


def test_a_recall_brings_what_it_names_then_the_last_summary_and_claims() -> None:
    found = candidates("What did we decide about PostgreSQL?")
    assert found[0] == "talk_db"
    assert set(found) == set(PAGES)
    sparse, search = session({f"page_{n}": (kind, "nothing") for n, (kind, _) in enumerate(PAGES.values())})
    assert DemandPagingPrePass().get_prefetch_candidates("As we agreed earlier", sparse, {}, (), search) == [
        "page_4",
        "page_3",
        "page_2",
    ]


def test_what_a_message_names_is_not_crowded_out_by_claims() -> None:
    table, search = session(
        {
            **{f"claim_{n}": (PageType.CLAIM, f"Decision {n} on colours.") for n in range(20)},
            "needle": (PageType.TRANSCRIPT, "The harbour crane broke on 3 March."),
        }
    )
    found = DemandPagingPrePass().get_prefetch_candidates("Remind me when the crane broke", table, {}, (), search)
    assert found[0] == "needle"
    assert len(found) == 5


def test_hints_serve_where_no_search_is_given() -> None:
    hints = {"talk_lunch": "what the canteen has"}
    assert DemandPagingPrePass().get_prefetch_candidates("Is the canteen open?", TABLE, hints, ()) == ["talk_lunch"]


@pytest.mark.parametrize("message", ["", "  \n", "ok", "How are you?", "Thanks!"])
def test_small_talk_calls_for_nothing(message: str) -> None:
    assert candidates(message) == []


@pytest.mark.parametrize(
    ("mode", "prefetches"),
    [
        (DemandPagingMode.MODEL, False),
        (DemandPagingMode.RUNTIME, True),
        (DemandPagingMode.HYBRID, True),
    ],
)
def test_who_brings_pages(mode: DemandPagingMode, prefetches: bool) -> None:  # noqa: FBT001 - cases
    assert bool(candidates("Remind me of PostgreSQL", DemandPagingPrePass(mode=mode))) is prefetches


@pytest.mark.parametrize(
    ("message", "recalls"),
    [
        ("As we discussed, Redis it is", True),
        ("when did I move to Berlin?", True),
        ("What about that plan for the release?", True),
        ("I told you my daughter's name", True),
        ("Sort this list", False),
        ("What is a monad?", False),
        ("The earliest date is fine", False),
    ],
)
def test_signals(message: str, recalls: bool) -> None:  # noqa: FBT001 - cases
    assert DemandPagingPrePass().has_recall_signal(message) is recalls


def test_signals_of_ones_own_replace_the_defaults() -> None:
    pager = DemandPagingPrePass(recall_signals=["weißt du noch"])
    assert pager.has_recall_signal("Weißt du noch?")
    assert not pager.has_recall_signal("Remember when we met?")
    assert not DemandPagingPrePass(recall_signals=[]).has_recall_signal("Remember when we met?")


def test_topics_are_words_of_four_letters_or_of_other_scripts() -> None:
    assert DemandPagingPrePass().extract_topics("I am the best, auth-flow; 数据库?") == [
        "best",
        "auth",
        "flow",
        "数据库",
    ]


@given(
    hostile_texts | st.sampled_from(["Remind me of PostgreSQL", "soup and tokens", "earlier"]),
    st.integers(0, 6),
    st.sets(st.sampled_from(sorted(PAGES))),
    st.integers(0, 3),
)
async def test_the_turns_budget_stays_as_it_is(message: str, pages_max: int, present: set[str], spent: int) -> None:
    """Whatever is named and brought ahead, the faults that the model has had stay spent and the others stay its own."""
    pages = {name: MemoryPage(page_id=name, content=content, size_tokens=3) for name, (_, content) in PAGES.items()}
    handler = PageFaultHandler(page_table=TABLE, get_page=pages.get)
    for _ in range(spent):
        await handler.handle_fault("talk_lunch")
    before = handler.get_metrics()
    named = candidates(message, DemandPagingPrePass(max_prefetch_pages=pages_max), tuple(present))
    assert len(named) == len(set(named)) <= pages_max
    assert not present & set(named)
    for page_id in named:
        assert (await handler.prefetch(page_id)).success
    assert handler.get_metrics() == before
    assert handler.get_metrics().faults_remaining == 3 - spent
