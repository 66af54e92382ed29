"""Which page goes first: what each policy says of two pages, and what that means over a session."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core import events as ev
from pagekeeper.core.errors import InvalidField
from pagekeeper.core.eviction import Candidate
from pagekeeper.core.pages import (
    FaultReason,
    MessageRole,
    Modality,
    PageType,
    StoredRepresentation,
    TrustClass,
)
from pagekeeper.core.policies import POLICIES, chosen_policy
from pagekeeper.core.session import Session

PAGE = Candidate(
    page_id="p",
    page_type=PageType.TRANSCRIPT,
    importance=0.5,
    size_tokens=100,
    last_used_turn=5,
    position=1,
    turn=10,
    reuses=2,
    known_reuses=40,
    known_references=50,
    idle_reuses=10,
    idle_references=15,
    gap_references=20,
    residents=40,
)

candidates = st.builds(
    PAGE._replace,
    page_type=st.sampled_from(PageType),
    importance=st.floats(0, 1),
    size_tokens=st.integers(0, 100_000),
    last_used_turn=st.integers(0, 10),
    position=st.integers(0, 1_000),
    reuses=st.integers(0, 100_000),
    known_reuses=st.integers(100_000, 200_000),
    known_references=st.integers(200_000, 300_000),
    fault_count=st.integers(0, 100),
    idle_reuses=st.integers(0, 100_000),
    idle_references=st.integers(100_000, 200_000),
    gap_references=st.integers(0, 200_000),
    first_reference=st.integers(1, 300_000),
    kind_share=st.floats(0.001, 0.999),
    periodicity=st.floats(0, 1),
    is_message=st.booleans(),
    recall_likelihood_percent=st.integers(0, 100),
    scan_references=st.integers(0, 200_000),
    residents=st.integers(1, 10_000),
)


REUSE = pytest.mark.parametrize("policy", ["reuse/4", "reuse/5"])


def goes_first(policy: str, first: Candidate, second: Candidate) -> bool:
    key = chosen_policy(policy).key
    return key(first) < key(second)


def test_an_unknown_policy_is_refused_by_name() -> None:
    with pytest.raises(InvalidField, match="reuse/5"):
        chosen_policy("reuse/99")


@pytest.mark.parametrize("policy", POLICIES)
@given(candidate=candidates)
def test_keys_are_numbers_and_pages_in_other_places_differ(policy: str, candidate: Candidate) -> None:
    key = chosen_policy(policy).key
    assert key(candidate) == key(candidate)
    assert key(candidate) != key(candidate._replace(position=candidate.position + 1))
    assert all(part == part for part in key(candidate)), "a key that is not a number sorts at random"  # noqa: PLR0124


@pytest.mark.parametrize("policy", POLICIES)
def test_what_was_used_longest_ago_goes_first(policy: str) -> None:
    longer_ago = PAGE._replace(last_used_turn=2, idle_reuses=30, idle_references=40)
    assert goes_first(policy, longer_ago, PAGE)


@pytest.mark.parametrize("policy", ["importance-lru/1", "reuse/1", "reuse/2", "reuse/3", "reuse/4", "reuse/5"])
def test_what_matters_less_goes_first(policy: str) -> None:
    assert goes_first(policy, PAGE._replace(importance=0.1), PAGE)
    assert goes_first(policy, PAGE, PAGE._replace(page_type=PageType.CLAIM))


@REUSE
@pytest.mark.parametrize(
    "less",
    [
        pytest.param(PAGE._replace(size_tokens=200), id="larger"),
        pytest.param(PAGE._replace(idle_reuses=12), id="idle for longer"),
    ],
)
def test_by_reuse_what_is_worth_less_for_its_room_goes_first(policy: str, less: Candidate) -> None:
    assert goes_first(policy, less, PAGE)


@REUSE
def test_by_reuse_kinds_that_nobody_asks_for_again_go_first(policy: str) -> None:
    once = PAGE._replace(reuses=0, idle_reuses=PAGE.known_reuses, idle_references=60)
    assert goes_first(policy, once._replace(kind_share=0.05), once._replace(kind_share=0.6))


@REUSE
def test_by_reuse_the_page_of_a_loop_that_was_just_used_goes_before_the_one_that_is_due(policy: str) -> None:
    just_used = PAGE._replace(periodicity=1.0, idle_references=1, idle_reuses=1)
    due = PAGE._replace(periodicity=1.0, idle_references=19, idle_reuses=19)
    assert goes_first(policy, just_used, due)
    assert goes_first(policy, just_used._replace(periodicity=0.6), due._replace(periodicity=0.6)), "a doubt is enough"
    assert goes_first(policy, due._replace(periodicity=0.0), just_used._replace(periodicity=0.0))


@given(size_tokens=st.integers(1, 2**40))
@pytest.mark.parametrize(("policy", "of_a_file"), [("reuse/4", 8), ("reuse/5", 16)])
def test_by_reuse_a_message_in_sixteen_times_the_room_is_worth_a_sixteenth_and_a_file_by_its_policy(
    policy: str, of_a_file: int, size_tokens: int
) -> None:
    key = chosen_policy(policy).key
    for is_message, times in ((False, of_a_file), (True, 16)):
        page = PAGE._replace(is_message=is_message)
        small, large = (key(page._replace(size_tokens=size_tokens * sixteen))[0] for sixteen in (1, 16))
        assert Fraction(small) / Fraction(large) == pytest.approx(times)


@REUSE
@given(new_pages=st.integers(0, 200))
def test_by_reuse_new_pages_age_what_was_used_before_them_more_and_more_and_as_a_run_less_and_less(
    policy: str, new_pages: int
) -> None:
    """A run, until pages are used again: from then on, it says little of those that came with it."""
    key = chosen_policy(policy).key

    def lost_to_one_more(page: Candidate, new: int) -> float:
        after, before = (1 / key(page._replace(idle_references=page.idle_reuses + n))[0] for n in (new + 1, new))
        return after - before

    def lost_to_a_longer_run(page: Candidate, run: int) -> float:
        after, before = (1 / key(page._replace(scan_references=n))[0] for n in (run + 1, run))
        return after - before

    once = PAGE._replace(reuses=0, idle_reuses=0)
    for page in (PAGE, once):
        assert 0 <= lost_to_one_more(page, new_pages) < lost_to_one_more(page, new_pages + 1)
    assert lost_to_a_longer_run(once, new_pages) > lost_to_a_longer_run(once, new_pages + 1) > 0
    assert lost_to_a_longer_run(PAGE, new_pages) == 0
    assert lost_to_a_longer_run(once._replace(idle_reuses=9), new_pages) < lost_to_a_longer_run(once, new_pages) / 5


@REUSE
@given(earlier=st.integers(1, 1_000), later=st.integers(1, 1_000))
def test_by_reuse_of_two_messages_the_one_from_the_session_s_beginning_stays(
    policy: str, earlier: int, later: int
) -> None:
    said = PAGE._replace(is_message=True)
    if earlier < later:
        assert goes_first(policy, said._replace(first_reference=later), said._replace(first_reference=earlier))


@REUSE
def test_by_reuse_a_message_that_was_asked_for_more_often_stays(policy: str) -> None:
    said = PAGE._replace(is_message=True)
    assert goes_first(policy, said._replace(reuses=1), said)


@REUSE
def test_by_reuse_what_says_little_goes_first(policy: str) -> None:
    assert goes_first(policy, PAGE._replace(recall_likelihood_percent=20), PAGE)


@REUSE
def test_by_reuse_a_message_is_not_given_up_for_being_idle(policy: str) -> None:
    """What was read is done with after a while; what was said may be asked for at any time."""
    idle = PAGE._replace(idle_reuses=PAGE.known_reuses, idle_references=60)
    key = chosen_policy(policy).key
    assert key(idle) < key(PAGE)
    assert key(idle._replace(is_message=True)) == key(PAGE._replace(is_message=True))


# Over a session

MEMORY_TOKENS = 1_000
PAGE_TOKENS = 100


def session(policy: str, target_utilization: float = 1.0) -> Session:
    made = Session()
    config = ev.SessionConfig(
        max_l0_tokens=MEMORY_TOKENS,
        reserved_tokens=0,
        eviction_threshold=1.0,
        target_utilization=target_utilization,
        pin_last_turns=0,
        fault_protection_turns=0,
        eviction_policy=policy,
    )
    apply(made, ev.SessionOpened(config))
    return made


def apply(to: Session, event: ev.Event) -> None:
    to.apply(to.revision + 1, ev.Transaction(str(to.revision), bytes(32), 0, (event,)))


def want(of: Session, page_id: str, tool_name: str = "read") -> bool:
    """Whether a page was resident when it was wanted, as it is from there on."""
    page = of.pages.get(page_id)
    if page is None:
        apply(of, ev.PagesMapped((mapped(page_id, tool_name),)))
        return False
    if page_id in of.working_set:
        apply(of, ev.PagesUsed((page_id,)))
        return True
    apply(of, ev.PageAdmitted(page_id, 1, 0, FaultReason.RESOLVE_REFERENCE))
    return False


def mapped(page_id: str, tool_name: str) -> ev.MappedPage:
    full = StoredRepresentation(0, PAGE_TOKENS, 1, sha256(page_id.encode()).digest(), inline=b"x")
    return ev.MappedPage(
        page_id=page_id,
        version=1,
        modality=Modality.TEXT,
        page_type=PageType.ARTIFACT,
        role=MessageRole.TOOL,
        trust=TrustClass.TOOL,
        hint="",
        importance=0.5,
        pinned=False,
        full=full,
        tool_name=tool_name,
    )


def hit_share(of: Session, page_ids: Iterable[str]) -> float:
    hits = [want(of, page_id) for page_id in page_ids]
    return sum(hits) / len(hits)


def loop(pages: int, rounds: int) -> Iterator[str]:
    return (f"p{number}" for _ in range(rounds) for number in range(pages))


@REUSE
def test_a_loop_larger_than_memory_keeps_a_part_of_itself(policy: str) -> None:
    """Ten pages fit: nine of thirteen gaps can be hits at best, and least recently used has none."""
    assert hit_share(session("lru/1"), loop(13, 12)) == 0
    assert hit_share(session(policy), loop(13, 12)) > 0.5


def test_a_sweep_does_not_push_out_what_is_used_all_the_time() -> None:
    kept = {}
    for policy in ("lru/1", "reuse/4", "reuse/5"):
        swept = session(policy)
        hit_share(swept, loop(8, 6))
        hit_share(swept, [f"once{number}" for number in range(40)])
        kept[policy] = sum(f"p{number}" in swept.working_set for number in range(8))
    assert kept["lru/1"] == 0
    assert min(kept["reuse/4"], kept["reuse/5"]) >= 4


@REUSE
def test_a_tool_whose_results_are_not_wanted_again_does_not_push_out_files(policy: str) -> None:
    mixed = session(policy)
    for number in range(60):
        want(mixed, f"p{number % 8}")
        want(mixed, f"output{number}", "run_tests")
    assert all(f"p{number}" in mixed.working_set for number in range(8))


@REUSE
def test_nothing_stays_for_ever_where_nothing_is_used_again(policy: str) -> None:
    told = session(policy)
    full = StoredRepresentation(0, PAGE_TOKENS * 7 // 10, 1, bytes(32), inline=b"x")
    small = mapped("small", "read")._replace(full=full)
    apply(told, ev.PagesMapped((small,)))
    for number in range(1_000):
        want(told, f"once{number}")
    assert "small" not in told.working_set


@pytest.mark.parametrize("policy", POLICIES)
def test_a_use_of_a_resident_page_moves_nothing_and_keeps_it_longer(policy: str) -> None:
    used = session(policy)
    for number in range(10):
        apply(used, ev.TurnBegun())
        want(used, f"p{number}")
    order = [resident.page_id for resident in used.working_set]
    apply(used, ev.PagesUsed(("p0",)))
    assert [resident.page_id for resident in used.working_set] == order
    want(used, "another")
    assert "p0" in used.working_set
    assert "p1" not in used.working_set


def test_a_guess_counts_as_no_use() -> None:
    guessed = session("reuse/5")
    hit_share(guessed, loop(11, 1))
    references = guessed.reuse.references
    apply(guessed, ev.PageAdmitted("p0", 1, 0, FaultReason.SPECULATIVE))
    assert guessed.reuse.references == references


# Batches between the watermarks


def test_a_batch_ends_before_pages_that_are_in_use() -> None:
    """Seven pages of ten are used all the time; what comes once makes room, and no page in use leaves with it."""
    in_use, kept = [f"p{number % 7}" for number in range(70)], {}
    for policy in ("reuse/4", "reuse/5"):
        batches = session(policy, target_utilization=0.5)
        hit_share(batches, in_use)
        hit_share(batches, [f"once{number}" for number in range(12)])
        kept[policy] = sum(f"p{number}" in batches.working_set for number in range(7))
    assert kept["reuse/4"] < 7
    assert kept["reuse/5"] == 7


@given(pages=st.integers(11, 40))
def test_a_batch_goes_on_to_the_low_watermark_where_no_page_was_used_again(pages: int) -> None:
    """A provider's cache loses the prompt's end with each batch, so a batch frees much."""
    batches = session("reuse/5", target_utilization=0.5)
    for number in range(pages):
        before = batches.working_set.used_tokens
        want(batches, f"once{number}")
        evicting = before + PAGE_TOKENS > MEMORY_TOKENS
        assert batches.working_set.used_tokens == (MEMORY_TOKENS // 2 if evicting else before + PAGE_TOKENS)
