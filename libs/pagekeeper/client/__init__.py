"""The Python client of Pagekeeper: a connection, and sessions on it.

    async with connect("localhost:7400", token) as pagekeeper:
        session = await pagekeeper.open_session(max_l0_tokens=16_000)
        await session.append(user("We decided to use PostgreSQL."))
        prompt = await session.assemble(user_input="Which database did we choose?")

`SessionManager` is the guide's object for a whole conversation, over such a connection or in this process. Each name is
loaded when it is first asked for: what runs in this process is there without gRPC.

Failures are the classes of `pagekeeper.core.errors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pagekeeper.client.connection import Pagekeeper, connect
    from pagekeeper.client.pages import (
        artifact,
        assistant,
        claim,
        image,
        procedure,
        structured,
        system,
        tool_result,
        user,
    )
    from pagekeeper.client.session import Session
    from pagekeeper.memory.infinite_conversation import EventSource, InfiniteConversationManager
    from pagekeeper.memory.session_manager import SessionManager, SessionStats
    from pagekeeper.memory.session_memory import VirtualMemoryDisabled
    from pagekeeper.memory.summaries import SummarizationStrategy

__all__ = [
    "EventSource",
    "InfiniteConversationManager",
    "Pagekeeper",
    "Session",
    "SessionManager",
    "SessionStats",
    "SummarizationStrategy",
    "VirtualMemoryDisabled",
    "artifact",
    "assistant",
    "claim",
    "connect",
    "image",
    "procedure",
    "structured",
    "system",
    "tool_result",
    "user",
]

_MODULE_OF: Final = {
    **dict.fromkeys(("Pagekeeper", "connect"), "client.connection"),
    "Session": "client.session",
    **dict.fromkeys(("EventSource", "InfiniteConversationManager"), "memory.infinite_conversation"),
    **dict.fromkeys(("SessionManager", "SessionStats"), "memory.session_manager"),
    "VirtualMemoryDisabled": "memory.session_memory",
    "SummarizationStrategy": "memory.summaries",
}

if not TYPE_CHECKING:  # A type checker knows the names from the imports, and must not take any other for one.

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value: object = getattr(import_module(f"pagekeeper.{_MODULE_OF.get(name, 'client.pages')}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
