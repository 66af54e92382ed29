"""What providers counted: a margin never lets a prompt through that would have broken one that was reported."""

from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.usage import (
    HEADROOM_PERCENT,
    REPORTS_TO_SHRINK,
    ProviderUsage,
    corrected_percent,
    teaches,
    with_report,
)

Report = tuple[int, int]
reports = st.lists(st.tuples(st.integers(1, 10_000), st.integers(1, 40_000)), max_size=30)
margins = st.integers(100, 400)


def after(told: list[Report]) -> ProviderUsage | None:
    """What is known when only reports that teach something are written, as the service does."""
    known = None
    for counted, given_tokens in told:
        if teaches(known, counted, given_tokens):
            known = with_report(known, "claude", counted, given_tokens)
    return known


@given(stated=margins, told=reports)
def test_no_report_ever_exceeds_the_margin_that_follows_it(stated: int, told: list[Report]) -> None:
    margin_percent = corrected_percent(stated, after(told))
    assert all(given_tokens * 100 <= counted * margin_percent for counted, given_tokens in told)


@given(stated=margins, told=reports)
def test_a_margin_gives_up_half_of_what_was_stated_at_most(stated: int, told: list[Report]) -> None:
    margin_percent = corrected_percent(stated, after(told))
    assert margin_percent - 100 >= (stated - 100) / 2
    if len(told) < REPORTS_TO_SHRINK:
        assert margin_percent >= stated


@given(stated=margins, told=reports, one=st.tuples(st.integers(1, 10_000), st.integers(1, 40_000)))
def test_what_teaches_nothing_would_have_changed_nothing(stated: int, told: list[Report], one: Report) -> None:
    known = after(told)
    if not teaches(known, *one):
        assert corrected_percent(stated, with_report(known, "claude", *one)) == corrected_percent(stated, known)


@given(told=reports)
def test_reports_do_not_depend_on_their_order_once_there_are_enough(told: list[Report]) -> None:
    if len(told) >= REPORTS_TO_SHRINK:
        assert corrected_percent(160, after(told)) == corrected_percent(160, after(told[::-1]))


def test_a_margin_comes_down_after_enough_reports_and_keeps_headroom() -> None:
    told = [(1_000, 1_250)] * (REPORTS_TO_SHRINK - 1)
    assert corrected_percent(160, after(told)) == 160
    assert corrected_percent(160, after([*told, (1_000, 1_250)])) == 125 + HEADROOM_PERCENT
    assert corrected_percent(160, after([(1_000, 900)] * REPORTS_TO_SHRINK)) == 130


def test_an_exact_count_stays_exact_until_a_report_exceeds_it() -> None:
    assert corrected_percent(100, after([(1_000, 1_000)] * REPORTS_TO_SHRINK)) == 100
    assert corrected_percent(100, after([(1_000, 980)] * REPORTS_TO_SHRINK)) == 100
    assert corrected_percent(100, after([(1_000, 1_001)])) == 101 + HEADROOM_PERCENT
