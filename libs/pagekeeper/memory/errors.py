"""Errors of a memory, one class per reason: the core's, and those of a saved file and of an argument."""

from pagekeeper.core.errors import (
    BudgetTooSmall,
    CheckpointExists,
    CheckpointNotFound,
    ContentTooLarge,
    FaultLimitReached,
    FaultTokensExceeded,
    InvalidField,
    LevelUnavailable,
    PageExists,
    PagekeeperError,
    PageNotFound,
    PinBudgetExceeded,
    RevisionNotFound,
    SessionNotFound,
)
from pagekeeper.memory.arguments import InvalidArgument
from pagekeeper.memory.artifacts_bridge import StorageError
from pagekeeper.memory.saved_file import SavedMemoryUnreadable
from pagekeeper.memory.session_memory import VirtualMemoryDisabled

__all__ = [
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
    "SavedMemoryUnreadable",
    "SessionNotFound",
    "StorageError",
    "VirtualMemoryDisabled",
]
