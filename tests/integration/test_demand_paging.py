"""What a user's words call for is in the prompt before the model sees it, and the session is the same afterwards."""

import json
from typing import Any

import pytest

from pagekeeper.client import Pagekeeper, Session, assistant, user
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import session_pb2

pytestmark = pytest.mark.xdist_group("stacks")

FACT = "We decided that the release is called Kingfisher and ships on 14 March."
QUESTION = "What did we decide to call the release, and when does it ship?"
BUDGET_TOKENS = 3_000


async def long_conversation(pagekeeper: Pagekeeper, **config: Any) -> Session:  # noqa: ANN401 - fields of SessionConfig
    """A fact at its beginning, which has left the working set at its end."""
    session = await pagekeeper.open_session(
        max_l0_tokens=2_000, reserved_tokens=800, pin_last_turns=1, eviction_policy="lru/1", **config
    )
    await session.append(user(FACT, page_id="fact"))
    for turn in range(40):
        await session.append(
            user(f"Item {turn}: how do I water the plants on floor {turn}?"),
            assistant(f"Use the watering can number {turn} and count to {turn * 7}, then check the soil. " * 3),
        )
    return session


async def prompt(
    pagekeeper: Pagekeeper,
    session: Session,
    budget: int = BUDGET_TOKENS,
    **asked: Any,  # noqa: ANN401 - fields of the request
) -> pb.AssemblePromptResponse:
    request = pb.AssemblePromptRequest(session_id=session.session_id, budget_tokens=budget, **asked)
    return await pagekeeper.api.assemble_prompt(pagekeeper.caller(), request)


async def test_words_bring_in_what_they_call_for_and_change_nothing(alice: Pagekeeper) -> None:
    session = await long_conversation(alice)
    before = await session.get()
    stats_before = await session.stats()
    made = await prompt(alice, session, user_input=QUESTION)
    developer, said = made.messages
    assert "fact" in made.recalled_page_ids
    assert FACT in said.content
    assert FACT not in developer.content
    assert made.tokens.total <= BUDGET_TOKENS
    assert {page.page_id for page in made.pages} >= set(made.recalled_page_ids)
    again = await prompt(alice, session, user_input=QUESTION)
    assert (again.digest, again.revision) == (made.digest, made.revision)
    assert (await session.get()).revision == before.revision
    assert await session.stats() == stats_before


async def test_words_that_were_appended_count_as_much_as_words_given(alice: Pagekeeper) -> None:
    session = await long_conversation(alice)
    await session.append(user(QUESTION))
    assert "fact" in (await prompt(alice, session)).recalled_page_ids


async def test_who_brings_pages_in_is_a_choice(alice: Pagekeeper) -> None:
    session = await long_conversation(alice)
    by_model = await prompt(alice, session, user_input=QUESTION, demand_paging=session_pb2.DEMAND_PAGING_MODEL)
    assert not by_model.recalled_page_ids
    assert json.loads(by_model.tools_json)
    by_runtime = await prompt(alice, session, user_input=QUESTION, demand_paging=session_pb2.DEMAND_PAGING_RUNTIME)
    assert "fact" in by_runtime.recalled_page_ids
    assert json.loads(by_runtime.tools_json) == []
    by_both = await prompt(alice, session, user_input=QUESTION)
    assert "fact" in by_both.recalled_page_ids
    assert json.loads(by_both.tools_json)


async def test_a_session_may_leave_it_to_the_model(alice: Pagekeeper) -> None:
    session = await long_conversation(alice, demand_paging=session_pb2.DEMAND_PAGING_MODEL)
    assert not (await prompt(alice, session, user_input=QUESTION)).recalled_page_ids
    asked = session_pb2.DEMAND_PAGING_HYBRID
    assert (await prompt(alice, session, user_input=QUESTION, demand_paging=asked)).recalled_page_ids


async def test_turns_that_call_for_the_past_share_what_may_be_brought_in_beside_residents(alice: Pagekeeper) -> None:
    session = await long_conversation(alice)
    question = "Which floors have plants that need water?"

    async def brought_tokens() -> int:
        made = await prompt(alice, session, user_input=question, budget=12_000)
        recalled = set(made.recalled_page_ids)
        return sum(page.size_tokens for page in made.pages if page.page_id in recalled)

    alone = await brought_tokens()
    for number in range(7):
        await session.append(user(f"Do you remember colour {number}?"), assistant("It was blue."))
    assert 0 < await brought_tokens() <= 8_192 // 8 < alone
