"""A fault brings what is said to be brought, costs what the turn is told, and changes no page."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.memory import (
    AudioContent,
    CompressionLevel,
    FaultConfidenceThreshold,
    FaultPolicy,
    FaultReason,
    FaultResult,
    ImageContent,
    MemoryPage,
    Modality,
    PageFaultHandler,
    PageTable,
    StorageTier,
    StructuredContent,
    TextContent,
    TokenBudget,
    VideoContent,
    WorkingSetConfig,
    WorkingSetManager,
)
from tests.unit.hostile_text import hostile_texts
from tests.unit.memory.pages import pages

PROSE = " ".join(
    f"On day {n} the team of the harbour moved {n * 7} containers, and Ines wrote a report about crane {n % 4}."
    for n in range(60)
)


def stored(page_id: str = "m1", content: str = PROSE, **fields: object) -> MemoryPage:
    return MemoryPage.model_validate(
        {"page_id": page_id, "content": content, "storage_tier": StorageTier.L2, "size_tokens": 500, **fields}
    )


def handler_of(*known: MemoryPage, **options: Any) -> PageFaultHandler:  # noqa: ANN401 - options of each test
    table = PageTable()
    by_id = {page.page_id: page for page in known}
    for page in known:
        table.register(page)
    return PageFaultHandler(page_table=table, get_page=by_id.get, **options)


@given(pages, st.sampled_from(CompressionLevel))
async def test_without_a_compressor_no_page_is_relabelled(page: MemoryPage, target: CompressionLevel) -> None:
    """A fault once called the full page ABSTRACT and changed nothing in it: a level is what the content has."""
    as_it_was = page.model_copy(deep=True)
    page.size_tokens = 1
    as_it_was.size_tokens = 1
    result = await handler_of(page).handle_fault(page.page_id, target)
    assert result.page is not None
    assert result.page.compression_level is page.compression_level
    assert result.page.content == page.content
    assert (result.requested_level, result.was_compressed) == (target, False)
    assert page == as_it_was


async def test_the_model_is_told_when_it_gets_another_level_than_it_asked_for() -> None:
    handler = handler_of(stored("full"), stored("short", compression_level=2))
    for page_id, asked, served in (("full", 2, 0), ("short", 0, 2)):
        result = await handler.handle_fault(page_id, asked)
        told = json.loads(handler.build_tool_result(result).model_dump_json())["page"]
        assert (told["level"], told["meta"]["requested_level"]) == (served, asked)
    same = json.loads(handler.build_tool_result(await handler.handle_fault("short", 2)).to_json())["page"]
    assert "requested_level" not in same["meta"]


async def test_a_shortened_page_at_hand_gives_its_full_text_back() -> None:
    page = stored().shortened(CompressionLevel.ABSTRACT, "in short", 2)
    result = await handler_of(page).handle_fault("m1", 0)
    assert result.page is not None
    assert (result.page.content, result.page.compression_level) == (PROSE, CompressionLevel.FULL)


async def test_a_page_too_large_for_the_context_is_not_a_success() -> None:
    """It was once reported as loaded and promoted."""
    handler = handler_of(stored(), policy=FaultPolicy(max_fault_tokens_per_turn=400))
    result = await handler.handle_fault("m1", 0)
    assert (result.success, result.page) == (False, None)
    assert result.error is not None
    assert "too large" in result.error
    assert handler.get_metrics().faults_remaining == 3


async def test_a_page_is_said_to_be_promoted_only_when_it_is() -> None:
    config = WorkingSetConfig(max_l0_tokens=400, reserved_tokens=0)
    working_set = WorkingSetManager(config=config, budget=TokenBudget(total_limit=400, reserved=0))
    handler = handler_of(stored(), stored("small", size_tokens=50))
    for page_id, fits in (("m1", False), ("small", True)):
        result = await handler.handle_fault(page_id, 0)
        assert result.page is not None
        assert working_set.add_to_l0(result.page) is fits
        told = handler.build_tool_result(result.page)
        assert told.effects.promoted_to_working_set is fits
        assert told.page.tier is (StorageTier.L0 if fits else StorageTier.L2)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "ghost"]), st.integers(-1, 4), st.sampled_from(FaultReason)), max_size=9
    )
)
async def test_a_turn_spends_what_it_gets(asked: list[tuple[str, int, FaultReason]]) -> None:
    handler = handler_of(
        stored("a", size_tokens=30), stored("b", size_tokens=60), policy=FaultPolicy(max_fault_tokens_per_turn=100)
    )
    served = [
        (reason, result.page.estimate_tokens())
        for page_id, level, reason in asked
        if (result := await handler.handle_fault(page_id, level, reason)).page is not None
    ]
    metrics = handler.get_metrics()
    assert metrics.faults_this_turn == metrics.total_faults == len(served) <= 3
    assert metrics.faults_remaining == 3 - len(served)
    assert metrics.can_fault is (len(served) < 3)
    assert metrics.tokens_used_this_turn == sum(tokens for _, tokens in served) <= 100
    assert metrics.faults_by_reason == {reason: [r for r, _ in served].count(reason) for reason, _ in served}
    assert FaultReason.SPECULATIVE not in metrics.faults_by_reason
    handler.new_turn()
    assert (handler.get_metrics().faults_this_turn, handler.get_metrics().total_faults) == (0, len(served))


async def test_guesses_need_a_policy_that_allows_them() -> None:
    bold = FaultPolicy(fault_confidence_threshold=FaultConfidenceThreshold.SPECULATIVE)
    for policy, allowed in ((FaultPolicy(), False), (bold, True)):
        result = await handler_of(stored(), policy=policy).handle_fault("m1", reason=FaultReason.SPECULATIVE)
        assert result.success is allowed


@pytest.mark.parametrize(
    ("page_id", "level", "error"),
    [
        ("ghost", 2, "Page not found: ghost"),
        ("lost", 2, "Failed to load page from L3"),
        ("m1", 4, "target_level must be 0 to 3, not 4"),
    ],
)
async def test_why_there_is_no_page(page_id: str, level: int, error: str) -> None:
    table = PageTable()
    for page in (stored(), stored("lost", storage_tier=StorageTier.L3)):
        table.register(page)
    handler = PageFaultHandler(table, {"m1": stored()}.get)
    result = await handler.handle_fault(page_id, level)
    assert (result.success, result.error) == (False, error)


async def test_the_third_of_two_faults_is_refused() -> None:
    handler = handler_of(stored(size_tokens=5), max_faults_per_turn=2)
    assert [(await handler.handle_fault("m1")).success for _ in range(3)] == [True, True, False]
    assert not handler.can_fault()
    handler.new_turn()
    assert (handler.can_fault(), handler.max_faults_per_turn) == (True, 2)


async def test_pages_come_from_coroutines_and_each_fault_is_an_access() -> None:
    async def get_page(page_id: str) -> MemoryPage | None:
        return stored(page_id, "from afar")

    table = PageTable()
    entry = table.register(stored())
    result = await PageFaultHandler(table, get_page).handle_fault("m1", 0)
    assert result.page is not None
    assert (result.page.content, result.source_tier, entry.access_count) == ("from afar", StorageTier.L2, 1)


@given(hostile_texts, hostile_texts)
def test_an_envelope_cannot_act_as_structure(text: str, caption: str) -> None:
    texts = [each.encode("utf-8", "replace").decode() for each in (text, caption)]
    told = [
        PageFaultHandler().build_tool_result(page).to_json()
        for page in (
            MemoryPage(page_id="m1", content=texts[0]),
            MemoryPage(page_id="m2", modality=Modality.STRUCTURED, content={texts[0]: texts[1]}),
            MemoryPage(page_id="m3", modality=Modality.IMAGE, caption=texts[1]),
        )
    ]
    for envelope in told:
        assert "\n" not in envelope
        assert "<vm:" not in envelope.lower()
        assert "[ref:" not in envelope.lower()
    assert json.loads(told[0])["page"]["content"]["text"] == texts[0]
    assert json.loads(told[1])["page"]["content"]["data"] == {texts[0]: texts[1]}


@pytest.mark.parametrize(
    ("page", "content"),
    [
        (MemoryPage(page_id="m", content=None), TextContent(text="")),
        (
            MemoryPage(page_id="m", modality=Modality.IMAGE, content="https://x/y", caption="A cat", dimensions=(8, 6)),
            ImageContent(caption="A cat", url="https://x/y", dimensions=(8, 6)),
        ),
        (
            MemoryPage(page_id="m", modality=Modality.IMAGE, content="data:image/png;base64,AA"),
            ImageContent(base64="data:image/png;base64,AA"),
        ),
        (
            MemoryPage(page_id="m", modality=Modality.AUDIO, content="spoken", duration_seconds=9),
            AudioContent(transcript="spoken", duration_seconds=9),
        ),
        (
            MemoryPage(page_id="m", modality=Modality.VIDEO, transcript="said", metadata={"scenes": ["a harbour"]}),
            VideoContent(scenes=[{"description": "a harbour"}], transcript="said"),
        ),
        (
            MemoryPage(page_id="m", modality=Modality.STRUCTURED, content={"a": 1}, metadata={"schema_name": "s"}),
            StructuredContent(data={"a": 1}, schema_name="s"),
        ),
        (
            MemoryPage(page_id="m", modality=Modality.STRUCTURED, content=[1, 2]),
            StructuredContent(data={"items": [1, 2]}),
        ),
        (MemoryPage(page_id="m", modality=Modality.STRUCTURED, content="no data"), TextContent(text="no data")),
    ],
)
def test_content_has_the_shape_of_its_modality(page: MemoryPage, content: object) -> None:
    assert PageFaultHandler().build_tool_result(page).page.content == content


def test_what_failed_is_an_envelope_too() -> None:
    told = PageFaultHandler().build_tool_result(FaultResult(success=False, error="Page not found: x"))
    assert told.page.content == TextContent(text="Page not found: x")
    assert not told.effects.promoted_to_working_set


def test_an_envelope_says_what_left_for_the_page() -> None:
    told = PageFaultHandler().build_tool_result(stored(size_tokens=7), evictions=["old"])
    assert (told.effects.tokens_est, told.effects.evictions) == (7, ["old"])
