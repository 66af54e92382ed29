"""Pydantic models of the guide: pages, entries, statistics, budgets, envelopes, policies and records."""

from pagekeeper.memory.models.abi import (
    MemoryABI,
    PageManifestEntry,
)
from pagekeeper.memory.models.budget import (
    TokenBudget,
)
from pagekeeper.memory.models.content import (
    AudioContent,
    FormattedPage,
    ImageContent,
    PageContent,
    PageData,
    PageMeta,
    StructuredContent,
    TextContent,
    VideoContent,
)
from pagekeeper.memory.models.entries import (
    PageTableEntry,
)
from pagekeeper.memory.models.enums import (
    ALL_COMPRESSION_LEVELS,
    MEMORY_PAGE_MIME_TYPE,
    VM_CHECKPOINT_MIME_TYPE,
    Actor,
    Affinity,
    CompressionLevel,
    ContextPrefix,
    FaultConfidenceThreshold,
    FaultReason,
    MessageRole,
    Modality,
    MutationType,
    PageType,
    StorageTier,
    ToolType,
    VMMode,
)
from pagekeeper.memory.models.experience import (
    RecallAttempt,
    UserExperienceMetrics,
)
from pagekeeper.memory.models.faults import (
    FaultEffects,
    FaultPolicy,
    FaultRecord,
    FaultResult,
    SearchResult,
    SearchResultEntry,
    VMToolError,
    VMToolResult,
)
from pagekeeper.memory.models.metrics import (
    VMMetrics,
)
from pagekeeper.memory.models.mutations import (
    PageMutation,
)
from pagekeeper.memory.models.page import (
    MemoryPage,
)
from pagekeeper.memory.models.statistics import (
    CombinedPageTableStats,
    FaultMetrics,
    MemoryManagerStats,
    MutationLogSummary,
    PackCacheStats,
    PageTableStats,
    PrefetcherStats,
    StorageStats,
    TLBStats,
    VMContext,
    WorkingSetStats,
)
from pagekeeper.memory.models.tools import (
    ToolDefinition,
    ToolFunction,
    ToolParameter,
    ToolParameters,
)

__all__ = [
    "ALL_COMPRESSION_LEVELS",
    "MEMORY_PAGE_MIME_TYPE",
    "VM_CHECKPOINT_MIME_TYPE",
    "Actor",
    "Affinity",
    "AudioContent",
    "CombinedPageTableStats",
    "CompressionLevel",
    "ContextPrefix",
    "FaultConfidenceThreshold",
    "FaultEffects",
    "FaultMetrics",
    "FaultPolicy",
    "FaultReason",
    "FaultRecord",
    "FaultResult",
    "FormattedPage",
    "ImageContent",
    "MemoryABI",
    "MemoryManagerStats",
    "MemoryPage",
    "MessageRole",
    "Modality",
    "MutationLogSummary",
    "MutationType",
    "PackCacheStats",
    "PageContent",
    "PageData",
    "PageManifestEntry",
    "PageMeta",
    "PageMutation",
    "PageTableEntry",
    "PageTableStats",
    "PageType",
    "PrefetcherStats",
    "RecallAttempt",
    "SearchResult",
    "SearchResultEntry",
    "StorageStats",
    "StorageTier",
    "StructuredContent",
    "TLBStats",
    "TextContent",
    "TokenBudget",
    "ToolDefinition",
    "ToolFunction",
    "ToolParameter",
    "ToolParameters",
    "ToolType",
    "UserExperienceMetrics",
    "VMContext",
    "VMMetrics",
    "VMMode",
    "VMToolError",
    "VMToolResult",
    "VideoContent",
    "WorkingSetStats",
]
