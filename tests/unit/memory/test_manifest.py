"""A manifest offers the most relevant pages within its bounds, says how many it leaves out, and quotes hints."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.memory import (
    AvailablePageEntry,
    CompressionLevel,
    HintType,
    ManifestBuilder,
    ManifestPolicies,
    MemoryPage,
    Modality,
    PageTable,
    PageTableEntry,
    PageType,
    StorageTier,
    VMManifest,
    generate_simple_hint,
)
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.unit.hostile_text import hostile_texts

COUNT = tokenizer(EncodingName.O200K_BASE).count
LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)


def offered(page_id: str, hint: str = "") -> AvailablePageEntry:
    return AvailablePageEntry(page_id=page_id, modality=Modality.TEXT, tier=StorageTier.L2, hint=hint)


def stored(page_id: str, page_type: PageType = PageType.TRANSCRIPT, age: int = 0) -> PageTableEntry:
    return PageTableEntry(
        page_id=page_id, tier=StorageTier.L2, page_type=page_type, last_accessed=LONG_AGO - timedelta(days=age)
    )


def table_of(*entries: PageTableEntry) -> PageTable:
    table = PageTable()
    for entry in entries:
        table.register_entry(entry)
    return table


def listed(manifest: VMManifest) -> list[str]:
    return [entry.page_id for entry in manifest.available_pages]


def test_the_documented_shape() -> None:
    builder = ManifestBuilder(
        session_id="s1", policies=ManifestPolicies(max_faults_per_turn=2, upgrade_budget_tokens=4096)
    )
    builder.add_working_set_page(MemoryPage(page_id="m1", content="Hello", size_tokens=10))
    builder.add_available_page(MemoryPage(page_id="m0", storage_tier=StorageTier.L3), hint="architecture")
    read = json.loads(builder.build().model_dump_json())
    assert read == {
        "session_id": "s1",
        "pressure": "low",
        "working_set": [{"page_id": "m1", "modality": "text", "level": 0, "tokens_est": 10, "importance": 0.5}],
        "available_pages": [
            {"page_id": "m0", "modality": "text", "tier": "L3", "levels": [0, 1, 2, 3], "hint": "architecture"}
        ],
        "not_listed": {"working_set": 0, "available_pages": 0},
        "policies": {
            "faults_allowed": True,
            "max_faults_per_turn": 2,
            "faults_remaining": 2,
            "upgrade_budget_tokens": 4096,
            "prefer_levels": [2, 1, 0],
        },
    }


@given(st.lists(hostile_texts, max_size=4), st.none() | st.integers(0, 3))
def test_no_hint_can_forge_anything(hints: list[str], indent: int | None) -> None:
    hints = [hint.encode("utf-8", "replace").decode() for hint in hints]
    builder = ManifestBuilder(session_id="s1")
    for number, hint in enumerate(hints):
        builder.add_available_page_entry(offered(f"m{number}", hint))
    manifest = builder.build()
    wrapped = manifest.to_wrapped_json(indent)
    assert wrapped.startswith("<VM:MANIFEST_JSON>\n")
    assert wrapped.endswith("\n</VM:MANIFEST_JSON>")
    assert wrapped.lower().count("vm:") == 2
    assert "[ref:" not in wrapped.lower()
    assert [entry["hint"] for entry in json.loads(manifest.to_json(indent))["available_pages"]] == hints


@given(st.lists(hostile_texts, max_size=8), st.integers(0, 60), st.integers(0, 400))
def test_a_manifest_keeps_its_bounds_and_says_what_is_missing(hints: list[str], pages_max: int, room: int) -> None:
    empty_tokens = 120
    builder = ManifestBuilder(
        session_id="s1", max_available_pages=pages_max, max_tokens=empty_tokens + room, count=COUNT
    )
    for number, hint in enumerate(hints):
        builder.add_available_page_entry(offered(f"m{number}", hint.encode("utf-8", "replace").decode()))
        builder.add_working_set_page(MemoryPage(page_id=f"w{number}", content="x"))
    manifest = builder.build()
    assert COUNT(f"{manifest.to_json()}\n") <= empty_tokens + room
    assert listed(manifest) == [f"m{number}" for number in range(len(manifest.available_pages))]
    assert len(manifest.available_pages) <= pages_max
    assert len(manifest.available_pages) + manifest.not_listed.available_pages == len(hints)
    assert len(manifest.working_set) + manifest.not_listed.working_set == len(hints)
    assert VMManifest.model_validate_json(manifest.to_json()).not_listed == manifest.not_listed


def test_a_bound_without_room_for_anything_is_refused() -> None:
    with pytest.raises(BudgetTooSmall):
        ManifestBuilder(session_id="s1", max_tokens=5).build()


def test_what_is_missed_most_is_listed_first() -> None:
    table = table_of(
        stored("old", age=9),
        stored("recent", age=1),
        stored("summary", PageType.SUMMARY, age=30),
        stored("claim", PageType.CLAIM, age=30),
    )
    assert listed(ManifestBuilder(max_available_pages=3).build("s1", table)) == ["claim", "summary", "recent"]


def test_what_the_turn_is_about_comes_before_everything() -> None:
    table = table_of(stored("claim", PageType.CLAIM), stored("asked_for"), stored("near"))
    builder = ManifestBuilder()
    builder.add_available_page_entry(offered("added"))
    manifest = builder.build("s1", table, relevance={"asked_for": 0.9, "near": 0.4})
    assert listed(manifest) == ["asked_for", "near", "added", "claim"]


def test_a_page_is_either_shown_or_offered() -> None:
    table = table_of(stored("a"), stored("b"))
    builder = ManifestBuilder()
    builder.add_available_page_entry(offered("a"))
    manifest = builder.build("s1", table, working_set_ids=["a", "ghost"])
    assert [entry.page_id for entry in manifest.working_set] == ["a"]
    assert listed(manifest) == ["b"]


def test_only_levels_that_can_be_had_are_offered() -> None:
    page = MemoryPage(page_id="m0", content="short", compression_level=CompressionLevel.ABSTRACT)
    builder = ManifestBuilder()
    builder.add_available_page(page)
    assert builder.build("s1").available_pages[0].levels == [2, 3]


def test_hints_say_what_a_page_says_when_it_is_at_hand() -> None:
    page = MemoryPage(page_id="m", content="Hi! We decided to use PostgreSQL 16.", storage_tier=StorageTier.L3)
    assert "PostgreSQL" in generate_simple_hint(page)
    assert generate_simple_hint(page, hint_type=HintType.MODALITY) == "text from L3"
    story = " ".join(f"The billing service of region {n} moved to Kubernetes in {2000 + n}." for n in range(20))
    told = generate_simple_hint(MemoryPage(page_id="m", content=story), HintType.TOPIC)
    assert 0 < len(told) < 200
    image = MemoryPage(page_id="i", modality=Modality.IMAGE, caption="A red bicycle", storage_tier=StorageTier.L3)
    assert "red bicycle" in generate_simple_hint(image)


@pytest.mark.parametrize(
    ("tier", "modality", "level", "hint"),
    [
        (StorageTier.L2, Modality.TEXT, 0, "recent"),
        (StorageTier.L4, Modality.AUDIO, 2, "audio archived summary"),
        (StorageTier.L3, Modality.VIDEO, 1, "video stored excerpt"),
        (StorageTier.L0, Modality.TEXT, 0, "content"),
    ],
)
def test_hints_say_what_kind_of_page_it_is_otherwise(
    tier: StorageTier, modality: Modality, level: int, hint: str
) -> None:
    entry = PageTableEntry(page_id="m", tier=tier, modality=modality, compression_level=CompressionLevel(level))
    assert generate_simple_hint(entry) == hint


def test_pressure_is_for_the_model_too() -> None:
    assert json.loads(ManifestBuilder(pressure="high").build("s1").to_json())["pressure"] == "high"
