"""Pages, budgets and policies of the guide mean what they say, and survive being written down."""

from decimal import Decimal
from itertools import pairwise

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
    PageManifestEntry,
    PageTableEntry,
    PageType,
    StorageTier,
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


def test_what_is_precious_goes_last_and_what_is_pinned_never() -> None:
    order = (
        PageType.TRANSCRIPT,
        PageType.ARTIFACT,
        PageType.SUMMARY,
        PageType.PROCEDURE,
        PageType.INDEX,
        PageType.CLAIM,
    )
    entries = [PageTableEntry(page_id="p", tier=StorageTier.L1, page_type=page_type) for page_type in order]
    assert all(sooner.eviction_priority > later.eviction_priority for sooner, later in pairwise(entries))
    assert entries[0].model_copy(update={"pinned": True}).eviction_priority == 0.0


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


def entry(page_id: str, tokens: int, modality: Modality = Modality.TEXT, **said: float) -> PageManifestEntry:
    known = {"page_type": PageType.TRANSCRIPT, "compression_level": 0, "importance": 0.5, **said}
    return PageManifestEntry.model_validate({"page_id": page_id, "tokens": tokens, "modality": modality, **known})


def test_a_smaller_model_gives_up_what_it_misses_least() -> None:
    kept = entry("kept", 500, importance=0.0, can_evict=False, can_compress=False)
    pages = [entry("text", 100), entry("film", 100, Modality.VIDEO), entry("dear", 100, importance=1.0), kept]
    large, small = (MemoryABI(max_context_tokens=size, reserved_tokens=0, pages=pages) for size in (800, 650))
    assert (large.excess_tokens, large.to_give_up()) == (0, [])
    assert small.excess_tokens == 150
    assert [page.page_id for page in small.to_give_up()] == ["film", "text"]


def test_the_schemas_of_tools_are_reserved_for() -> None:
    search, fault = {"name": "search", "description": "x" * 400}, {"name": "fault"}
    abi = MemoryABI().with_tools([search, fault])
    assert abi.tool_schema_tokens_reserved > 100
    assert abi.available_tokens < MemoryABI().available_tokens
    assert abi.active_toolset_hash == MemoryABI().with_tools([fault, search]).active_toolset_hash
    assert abi.active_toolset_hash != MemoryABI().with_tools([fault]).active_toolset_hash


def test_only_a_page_that_is_missed_again_thrashes() -> None:
    metrics = UserExperienceMetrics()
    for turn, page_id in enumerate(("a", "b", "a", "a"), start=1):
        metrics.record_fault(page_id, FaultReason.RESOLVE_REFERENCE, turn=turn, tokens_loaded=10)
    metrics.record_fault(FaultReason.SPECULATIVE)
    metrics.record_fault(FaultReason.SPECULATIVE)
    assert metrics.thrash_index(window_turns=5) == pytest.approx(2 / 5)
    assert metrics.thrash_index(window_turns=1) == 0.0
    assert metrics.fault_breakdown()[FaultReason.SPECULATIVE] == 2
    with pytest.raises(ValueError, match="page_1"):
        metrics.record_fault("page_1")


def test_tokens_are_effective_when_the_answer_made_use_of_them() -> None:
    metrics = UserExperienceMetrics()
    metrics.record_turn_context(1, 10_000, ["a", "b"])
    metrics.record_turn_context(2, 10_000, ["a", "b"], tokens_referenced=2_500)
    assert [metrics.effective_tokens_ratio(turn) for turn in (1, 2, 3)] == [0.04, 0.25, 0.0]


def test_a_recall_that_was_corrected_did_not_succeed() -> None:
    metrics = UserExperienceMetrics()
    assert metrics.recall_success_rate() == 1.0
    metrics.record_recall_attempt(success=True)
    metrics.record_recall_attempt(turn=2, query="which?", page_ids_cited=["a"], user_corrected=True)
    assert metrics.recall_success_rate() == 0.5


def test_a_turn_s_counts_begin_anew_and_the_totals_go_on() -> None:
    metrics = VMMetrics(max_faults_per_turn=1)
    metrics.record_fault()
    metrics.record_eviction()
    metrics.record_compression(30)
    assert not metrics.can_fault()
    metrics.new_turn()
    assert metrics.can_fault()
    assert (metrics.faults_this_turn, metrics.evictions_this_turn, metrics.compressions_this_turn) == (0, 0, 0)
    assert (metrics.faults_total, metrics.evictions_total, metrics.tokens_saved_by_compression) == (1, 1, 30)


def test_a_summary_is_read_by_attribute_and_by_key() -> None:
    summary = MutationLogSummary(total_mutations=3)
    assert summary["total_mutations"] == summary["total"] == summary.total_mutations == 3
    assert "creates" in summary
    with pytest.raises(KeyError):
        _ = summary["nothing"]
