"""The Python client of Pagekeeper: a connection, and sessions on it.

    async with connect("localhost:7400", token) as pagekeeper:
        session = await pagekeeper.open_session(max_l0_tokens=16_000)
        await session.append(user("We decided to use PostgreSQL."))
        prompt = await session.assemble(user_input="Which database did we choose?")

`SessionManager` is the guide's object for a whole conversation, over such a connection or in this process.

Failures are the classes of `pagekeeper.core.errors`.
"""

from pagekeeper.client.connection import Pagekeeper, connect
from pagekeeper.client.infinite_conversation import EventSource, InfiniteConversationManager
from pagekeeper.client.pages import artifact, assistant, claim, image, procedure, structured, system, tool_result, user
from pagekeeper.client.session import Session
from pagekeeper.client.session_manager import SessionManager, SessionStats
from pagekeeper.client.session_memory import VirtualMemoryDisabled
from pagekeeper.client.summaries import SummarizationStrategy

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
