"""Enumerations and constants of the guide: the core's where it has them, and those that only an application needs."""

from enum import StrEnum
from typing import Final

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
    """Where a page's bytes are, seen from who computes with them."""

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
    """How sure it must be that a page is needed before it is faulted in.

    EXPLICIT allows what was asked for by name, REFERENCED also what a tool needs, SPECULATIVE also guesses.
    """

    EXPLICIT = "explicit"
    REFERENCED = "referenced"
    SPECULATIVE = "speculative"
