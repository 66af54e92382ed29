"""A decision leaves the prompt, and the model finds it again.

PK_ENDPOINT (`host:port`) and PK_TOKEN say where Pagekeeper is and who asks.
"""

import asyncio
import json
import os

from pagekeeper.client import assistant, connect, user
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.v1.memory_service_pb2 import AssemblePromptResponse, ToolCall

SMALL_TALK = "The kettle is on, the rain has stopped, and the cat is asleep on the warm side of the keyboard. " * 10
QUESTION = "Which database did we choose?"


async def main() -> None:
    async with connect(os.environ["PK_ENDPOINT"], os.environ["PK_TOKEN"]) as pagekeeper:
        # The oldest pages leave first and the model alone brings them back, so that this short talk shows both.
        session = await pagekeeper.open_session(
            max_l0_tokens=16_000, eviction_policy="lru/1", demand_paging="DEMAND_PAGING_MODEL"
        )
        appended = await session.append(user("We decided to use PostgreSQL, because the ledger needs transactions."))
        decision = appended.pages[0].page_id

        for _ in range(30):
            await session.append(user(SMALL_TALK), assistant(SMALL_TALK))

        # Send prompt.messages and prompt.tools_json to the model.
        prompt = await session.assemble(user_input=QUESTION)
        show(prompt, decision)

        # A model that sees no answer in its prompt asks for one, in its provider's format. Hand each answer back to it.
        query = json.dumps({"query": "decided database PostgreSQL"})
        [answer] = await session.handle_tool_calls(ToolCall(id="1", name="search_pages", arguments_json=query))
        print("search_pages", answer.content)
        found = json.loads(answer.content)["results"][0]["page_id"]
        fault = json.dumps({"page_id": found, "target_level": 0})
        [answer] = await session.handle_tool_calls(ToolCall(id="2", name="page_fault", arguments_json=fault))
        print("page_fault", answer.content)

        prompt = await session.assemble(user_input=QUESTION)
        show(prompt, decision)

        try:
            await session.page("no-such-page")
        except PagekeeperError as error:
            print("refused", error.reason, error.metadata)


def show(prompt: AssemblePromptResponse, decision: str) -> None:
    levels = {page.page_id: page.level for page in prompt.pages}
    where = f"at level {levels[decision]}" if decision in levels else "not in it"
    tokens = prompt.tokens
    print(f"prompt {tokens.total} of {tokens.budget} tokens: rules {tokens.rules}, context {tokens.context}, ", end="")
    print(f"manifest {tokens.manifest}, tools {tokens.tools}, input {tokens.input}; the decision is {where}")


if __name__ == "__main__":
    asyncio.run(main())
