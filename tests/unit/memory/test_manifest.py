"""A manifest says which pages are shown and which a fault would bring, and quotes their hints."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.memory import (
    AvailablePageEntry,
    CompressionLevel,
    HintType,
    ManifestBuilder,
    ManifestPolicies,
    MemoryPage,
    Modality,
    PageTableEntry,
    StorageTier,
    VMManifest,
    generate_simple_hint,
)
from tests.unit.hostile_text import hostile_texts


def offered(page_id: str, hint: str = "") -> AvailablePageEntry:
    return AvailablePageEntry(page_id=page_id, modality=Modality.TEXT, tier=StorageTier.L2, hint=hint)


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
    assert wrapped == builder.to_wrapped_json(indent)
    assert wrapped.startswith("<VM:MANIFEST_JSON>\n")
    assert wrapped.endswith("\n</VM:MANIFEST_JSON>")
    assert wrapped.lower().count("vm:") == 2
    assert "[ref:" not in wrapped.lower()
    assert [entry["hint"] for entry in json.loads(manifest.to_json(indent))["available_pages"]] == hints


def test_a_page_is_either_shown_or_offered_and_stands_once() -> None:
    builder = ManifestBuilder(session_id="s1")
    for page_id, hint in (("a", "first"), ("b", "old"), ("b", "new")):
        builder.add_available_page_entry(offered(page_id, hint))
    builder.add_working_set_page(MemoryPage(page_id="a"))
    manifest = builder.build()
    assert [entry.page_id for entry in manifest.working_set] == ["a"]
    assert [(entry.page_id, entry.hint) for entry in manifest.available_pages] == [("b", "new")]


def test_only_levels_that_can_be_had_are_offered() -> None:
    builder = ManifestBuilder()
    builder.add_available_page(MemoryPage(page_id="m0", content="short", compression_level=CompressionLevel.ABSTRACT))
    assert builder.build().available_pages[0].levels == [2, 3]


def test_a_hint_is_the_cores_where_content_is_at_hand() -> None:
    page = MemoryPage(page_id="m", content="Hi! We decided to use PostgreSQL 16.", storage_tier=StorageTier.L3)
    assert "PostgreSQL" in generate_simple_hint(page)
    assert generate_simple_hint(page, hint_type=HintType.MODALITY) == "text from L3"
    story = " ".join(f"The billing service of region {n} moved to Kubernetes in {2000 + n}." for n in range(20))
    told = generate_simple_hint(MemoryPage(page_id="m", content=story), HintType.TOPIC)
    assert 0 < len(told) < 200
    image = MemoryPage(page_id="i", modality=Modality.IMAGE, caption="A red bicycle", storage_tier=StorageTier.L3)
    assert "red bicycle" in generate_simple_hint(image)


@pytest.mark.parametrize("hint_type", HintType)
def test_a_hint_is_modality_and_tier_otherwise(hint_type: HintType) -> None:
    entry = PageTableEntry(page_id="m", tier=StorageTier.L4, modality=Modality.AUDIO)
    assert generate_simple_hint(entry, hint_type) == "audio from L4"
    assert generate_simple_hint(MemoryPage(page_id="m", storage_tier=StorageTier.L2), hint_type) == "text from L2"


def test_pressure_and_pages_that_are_not_listed_are_for_the_model_too() -> None:
    manifest = VMManifest.model_validate(
        {"session_id": "s1", "pressure": "high", "not_listed": {"available_pages": 7, "working_set": 2}}
    )
    read = json.loads(manifest.to_json())
    assert (read["pressure"], read["not_listed"]) == ("high", {"working_set": 2, "available_pages": 7})
    assert VMManifest.model_validate_json(manifest.to_json()).not_listed == manifest.not_listed
