"""Pages, budgets and policies of the guide mean what they say, and survive being written down."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import pagekeeper.memory as front
from pagekeeper.core import events, packing
from pagekeeper.core import pages as core
from pagekeeper.memory import (
    CompressionLevel,
    FaultConfidenceThreshold,
    FaultPolicy,
    FaultReason,
    MemoryABI,
    MemoryPage,
    Modality,
    MutationLogSummary,
    TokenBudget,
    UserExperienceMetrics,
    VMMetrics,
    VMMode,
)
from tests.unit.memory.pages import lower_levels, pages

CORE_ENUMS = ("CompressionLevel", "FaultReason", "MessageRole", "Modality", "PageType", "StorageTier")


@given(pages)
def test_a_page_is_read_back_as_it_was_written(page: MemoryPage) -> None:
    assert MemoryPage.model_validate_json(page.model_dump_json()) == page


@given(pages, lower_levels, st.text(max_size=50))
def test_a_shortened_page_is_written_down_with_its_full_one(
    page: MemoryPage, level: CompressionLevel, shorter: str
) -> None:
    """Compressing before an eviction must not overwrite the only full copy."""
    as_it_was = page.model_copy(deep=True)
    made = page.shortened(level, shorter, 1)
    read = MemoryPage.model_validate_json(made.model_dump_json())
    assert page == as_it_was
    assert read.full == made.full == as_it_was
    assert read.content == shorter
    again = made.shortened(CompressionLevel.REFERENCE, "", 1)
    assert again.full == as_it_was


@pytest.mark.parametrize("name", CORE_ENUMS)
def test_an_enumeration_that_the_core_has_is_the_core_s(name: str) -> None:
    assert getattr(front, name) is getattr(core, name)


def test_modes_and_prefixes_are_the_core_s_too() -> None:
    assert VMMode is events.VMMode
    assert front.ContextPrefix is packing.ContextPrefix
    assert VMMode("strict") == "strict" == f"{VMMode.STRICT}"


def estimated(modality: Modality, **fields: object) -> int:
    return MemoryPage.model_validate({"page_id": "p", "modality": modality, **fields}).estimate_tokens()


def test_a_page_is_taken_for_what_a_prompt_shows_of_it() -> None:
    assert estimated(Modality.TEXT, content="x" * 400) == 100
    assert estimated(Modality.TEXT, content="x" * 400, size_tokens=7) == 7
    assert estimated(Modality.TEXT) == 0
    assert estimated(Modality.STRUCTURED, content={"key": "x" * 400}) == pytest.approx(100, abs=5)
    assert estimated(Modality.AUDIO, transcript="x" * 400, content=b"\0" * 9_999) == pytest.approx(100, abs=10)
    assert estimated(Modality.IMAGE, caption="x" * 40, dimensions=(800, 600)) == pytest.approx(15, abs=6)
    assert estimated(Modality.VIDEO, metadata={"scenes": ["x" * 200, {"description": "x" * 200}]}) > 100
    assert estimated(Modality.TEXT, content=b"\0" * 400, size_bytes=400) == 100
    assert estimated(Modality.TEXT, content=Decimal(1)) == 100


def test_what_a_page_cannot_be_is_refused() -> None:
    for wrong in ({"importance": 2.0}, {"size_tokens": -1}, {"size_bytes": -1}, {"modality": "smell"}):
        with pytest.raises(ValidationError):
            MemoryPage.model_validate({"page_id": "p", **wrong})


charges = st.lists(st.tuples(st.sampled_from(["add", "remove"]), st.integers(0, 500), st.sampled_from(Modality)))


@given(st.integers(0, 1_000), st.integers(0, 200), charges)
def test_a_budget_is_never_overdrawn_and_adds_up(
    total: int, reserved: int, steps: list[tuple[str, int, Modality]]
) -> None:
    budget = TokenBudget(total_limit=total, reserved=reserved)
    for step, tokens, modality in steps:
        before = budget.used
        if step == "remove":
            budget.remove(tokens, modality)
        elif budget.can_fit(tokens):
            assert budget.add(tokens, modality)
            assert budget.used == before + tokens
        else:
            assert not budget.add(tokens, modality)
            assert budget.used == before
        assert budget.used == sum(budget.tokens_by_modality.values()) <= max(0, total - reserved)
        assert budget.available == max(0, total - reserved) - budget.used
        assert 0.0 <= budget.utilization <= 1.0
    assert TokenBudget.model_validate_json(budget.model_dump_json()).tokens_by_modality == budget.tokens_by_modality


def test_a_turn_has_so_many_faults_of_so_many_tokens() -> None:
    policy = FaultPolicy(max_faults_per_turn=2, max_fault_tokens_per_turn=100)
    assert policy.can_fault(100)
    assert not policy.can_fault(101)
    policy.record_fault(60, page_id="p1", reason=FaultReason.RESOLVE_REFERENCE)
    assert (policy.faults_remaining, policy.tokens_remaining) == (1, 40)
    assert policy.can_fault(40)
    assert not policy.can_fault(41)
    policy.record_fault(0)
    assert not policy.can_fault()
    policy.new_turn()
    assert policy.can_fault(100)
    assert policy.pages_faulted_this_turn == []
    assert policy.faults_by_reason == {FaultReason.RESOLVE_REFERENCE: 1}


def test_each_threshold_allows_all_that_the_stricter_one_does() -> None:
    allowed = [
        {reason for reason in FaultReason if FaultPolicy(fault_confidence_threshold=level).can_fault(0, reason)}
        for level in FaultConfidenceThreshold
    ]
    assert allowed[0] < allowed[1] < allowed[2] == set(FaultReason)
    assert FaultReason.SPECULATIVE not in allowed[1]
    assert FaultReason.USER_REQUESTED_RECALL in allowed[0]


def test_what_is_reserved_is_not_for_content() -> None:
    abi = MemoryABI(max_context_tokens=100_000, reserved_tokens=2_000, tool_schema_tokens_reserved=500)
    assert abi.available_tokens == 97_500
    assert MemoryABI(max_context_tokens=1_000).available_tokens == 0


def test_only_a_page_that_is_missed_again_thrashes() -> None:
    metrics = UserExperienceMetrics()
    for turn, page_id in enumerate(("a", "b", "a", "a"), start=1):
        metrics.record_fault(FaultReason.RESOLVE_REFERENCE, page_id, turn)
    metrics.record_fault(FaultReason.SPECULATIVE)
    metrics.record_fault(FaultReason.SPECULATIVE)
    assert metrics.thrash_index(window_turns=5) == pytest.approx(2 / 5)
    assert metrics.thrash_index(window_turns=1) == 0.0
    assert metrics.fault_breakdown()[FaultReason.SPECULATIVE] == 2
    with pytest.raises(ValueError, match="reason must be 'user_requested_recall'"):
        metrics.record_fault("page_1")  # type: ignore[arg-type]


def test_a_recall_that_was_corrected_did_not_succeed() -> None:
    metrics = UserExperienceMetrics()
    assert metrics.recall_success_rate() == 1.0
    metrics.record_recall_attempt(success=True)
    metrics.record_recall_attempt(success=False)
    assert metrics.recall_success_rate() == 0.5


def test_a_turn_s_counts_begin_anew_and_the_totals_go_on() -> None:
    metrics = VMMetrics(max_faults_per_turn=1)
    metrics.record_fault()
    metrics.evictions_total = metrics.evictions_this_turn = metrics.compressions_this_turn = 1
    assert not metrics.can_fault()
    metrics.new_turn()
    assert metrics.can_fault()
    assert (metrics.faults_this_turn, metrics.evictions_this_turn, metrics.compressions_this_turn) == (0, 0, 0)
    assert (metrics.faults_total, metrics.evictions_total) == (1, 1)


def test_a_summary_is_read_by_attribute_and_by_key() -> None:
    summary = MutationLogSummary(total_mutations=3)
    assert summary["total_mutations"] == summary["total"] == summary.total_mutations == 3
    assert "creates" in summary
    with pytest.raises(KeyError):
        _ = summary["nothing"]
