"""An entry that the TLB answers is what the page table said at the revision asked for, or later."""

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory.ids import SessionId, SessionKey, TenantId
from pagekeeper.memory.tlb import Tlb

KEY = SessionKey(TenantId("t"), SessionId("s"))
PAGES = ("a", "b", "c")


def test_a_notice_that_continues_the_line_drops_only_what_it_touched() -> None:
    tlb: Tlb[int] = Tlb()
    tlb.fill(KEY, 5, [("a", 5), ("b", 5)])
    tlb.shoot_down(KEY, 5, 7, ("a",))
    assert tlb.lookup(KEY, "a", 0) is None
    assert tlb.lookup(KEY, "b", 7) == 5
    assert tlb.lookup(KEY, "b", 8) is None


def test_a_missed_notice_drops_the_line() -> None:
    tlb: Tlb[int] = Tlb()
    tlb.fill(KEY, 5, [("b", 5)])
    tlb.shoot_down(KEY, 6, 7, ())
    assert tlb.lookup(KEY, "b", 0) is None


def test_an_old_answer_does_not_enter_a_newer_line() -> None:
    tlb: Tlb[int] = Tlb()
    tlb.fill(KEY, 5, [("a", 5)])
    tlb.shoot_down(KEY, 5, 6, ("b",))
    tlb.fill(KEY, 5, [("b", 5)])
    assert tlb.lookup(KEY, "b", 0) is None


def test_it_stays_within_its_bounds() -> None:
    tlb: Tlb[int] = Tlb(lines_max=2, entries_max=3)
    for session in range(5):
        key = SessionKey(TenantId("t"), SessionId(f"s{session}"))
        tlb.fill(key, 1, [(f"p{page}", page) for page in range(10)])
    assert len(tlb) == 6


@given(st.lists(st.tuples(st.sampled_from(PAGES), st.booleans(), st.booleans()), max_size=60))
def test_it_never_answers_what_was_not_so(steps: list[tuple[str, bool, bool]]) -> None:
    """A page table of versions: each step changes a page, tells the TLB of it or not, and looks all pages up."""
    tlb: Tlb[int] = Tlb()
    table = dict.fromkeys(PAGES, 0)
    revision = told = 1
    for page, is_told, is_filled in steps:
        table[page] += 1
        revision += 1
        if is_told:
            tlb.shoot_down(KEY, revision - 1, revision, (page,))
            told = revision
        if is_filled:
            tlb.fill(KEY, revision, list(table.items()))
            told = revision
        for looked_up in PAGES:
            entry = tlb.lookup(KEY, looked_up, revision)
            assert entry is None or entry == table[looked_up]
            if revision == told and is_filled:
                assert entry == table[looked_up]
