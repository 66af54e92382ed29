"""Any service killed in the middle of a conversation, and started again: the conversation goes on, whole."""

import asyncio

import pytest

from demo.corpus.generate import DEFAULT_FILE
from demo.corpus.load import load_conversations
from demo.corpus.types import Conversation
from demo.model.scripted import ScriptedModel
from demo.replay.driver import Replay, ReplayBudget
from demo.replay.records import TurnSeen
from pagekeeper.local.stack import ALL, INTERNAL_SERVICES, LocalStack, Topology
from pagekeeper.runtime.clock import SystemClock
from pagekeeper.v1 import session_pb2
from tests.stacks import client, new_tenant

TURNS = 36
KILLED_AFTER_TURNS = (8, 16, 24, TURNS)
"""After the last of these come the questions, whose answers have to be faulted in."""
BUDGET = ReplayBudget(8_000, session_pb2.DEMAND_PAGING_MODEL)


@pytest.fixture(scope="module")
def conversation() -> Conversation:
    """The beginning of the one that ships with Pagekeeper, and the questions about it."""
    (whole, *_) = load_conversations(DEFAULT_FILE)
    first = whole.turns[:TURNS]
    known = {message.page_id for turn in first for message in (*turn.question, *turn.reply)}
    asked = [turn for turn in whole.turns[TURNS:] if turn.recall and set(turn.recall.evidence) <= known]
    return Conversation(whole.name, whole.system, (*first, *asked))


@pytest.mark.parametrize(
    ("stack", "name"),
    [*((Topology.FIVE, name) for name in (*INTERNAL_SERVICES, "gateway")), (Topology.ONE, ALL)],
    indirect=["stack"],
    ids=str,
)
async def test_the_replay_goes_on(stack: LocalStack, name: str, conversation: Conversation) -> None:
    async with client(stack, new_tenant("replay"), call_seconds=20) as pagekeeper, asyncio.TaskGroup() as group:
        clock = SystemClock()
        replay = Replay(pagekeeper.api, pagekeeper.caller, ScriptedModel(), "talk", BUDGET, clock.monotonic)
        victim = stack.processes[name]
        seen: list[TurnSeen] = []
        starting: asyncio.Task[None] | None = None
        async for turn in replay.run(conversation):
            seen.append(turn)
            if turn.number in KILLED_AFTER_TURNS:
                if starting is not None:
                    await starting
                # Dead while the next turns are replayed, until it has started.
                victim.kill()
                starting = group.create_task(victim.start())
        assert len(seen) == len(conversation.turns)
        assert not [refused for turn in seen for refused in turn.refused_calls]
        assert all(max(turn.prompt_tokens, default=0) <= BUDGET.total_tokens for turn in seen)
        recalls = [turn.recall for turn in seen if turn.recall is not None]
        assert recalls
        assert all(recall.correct for recall in recalls)

        session = pagekeeper.session("talk")
        pages = [page async for page in session.pages()]
        found = [page.page_id for page in pages if not page.page_id.startswith("reply-")]
        said = [*conversation.system, *(one for turn in conversation.turns for one in (*turn.question, *turn.reply))]
        assert found == [message.page_id for message in said]
        assert {page.version for page in pages} == {1}
        for message in said:
            assert (await session.read(message.page_id)).decode().startswith(message.text)
        assert (await session.replay()).matches_served_state
