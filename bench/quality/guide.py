"""The guide's system, from PyPI, as a library in this process; only the environment of `make bench-quality` has it."""

from importlib import import_module
from typing import Any, Final

RESERVED_TOKENS: Final = 4_000


def guide_memory(budget_tokens: int, reserved_tokens: int = RESERVED_TOKENS) -> Any:  # noqa: ANN401 - it ships no types
    """Its `MemoryManager` with an L0 of that size and all else as it comes."""
    config = import_module("chuk_ai_session_manager.memory.working_set").WorkingSetConfig
    manager = import_module("chuk_ai_session_manager.memory.manager").MemoryManager
    return manager(session_id="bench", config=config(max_l0_tokens=budget_tokens, reserved_tokens=reserved_tokens))
