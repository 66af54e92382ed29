"""Every signature that the documentation of the guide's system shows is one here: names, keywords and defaults."""

import inspect
from typing import Any, Final

import pytest
from pydantic import AliasChoices, BaseModel

import pagekeeper.memory as front
from pagekeeper.memory import (
    ArtifactsBridge,
    CompressionLevel,
    ContextPackCache,
    FaultPolicy,
    FaultReason,
    InMemoryBackend,
    ManifestBuilder,
    MemoryPage,
    Modality,
    PageFaultHandler,
    PageTable,
    PassthroughCompressor,
    StorageTier,
    TokenBudget,
    UserExperienceMetrics,
    VMMetrics,
)

L: Final[Any] = front
REQUIRED: Final = object()

MODELS: Final[dict[str, dict[str, object]]] = {
    "MemoryPage": {
        "page_id": REQUIRED,
        "modality": Modality.TEXT,
        "compression_level": CompressionLevel.FULL,
        **dict.fromkeys(("content", "caption", "transcript", "dimensions", "duration_seconds", "artifact_id")),
        "size_bytes": 0,
        "size_tokens": None,
        "access_count": 0,
        "importance": 0.5,
        "dirty": False,
        "metadata": {},
        "provenance": [],
    },
    "PageTableEntry": {"page_id": REQUIRED, "tier": REQUIRED, "artifact_id": None, "dirty": False, "access_count": 0},
    "TokenBudget": {"total_limit": 128_000, "reserved": 4_000, "used": 0},
    "VMMetrics": {"max_faults_per_turn": 3, "faults_total": 0, "tlb_hits": 0, "tokens_available": 0},
    "ContextPackerConfig": {"include_page_ids": True, "quote_text": True, "max_tokens": None},
    "WorkingSetConfig": {
        "max_l0_tokens": 128_000,
        "max_l1_pages": 100,
        "eviction_threshold": 0.85,
        "target_utilization": 0.50,  # as in a stack; documented as 0.70
        "reserved_tokens": 4_000,
    },
    "ManifestPolicies": {
        "faults_allowed": True,
        "max_faults_per_turn": 3,
        "upgrade_budget_tokens": 4_096,
        "prefer_levels": [2, 1, 0],
    },
    "AvailablePageEntry": {"page_id": REQUIRED, "modality": REQUIRED, "tier": REQUIRED, "hint": ""},
    "WorkingSetEntry": {**dict.fromkeys(("page_id", "modality", "level", "tokens_est"), REQUIRED), "importance": 0.5},
    "FaultEffects": {"promoted_to_working_set": False, "tokens_est": 0, "evictions": None},
    "FaultResult": {"success": REQUIRED, "page": None, "source_tier": None, "latency_ms": 0.0, "error": None},
    "FaultPolicy": {"max_faults_per_turn": 3, "max_fault_tokens_per_turn": 8_192},
    "PageMeta": dict.fromkeys(
        ("source_tier", "mime_type", "size_bytes", "dimensions", "duration_seconds", "latency_ms")
    ),
    "ImageContent": dict.fromkeys(("caption", "url", "base64", "dimensions")),
    "AudioContent": dict.fromkeys(("transcript", "duration_seconds", "timestamps")),
    "VideoContent": dict.fromkeys(("transcript", "duration_seconds", "keyframe_urls")),
    "StructuredContent": {"schema_name": None},
    "TLBStats": {"size": 0, "max_size": 512, "utilization": 0.0, "hits": 0, "misses": 0, "hit_rate": 0.0},
    "StorageStats": {"backend": "unknown", "persistent": False, "pages_stored": 0, "total_bytes": 0},
    "PageTableStats": {"total_pages": 0, "dirty_pages": 0},
    "FaultMetrics": {"faults_this_turn": 0, "max_faults_per_turn": 3, "faults_remaining": 3, "can_fault": True},
    "ToolParameter": {"type": "string", **dict.fromkeys(("description", "enum", "default", "minimum", "maximum"))},
    "ToolParameters": {"type": "object", "properties": {}, "required": []},
    "SearchResultEntry": {"page_id": REQUIRED, "levels": [], "hint": "", "relevance": 0.0},
    "MemoryABI": {"max_context_tokens": 128_000, "reserved_tokens": 2_000, "tool_schema_tokens_reserved": 0},
    "PageMutation": {"page_id": REQUIRED, "mutation_type": REQUIRED, "tier_after": REQUIRED, "cause": None},
    "PageMetadata": {**dict.fromkeys(("page_id", "modality", "tier", "size_bytes"), REQUIRED), "checksum": None},
    "CheckpointManifest": {"name": REQUIRED, "created_at": REQUIRED, "page_count": REQUIRED},
    "CheckpointEntry": dict.fromkeys(("page_id", "artifact_id", "modality", "tier"), REQUIRED),
    "CompressionResult": dict.fromkeys(("page", "original_tokens", "compressed_tokens"), REQUIRED),
}
"""Fields with their defaults."""

CALLS: Final[dict[str, tuple[str, ...]]] = {
    "AntiThrashPolicy": ("eviction_cooldown_turns", "fault_protection_turns"),
    "AntiThrashPolicy.can_evict": ("page_id", "current_turn"),
    "AntiThrashPolicy.get_eviction_penalty": ("page_id", "current_turn"),
    "AntiThrashPolicy.record_eviction": ("page_id", "turn"),
    "AntiThrashPolicy.record_fault": ("page_id", "turn"),
    "ArtifactsBridge": ("backend",),
    "ArtifactsBridge.checkpoint": ("pages", "name"),
    "ArtifactsBridge.delete_checkpoint": ("checkpoint_id",),
    "ArtifactsBridge.delete_page": ("artifact_id",),
    "ArtifactsBridge.get_checkpoint_manifest": ("checkpoint_id",),
    "ArtifactsBridge.get_metadata": ("artifact_id",),
    "ArtifactsBridge.get_stats": (),
    "ArtifactsBridge.list_checkpoints": (),
    "ArtifactsBridge.list_pages": (),
    "ArtifactsBridge.load_page": ("artifact_id",),
    "ArtifactsBridge.restore_checkpoint": ("checkpoint_id",),
    "ArtifactsBridge.store_page": ("page",),
    "CompressorRegistry.default": (),
    "ContextPackCache": ("max_entries",),
    "ContextPacker": ("config",),
    "ContextPacker.pack": ("pages",),
    "ContextPacker.pack_with_wrapper": ("pages",),
    "FaultPolicy.can_fault": (),
    "FaultPolicy.new_turn": (),
    "FaultPolicy.record_fault": ("page_id", "reason", "tokens"),
    "InMemoryBackend": (),
    "ManifestBuilder": ("session_id", "policies"),
    "ManifestBuilder.add_available_page": ("page", "hint"),
    "ManifestBuilder.add_available_page_entry": ("entry",),
    "ManifestBuilder.add_working_set_page": ("page",),
    "ManifestBuilder.build": (),
    "ManifestBuilder.to_wrapped_json": (),
    "MemoryPage.estimate_tokens": (),
    "MemoryPage.mark_accessed": (),
    "MemoryPage.mark_dirty": (),
    "MutationLogLite": ("max_entries",),
    "MutationLogLite.get_context_at_turn": ("turn",),
    "MutationLogLite.get_page_history": ("page_id",),
    "MutationLogLite.get_stats": (),
    "MutationLogLite.log_create": ("page_id", "turn", "tier", "actor"),
    "MutationLogLite.log_evict": ("page_id", "turn", "tier_before", "tier_after", "cause"),
    "MutationLogLite.log_fault": ("page_id", "turn", "tier_before", "tier_after"),
    "PageFaultHandler": ("page_table", "get_page", "max_faults_per_turn"),
    "PageFaultHandler.can_fault": (),
    "PageFaultHandler.get_metrics": (),
    "PageFaultHandler.handle_fault": ("page_id", "target_level"),
    "PageFaultHandler.new_turn": (),
    "PageSearchHandler": ("available_pages", "search_fn"),
    "PageSearchHandler.search": ("query", "modality", "limit"),
    "PageTLB": ("max_entries",),
    "PageTLB.flush": (),
    "PageTLB.get_stats": (),
    "PageTLB.insert": ("entry",),
    "PageTLB.invalidate": ("page_id",),
    "PageTLB.invalidate_tier": ("tier",),
    "PageTLB.lookup": ("page_id",),
    "PageTLB.reset_stats": (),
    "PageTable": (),
    "PageTable.get_by_modality": ("modality",),
    "PageTable.get_by_tier": ("tier",),
    "PageTable.get_dirty_pages": (),
    "PageTable.get_eviction_candidates": ("tier", "limit"),
    "PageTable.get_stats": (),
    "PageTable.get_total_tokens": ("tiers",),
    "PageTable.get_working_set": (),
    "PageTable.lookup": ("page_id",),
    "PageTable.mark_accessed": ("page_id",),
    "PageTable.mark_clean": ("page_id",),
    "PageTable.mark_dirty": ("page_id",),
    "PageTable.register": ("page",),
    "PageTable.remove": ("page_id",),
    "PageTable.update_location": ("page_id", "tier", "artifact_id", "compression_level"),
    "PageTableEntry.mark_accessed": (),
    "PinnedSet": ("max_auto_pins", "pin_last_n_turns"),
    "PinnedSet.auto_pin": ("page_id",),
    "PinnedSet.clear_auto_pins": (),
    "PinnedSet.get_all": (),
    "PinnedSet.is_pinned": ("page_id",),
    "PinnedSet.pin": ("page_id",),
    "PinnedSet.unpin": ("page_id",),
    "SimplePrefetcher": ("max_claims_to_prefetch", "max_recent_tools"),
    "SimplePrefetcher.prefetch_on_turn_start": ("session_id", "page_table"),
    "SimplePrefetcher.record_page_access": ("page_id",),
    "SimplePrefetcher.record_tool_call": ("tool_name", "turn", "pages_accessed_before"),
    "SimplePrefetcher.set_last_segment_summary": ("page_id",),
    "TLBWithPageTable": ("page_table", "tlb"),
    "TLBWithPageTable.get_stats": (),
    "TLBWithPageTable.lookup": ("page_id",),
    "TLBWithPageTable.mark_dirty": ("page_id",),
    "TLBWithPageTable.register": ("page",),
    "TLBWithPageTable.remove": ("page_id",),
    "TLBWithPageTable.update_location": ("page_id", "tier"),
    "TokenBudget.add": ("tokens", "modality"),
    "TokenBudget.can_fit": ("tokens",),
    "TokenBudget.remove": ("tokens", "modality"),
    "VMMetrics.can_fault": (),
    "VMMetrics.new_turn": (),
    "VMMetrics.record_fault": (),
    "WorkingSetManager": ("config", "budget"),
    "WorkingSetManager.add_to_l0": ("page",),
    "WorkingSetManager.add_to_l1": ("page",),
    "WorkingSetManager.calculate_eviction_target": ("tokens_needed",),
    "WorkingSetManager.can_fit": ("tokens",),
    "WorkingSetManager.clear": (),
    "WorkingSetManager.clear_importance": ("page_id",),
    "WorkingSetManager.demote_to_l1": ("page",),
    "WorkingSetManager.get_eviction_candidates": ("tokens_needed", "from_tier"),
    "WorkingSetManager.get_l0_page_ids": (),
    "WorkingSetManager.get_l1_pages": (),
    "WorkingSetManager.get_page": ("page_id",),
    "WorkingSetManager.get_stats": (),
    "WorkingSetManager.is_in_l0": ("page_id",),
    "WorkingSetManager.is_in_l1": ("page_id",),
    "WorkingSetManager.is_in_working_set": ("page_id",),
    "WorkingSetManager.needs_eviction": (),
    "WorkingSetManager.promote_to_l0": ("page",),
    "WorkingSetManager.remove": ("page_id",),
    "WorkingSetManager.remove_from_l0": ("page_id", "page"),
    "WorkingSetManager.set_importance": ("page_id", "importance"),
    "build_vm_developer_message": ("mode", "manifest_json", "context", "system_prompt"),
    "generate_simple_hint": ("page", "hint_type"),
    "get_prompt_for_mode": ("mode",),
    "get_vm_tools": (),
    "get_vm_tools_as_dicts": (),
}
"""Keywords of constructors, methods and functions."""


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_the_documented_fields_and_defaults(name: str) -> None:
    model = getattr(front, name)
    assert issubclass(model, BaseModel)
    for keyword, default in MODELS[name].items():
        field = model.model_fields.get(keyword) or model.model_computed_fields[keyword]
        if hasattr(field, "is_required"):
            assert field.is_required() == (default is REQUIRED), keyword
            assert default is REQUIRED or field.get_default(call_default_factory=True) == default, keyword


def aliases(model: type[BaseModel]) -> set[str]:
    """The other keywords that fields go by."""
    known = [field.validation_alias for field in model.model_fields.values()]
    return {str(choice) for alias in known if isinstance(alias, AliasChoices) for choice in alias.choices}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_takes_the_documented_keywords(name: str) -> None:
    call: Any = front
    for part in name.split("."):
        call = getattr(call, part)
    taken = inspect.signature(call).parameters
    keywords = {*taken, *(aliases(call) if inspect.isclass(call) and issubclass(call, BaseModel) else ())}
    assert set(CALLS[name]) <= keywords, f"{name} takes {', '.join(keywords)}"
    others = {each.name for each in taken.values() if each.default is each.empty} - {"self", *CALLS[name]}
    given = {each.name for each in taken.values() if each.kind in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    assert others <= given, f"{name} needs {others} as well"


async def test_what_is_documented_in_passing() -> None:
    page = MemoryPage(page_id="msg_001", content="Hello", storage_tier=StorageTier.L2)
    table = PageTable()
    table.register(page)
    handler = PageFaultHandler(page_table=table, get_page={"msg_001": page}.get)
    result = await handler.handle_fault(page_id="msg_001", target_level=2)
    assert result.page is not None
    assert handler.build_tool_result(result.page).page.page_id == "msg_001"
    assert handler.build_tool_result(result).page.page_id == "msg_001"
    bridge = ArtifactsBridge(backend=InMemoryBackend())
    assert await bridge.store_page(page) == "mem_L2_1"
    assert len(ContextPackCache.compute_working_set_hash(page_ids=["a", "b"], versions={"a": 1, "b": 1})) > 0
    assert TokenBudget(total_limit=100, reserved=10, used=30).available == 60  # type: ignore[call-arg]
    metrics = UserExperienceMetrics()
    metrics.record_fault(FaultReason.RESOLVE_REFERENCE)
    metrics.record_recall_attempt(success=True)
    assert metrics.fault_breakdown()[FaultReason.RESOLVE_REFERENCE] == 1
    policy = FaultPolicy()
    policy.record_fault(page_id="claim_001", reason=FaultReason.USER_REQUESTED_RECALL, tokens=50)
    assert (policy.faults_remaining, policy.tokens_remaining) == (2, 8_142)
    assert VMMetrics(max_faults_per_turn=3).can_fault()
    assert "<VM:MANIFEST_JSON>" in ManifestBuilder(session_id="s").to_wrapped_json()
    whole = await PassthroughCompressor().compress(page, CompressionLevel.ABSTRACT)
    assert (whole.page.content, whole.level_after) == ("Hello", CompressionLevel.ABSTRACT)


def test_constants() -> None:
    assert L.MEMORY_PAGE_MIME_TYPE == "application/x-memory-page"
    assert L.VM_CHECKPOINT_MIME_TYPE == "application/x-vm-checkpoint"
    assert L.ALL_COMPRESSION_LEVELS == [0, 1, 2, 3]
    assert list(L.PAGE_FAULT_TOOL.function.parameters.properties) == ["page_id", "target_level", "offset"]
    assert list(L.SEARCH_PAGES_TOOL.function.parameters.properties) == ["query", "modality", "limit"]
