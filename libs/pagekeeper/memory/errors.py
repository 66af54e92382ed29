"""The core's errors that a memory raises, one class per reason, and the one of an argument."""

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
    "SessionNotFound",
]
