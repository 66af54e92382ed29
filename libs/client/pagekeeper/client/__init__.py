"""The Python client of Pagekeeper: a connection, and sessions on it.

    async with connect("localhost:7400", token) as pagekeeper:
        session = await pagekeeper.open_session(max_l0_tokens=16_000)
        await session.append(user("We decided to use PostgreSQL."))
        prompt = await session.assemble(user_input="Which database did we choose?")

Failures are the classes of `pagekeeper.memory.errors`.
"""

from pagekeeper.client.connection import Pagekeeper, connect
from pagekeeper.client.pages import artifact, assistant, claim, image, procedure, structured, system, tool_result, user
from pagekeeper.client.session import Session

__all__ = [
    "Pagekeeper",
    "Session",
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
