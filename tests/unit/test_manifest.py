"""The manifest is JSON that keeps its bound, adds up in tokens, and cannot be talked into anything by a hint."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.effects import Pressure
from pagekeeper.core.errors import BudgetTooSmall
from pagekeeper.core.events import PromptLayout
from pagekeeper.core.manifest import (
    AvailablePageEntry,
    Manifest,
    ManifestPolicies,
    WorkingSetEntry,
    available_line,
    floor_tokens,
    render_manifest,
    status_json,
    working_set_line,
)
from pagekeeper.core.pages import Modality, StorageTier
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.unit.hostile_text import hostile_texts, page_ids

COUNTS = {name: tokenizer(name).count for name in EncodingName}
UNBOUNDED = 1_000_000

residents = st.builds(
    WorkingSetEntry, page_ids, st.sampled_from(Modality), st.integers(0, 3), st.integers(0, 99_999), st.floats(0, 1)
)
available = st.builds(
    AvailablePageEntry,
    page_ids,
    st.sampled_from(Modality),
    st.sampled_from(StorageTier),
    st.sampled_from(((0,), (0, 1), (0, 1, 2, 3))),
    hostile_texts,
)
policies = st.builds(
    ManifestPolicies, st.booleans(), st.integers(0, 100), st.integers(0, 100), st.integers(0, 10**6), st.just((2, 1, 0))
)


@st.composite
def manifests(draw: st.DrawFn, encoding: EncodingName) -> Manifest:
    count = COUNTS[encoding]
    layout = draw(st.sampled_from(PromptLayout))
    shown = draw(st.lists(residents, max_size=6, unique_by=lambda entry: entry.page_id))
    rest = draw(st.lists(available, max_size=8, unique_by=lambda entry: entry.page_id))
    return Manifest(
        session_id=draw(page_ids),
        layout=layout,
        policies=draw(policies),
        pressure=draw(st.sampled_from(Pressure)),
        working_set=[working_set_line(entry, count) for entry in shown] if layout is PromptLayout.CLASSIC else (),
        available_pages=[available_line(entry, layout, count) for entry in rest],
    )


@given(st.data(), st.sampled_from(EncodingName), st.integers(0, 600))
def test_a_manifest_keeps_its_bound_and_its_count(data: st.DataObject, encoding: EncodingName, room: int) -> None:
    count = COUNTS[encoding]
    manifest = data.draw(manifests(encoding))
    bound = floor_tokens(manifest, count) + room
    rendered = render_manifest(manifest, tokens_max=bound, count=count)
    assert rendered.tokens == count(rendered.text) <= bound
    assert len(rendered.listed) + rendered.omitted == len(manifest.available_pages)
    assert rendered.listed == tuple(line.page_id for line in manifest.available_pages[: len(rendered.listed)])
    assert rendered == render_manifest(manifest, tokens_max=bound, count=count)


@given(st.data(), st.sampled_from(EncodingName))
def test_the_bound_below_the_floor_is_refused(data: st.DataObject, encoding: EncodingName) -> None:
    count = COUNTS[encoding]
    manifest = data.draw(manifests(encoding))
    floor = floor_tokens(manifest, count)
    with pytest.raises(BudgetTooSmall) as refusal:
        render_manifest(manifest, tokens_max=floor - 1, count=count)
    assert refusal.value.needed_tokens == floor


@given(st.data())
def test_a_manifest_is_json_that_cannot_act_as_structure(data: st.DataObject) -> None:
    manifest = data.draw(manifests(EncodingName.O200K_BASE))
    rendered = render_manifest(manifest, tokens_max=UNBOUNDED, count=COUNTS[EncodingName.O200K_BASE])
    value = json.loads(rendered.text)
    assert value.get("session_id") == (manifest.session_id if manifest.layout is PromptLayout.CLASSIC else None)
    assert [*_ids(value["available_pages"])] == [line.page_id for line in manifest.available_pages]
    assert "<VM:" not in rendered.text.upper()
    assert "\u2028" not in rendered.text
    rendered.text.encode()
    entry_lines = [line for line in rendered.text.split("\n") if line.rstrip(",")]
    frame_lines = 3 if manifest.layout is PromptLayout.CLASSIC else 2
    assert len(entry_lines) == len(manifest.working_set) + len(manifest.available_pages) + frame_lines


def _ids(listed: object) -> list[str]:
    if isinstance(listed, dict):
        return list(listed)
    assert isinstance(listed, list)
    return [entry["page_id"] for entry in listed]


def example(layout: PromptLayout, *, pages: int = 2) -> Manifest:
    count = COUNTS[EncodingName.O200K_BASE]
    hint = "Earlier discussion about architecture"
    return Manifest(
        session_id="session_abc123",
        layout=layout,
        policies=ManifestPolicies(faults_remaining=2),
        pressure=Pressure.MEDIUM,
        working_set=[working_set_line(WorkingSetEntry("msg_001", Modality.TEXT, 0, 10, 0.5), count)],
        available_pages=[
            available_line(
                AvailablePageEntry(f"msg_{n}", Modality.IMAGE if n else Modality.TEXT, StorageTier.L2, (0, 1), hint),
                layout,
                count,
            )
            for n in range(pages)
        ],
    )


def test_classic_has_the_shape_of_the_guide() -> None:
    count = COUNTS[EncodingName.O200K_BASE]
    rendered = render_manifest(example(PromptLayout.CLASSIC), tokens_max=UNBOUNDED, count=count)
    hint = "Earlier discussion about architecture"
    assert json.loads(rendered.text) == {
        "session_id": "session_abc123",
        "pressure": "medium",
        "working_set": [{"page_id": "msg_001", "modality": "text", "level": 0, "tokens_est": 10, "importance": 0.5}],
        "available_pages": [
            {"page_id": "msg_0", "modality": "text", "tier": "L2", "levels": [0, 1], "hint": hint},
            {"page_id": "msg_1", "modality": "image", "tier": "L2", "levels": [0, 1], "hint": hint},
        ],
        "not_listed": {"working_set": 0, "available_pages": 0},
        "policies": {
            "faults_allowed": True,
            "max_faults_per_turn": 3,
            "faults_remaining": 2,
            "upgrade_budget_tokens": 4096,
            "prefer_levels": [2, 1, 0],
        },
    }


def test_cache_stable_lists_ids_and_hints() -> None:
    count = COUNTS[EncodingName.O200K_BASE]
    rendered = render_manifest(example(PromptLayout.CACHE_STABLE), tokens_max=UNBOUNDED, count=count)
    assert rendered.text.split("\n") == [
        '{"available_pages":{',
        '"msg_0":"Earlier discussion about architecture",',
        '"msg_1":{"modality":"image","hint":"Earlier discussion about architecture"}',
        '},"not_listed":0}',
        "",
    ]
    json.loads(rendered.text)


def test_the_status_says_what_is_left_of_a_turn() -> None:
    status = json.loads(status_json(ManifestPolicies(faults_remaining=2, upgrade_budget_tokens=100), Pressure.HIGH))
    assert status == {"pressure": "high", "faults_remaining": 2, "upgrade_budget_tokens": 100}
    assert json.loads(status_json(ManifestPolicies(faults_allowed=False), Pressure.LOW))["faults_remaining"] == 0


def test_the_least_relevant_entries_go_first_and_are_counted() -> None:
    count = COUNTS[EncodingName.O200K_BASE]
    manifest = example(PromptLayout.CLASSIC, pages=50)
    rendered = render_manifest(manifest, tokens_max=400, count=count)
    value = json.loads(rendered.text)
    assert 0 < len(rendered.listed) < 50
    assert [entry["page_id"] for entry in value["available_pages"]] == [f"msg_{n}" for n in range(len(rendered.listed))]
    assert value["not_listed"]["available_pages"] == rendered.omitted == 50 - len(rendered.listed)


def test_a_compact_entry_costs_half_of_a_classic_one() -> None:
    count = COUNTS[EncodingName.O200K_BASE]
    entry = AvailablePageEntry(
        "msg_0012", Modality.TEXT, StorageTier.L2, (0, 1, 2), "Caroline: support group, 7 May 2023"
    )
    classic = available_line(entry, PromptLayout.CLASSIC, count)
    compact = available_line(entry, PromptLayout.CACHE_STABLE, count)
    assert compact.tokens <= classic.tokens / 2
