"""Enumerations and constants of the guide: the core's, and those that the core does not need."""

from enum import StrEnum
from typing import Final

from pagekeeper.core.events import DemandPaging as DemandPagingMode
from pagekeeper.core.events import VMMode
from pagekeeper.core.packing import ContextPrefix
from pagekeeper.core.pages import CompressionLevel, FaultReason, MessageRole, Modality, PageType, StorageTier

__all__ = [
    "ALL_COMPRESSION_LEVELS",
    "MEMORY_PAGE_MIME_TYPE",
    "VM_CHECKPOINT_MIME_TYPE",
    "Actor",
    "Affinity",
    "CompressionLevel",
    "ContextPrefix",
    "DemandPagingMode",
    "FaultConfidenceThreshold",
    "FaultReason",
    "MessageRole",
    "Modality",
    "MutationType",
    "PageType",
    "StorageTier",
    "ToolType",
    "VMMode",
]

MEMORY_PAGE_MIME_TYPE: Final = "application/x-memory-page"
VM_CHECKPOINT_MIME_TYPE: Final = "application/x-vm-checkpoint"
ALL_COMPRESSION_LEVELS: Final[list[int]] = [level.value for level in CompressionLevel]


class Affinity(StrEnum):
    """Where a page's bytes are: in this process, elsewhere, or in memory shared with others."""

    LOCAL = "local"
    REMOTE = "remote"
    SHARED = "shared"


class MutationType(StrEnum):
    CREATE = "create"
    FAULT_IN = "fault_in"
    EVICT = "evict"
    COMPRESS = "compress"
    PIN = "pin"
    UNPIN = "unpin"
    UPDATE = "update"
    DELETE = "delete"


class Actor(StrEnum):
    """The cause of a mutation."""

    USER = "user"
    MODEL = "model"
    TOOL = "tool"
    SYSTEM = "system"


class ToolType(StrEnum):
    FUNCTION = "function"


class FaultConfidenceThreshold(StrEnum):
    """The reasons for which a page may be faulted in.

    EXPLICIT: pages asked for by the user or by id. REFERENCED: also pages that a tool needs. SPECULATIVE: all.
    """

    EXPLICIT = "explicit"
    REFERENCED = "referenced"
    SPECULATIVE = "speculative"
