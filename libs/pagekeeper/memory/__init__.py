# ruff: noqa: F403 - what each module exports is said once, in the table below and in that module
"""The memory that a Python program holds in its own process, by the guide's names.

Each name is loaded when it is first asked for, so that a program pays for what it uses. What decides is
`pagekeeper.core`, which knows nothing of this package.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pagekeeper.memory.artifacts_bridge import *
    from pagekeeper.memory.compressor import *
    from pagekeeper.memory.context_packer import *
    from pagekeeper.memory.errors import *
    from pagekeeper.memory.eviction_policy import *
    from pagekeeper.memory.fault_handler import *
    from pagekeeper.memory.infinite_conversation import *
    from pagekeeper.memory.manager import *
    from pagekeeper.memory.manifest import *
    from pagekeeper.memory.models import *
    from pagekeeper.memory.mutation_log import *
    from pagekeeper.memory.pack_cache import *
    from pagekeeper.memory.page_table import *
    from pagekeeper.memory.prefetcher import *
    from pagekeeper.memory.protection import *
    from pagekeeper.memory.saved_file import *
    from pagekeeper.memory.search_handler import *
    from pagekeeper.memory.session_manager import *
    from pagekeeper.memory.session_memory import *
    from pagekeeper.memory.summaries import *
    from pagekeeper.memory.thumbnails import *
    from pagekeeper.memory.tlb import *
    from pagekeeper.memory.vm_prompts import *
    from pagekeeper.memory.working_set import *

_NAMES_OF: Final[dict[str, tuple[str, ...]]] = {
    "artifacts_bridge": (
        "ArtifactsBridge",
        "CheckpointEntry",
        "CheckpointManifest",
        "InMemoryBackend",
        "PageMetadata",
        "StorageBackend",
        "StorageError",
    ),
    "compressor": (
        "CompressionResult",
        "Compressor",
        "CompressorRegistry",
        "ImageCompressor",
        "PassthroughCompressor",
        "TextCompressor",
        "TextCompressorConfig",
    ),
    "context_packer": (
        "ContextPacker",
        "ContextPackerConfig",
        "PackedContext",
    ),
    "errors": (
        "BudgetTooSmall",
        "CheckpointExists",
        "CheckpointNotFound",
        "ContentTooLarge",
        "FaultLimitReached",
        "FaultTokensExceeded",
        "InvalidArgument",
        "InvalidField",
        "LevelUnavailable",
        "PageExists",
        "PageNotFound",
        "PagekeeperError",
        "PinBudgetExceeded",
        "RevisionNotFound",
        "SessionNotFound",
    ),
    "eviction_policy": (
        "EvictionPolicy",
        "ImportanceWeightedLRU",
        "LRUEvictionPolicy",
    ),
    "fault_handler": ("PageFaultHandler",),
    "infinite_conversation": (
        "EventSource",
        "InfiniteConversationManager",
    ),
    "manager": (
        "MemoryManager",
        "event_to_page",
    ),
    "manifest": (
        "AvailablePageEntry",
        "HintType",
        "ManifestBuilder",
        "ManifestPolicies",
        "VMManifest",
        "WorkingSetEntry",
        "generate_simple_hint",
    ),
    "models": (
        "ALL_COMPRESSION_LEVELS",
        "Actor",
        "Affinity",
        "AudioContent",
        "CombinedPageTableStats",
        "CompressionLevel",
        "ContextPrefix",
        "DemandPagingMode",
        "FaultConfidenceThreshold",
        "FaultEffects",
        "FaultMetrics",
        "FaultPolicy",
        "FaultReason",
        "FaultResult",
        "FormattedPage",
        "ImageContent",
        "MEMORY_PAGE_MIME_TYPE",
        "MemoryABI",
        "MemoryManagerStats",
        "MemoryPage",
        "MessageRole",
        "Modality",
        "MutationLogSummary",
        "MutationType",
        "PageContent",
        "PageData",
        "PageMeta",
        "PageMutation",
        "PageTableEntry",
        "PageTableStats",
        "PageType",
        "PrefetcherStats",
        "SearchResult",
        "SearchResultEntry",
        "StorageStats",
        "StorageTier",
        "StructuredContent",
        "TLBStats",
        "TextContent",
        "TokenBudget",
        "ToolType",
        "UserExperienceMetrics",
        "VMContext",
        "VMMetrics",
        "VMMode",
        "VMToolError",
        "VMToolResult",
        "VM_CHECKPOINT_MIME_TYPE",
        "VideoContent",
        "WorkingSetStats",
    ),
    "mutation_log": (
        "ContextDiff",
        "MutationLogLite",
        "TurnContext",
    ),
    "pack_cache": ("ContextPackCache",),
    "page_table": ("PageTable",),
    "prefetcher": ("SimplePrefetcher",),
    "protection": (
        "AntiThrashPolicy",
        "PinnedSet",
    ),
    "saved_file": ("SavedMemoryUnreadable",),
    "search_handler": ("PageSearchHandler",),
    "session_manager": (
        "SessionManager",
        "SessionStats",
    ),
    "session_memory": ("VirtualMemoryDisabled",),
    "summaries": ("SummarizationStrategy",),
    "thumbnails": ("make_thumbnail",),
    "tlb": (
        "PageTLB",
        "TLBWithPageTable",
    ),
    "vm_prompts": (
        "PAGE_FAULT_TOOL",
        "SEARCH_PAGES_TOOL",
        "ToolDefinition",
        "ToolFunction",
        "ToolParameter",
        "ToolParameters",
        "VM_PASSIVE_PROMPT",
        "VM_RELAXED_PROMPT",
        "VM_STRICT_PROMPT",
        "build_vm_developer_message",
        "get_prompt_for_mode",
        "get_vm_tools",
        "get_vm_tools_as_dicts",
    ),
    "working_set": (
        "WorkingSetConfig",
        "WorkingSetManager",
    ),
}
"""Every public name, by its module of this package."""

_MODULE_OF: Final = {name: module for module, names in _NAMES_OF.items() for name in names}

__all__ = list(_MODULE_OF)

if not TYPE_CHECKING:  # A type checker knows the names from the imports, and must not take any other for one.

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULE_OF})
