"""A prompt that is kept up from what has changed is the prompt that would be made of all residents."""

import asyncio
from dataclasses import dataclass
from typing import cast

from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.errors import PagekeeperError
from pagekeeper.gateway.assembly import PromptAssembler
from pagekeeper.gateway.contents import Contents, content_cache
from pagekeeper.gateway.ports import WorkingSetPort
from pagekeeper.runtime.identity import Caller
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import session_pb2
from pagekeeper.v1 import working_set_service_pb2 as working_pb
from pagekeeper.working_set.service import WorkingSetService
from tests.unit.faulting import FaultingReplica, said, serving
from tests.unit.page_table_scripts import Step, scripts, take
from tests.unit.stack import IN_PLACE, Stores, caller, ready

INPUTS = ("", "What did we say of p1 and p3?")
MODELS = ("", "gpt-4")
BUDGETS_TOKENS = (0, 900, 1_200, 1_600, 6_000)


@dataclass
class EitherWorkingSet:
    """Two replicas of working-set behind one address; answers are counted by whether they had the changes alone."""

    replicas: tuple[WorkingSetService, WorkingSetService]
    asked: int = 0
    changes_only: int = 0
    residents_told: int = 0

    async def resident(self, who: Caller, request: working_pb.ResidentRequest) -> working_pb.ResidentResponse:
        self.asked += 1
        answer = await self.replicas[self.asked % 2].resident(who, request)
        self.changes_only += answer.changes_only
        self.residents_told = len(answer.resident)
        return answer


def assembler(replica: FaultingReplica, working_set: object) -> PromptAssembler:
    """One that knows nothing yet. Of working-set, only what tells the residents is asked."""
    contents = Contents(content_cache(), replica.page_table, replica.artifacts, IN_PLACE)
    return PromptAssembler(replica.page_table, cast(WorkingSetPort, working_set), contents, IN_PLACE)


async def outcome(of: PromptAssembler, request: pb.AssemblePromptRequest) -> pb.AssemblePromptResponse | str:
    try:
        return await of.assemble(caller(), request)
    except PagekeeperError as refused:
        return str(refused)


@settings(max_examples=40)
@given(scripts, st.data())
def test_a_prompt_that_is_kept_up_is_the_prompt_made_anew(script: list[Step], data: st.DataObject) -> None:
    async def play() -> None:
        stores = await ready(Stores())
        replica, other = FaultingReplica(stores), FaultingReplica(stores, "b")
        either = EitherWorkingSet((replica.working_set, other.working_set))
        async with serving(replica), serving(other):
            await replica.open(max_l0_tokens=2_000, reserved_tokens=10)
            kept = assembler(replica, either)
            for step in script:
                await take(replica, step)
                if not data.draw(st.booleans()):
                    continue
                request = pb.AssemblePromptRequest(
                    session_id="s1",
                    strict=True,
                    user_input=data.draw(st.sampled_from(INPUTS)),
                    model=data.draw(st.sampled_from(MODELS)),
                    budget_tokens=data.draw(st.sampled_from(BUDGETS_TOKENS)),
                )
                anew = await outcome(assembler(replica, replica.working_set), request)
                assert await outcome(kept, request) == anew

    asyncio.run(play())


async def test_a_turn_costs_what_it_changed_and_not_what_is_resident() -> None:
    replica = FaultingReplica(await ready(Stores()))
    either = EitherWorkingSet((replica.working_set, replica.working_set))
    async with serving(replica):
        await replica.open(max_l0_tokens=128_000)
        for number in range(40):
            await replica.append(said(f"p{number}", 20))
        kept = assembler(replica, either)
        request = pb.AssemblePromptRequest(session_id="s1", strict=True)
        assert len((await kept.assemble(caller(), request)).pages) == 39
        assert either.residents_told == 40
        await replica.append(said("new", 20))
        response = await kept.assemble(caller(), request)
        assert [page.page_id for page in response.pages] == [f"p{number}" for number in range(40)]
        # The new page, and the one that three later turns protect no longer.
        assert either.residents_told <= 3
        assert either.changes_only == 1


async def test_a_turn_that_ends_a_protection_is_told() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open(pin_last_turns=2)
        await replica.append(said("p1", 20))
        kept = assembler(replica, EitherWorkingSet((replica.working_set, replica.working_set)))
        request = pb.AssemblePromptRequest(session_id="s1", strict=True, user_input="And now?")
        assert [page.pinned for page in (await kept.assemble(caller(), request)).pages] == [True]
        await replica.begin_turn()
        await replica.begin_turn()
        assert [page.pinned for page in (await kept.assemble(caller(), request)).pages] == [False]


async def test_settings_that_protect_other_pages_are_told() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open(pin_last_turns=1)
        await replica.append(said("p1", 20), said("p2", 20))
        kept = assembler(replica, EitherWorkingSet((replica.working_set, replica.working_set)))
        request = pb.AssemblePromptRequest(session_id="s1", strict=True, user_input="And now?")
        assert [page.pinned for page in (await kept.assemble(caller(), request)).pages] == [False, True]
        configure = pb.ConfigureSessionRequest(
            request_id="configure", session_id="s1", config=session_pb2.SessionConfig(pin_last_turns=2)
        )
        await replica.page_table.configure_session(caller(), configure)
        assert [page.pinned for page in (await kept.assemble(caller(), request)).pages] == [True, True]


async def test_a_budget_with_no_room_for_all_has_the_order_of_eviction() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open(pin_last_turns=1)
        for number in range(20):
            await replica.append(said(f"p{number}", 60))
        again = said("p3", 60)
        again.new_version = True
        await replica.append(again)
        kept = assembler(replica, EitherWorkingSet((replica.working_set, replica.working_set)))
        roomy = pb.AssemblePromptRequest(session_id="s1", strict=True, user_input="And now?")
        assert not (await kept.assemble(caller(), roomy)).omitted_page_ids
        for budget_tokens in range(1_000, 1_600, 150):
            narrow = pb.AssemblePromptRequest(
                session_id="s1", strict=True, user_input="And now?", budget_tokens=budget_tokens
            )
            anew = await assembler(replica, replica.working_set).assemble(caller(), narrow)
            assert await kept.assemble(caller(), narrow) == anew
            shown = [page.page_id for page in anew.pages]
            assert anew.omitted_page_ids
            # The page that was updated was used last, wherever it stands.
            assert set(shown) == {"p3", *(f"p{number}" for number in range(21 - len(shown), 20))}


async def test_a_session_whose_prompts_lack_room_asks_once_a_prompt() -> None:
    replica = FaultingReplica(await ready(Stores()))
    either = EitherWorkingSet((replica.working_set, replica.working_set))
    async with serving(replica):
        await replica.open(pin_last_turns=1)
        for number in range(20):
            await replica.append(said(f"p{number}", 60))
        kept = assembler(replica, either)
        narrow = pb.AssemblePromptRequest(session_id="s1", strict=True, user_input="And now?", budget_tokens=1_300)
        roomy = pb.AssemblePromptRequest(session_id="s1", strict=True, user_input="And now?")
        asked: list[int] = []
        for request in (narrow, narrow, roomy, roomy, narrow):
            await replica.append(said(f"p{number + 1 + len(asked)}", 60))
            before = either.asked
            assert bool((await kept.assemble(caller(), request)).omitted_page_ids) is (request is narrow)
            asked.append(either.asked - before)
        # The first that lacks room finds out; the last one does so again, since the one before had room.
        assert asked == [2, 1, 1, 1, 2]
