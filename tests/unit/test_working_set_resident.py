"""What a prompt is told of a session is what would be derived from it anew, and is told once."""

import asyncio

from hypothesis import given, settings

from pagekeeper.runtime.views import page_totals, stats_message
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1 import working_set_service_pb2 as working_pb
from pagekeeper.working_set.resident import ResidentPages
from tests.unit.faulting import FaultingReplica, represent, said, serving
from tests.unit.page_table_scripts import Step, scripts, take
from tests.unit.stack import Stores, caller, ready

ASKED = working_pb.ResidentRequest(session_id="s1", available_limit=100)


@settings(max_examples=50)
@given(scripts)
def test_what_is_kept_up_is_what_would_be_made_anew(script: list[Step]) -> None:
    async def play() -> None:
        replica = FaultingReplica(await ready(Stores()))
        async with serving(replica):
            await replica.open(max_l0_tokens=600, reserved_tokens=10)
            for step in script:
                await take(replica, step)
                kept = await replica.working_set.resident(caller(), ASKED)
                anew = await ResidentPages(replica.sessions).resident(caller(), ASKED)
                assert kept == anew
                session = await replica.fold()
                assert kept.stats == stats_message(session, page_totals(session))
                check(kept)
                ids = [entry.resident.page_id for entry in kept.resident]
                assert ids == [page_id for page_id in session.pages if page_id in session.working_set]

    asyncio.run(play())


def check(answer: working_pb.ResidentResponse) -> None:
    """Each mapped page is in the context or offered; the totals are theirs."""
    resident = [entry.page.page_id for entry in answer.resident if not entry.resident.faulted]
    offered = [page.page_id for page in answer.available]
    assert len({*resident, *offered}) == len(resident) + len(offered) == answer.stats.total_pages
    assert answer.available_total == len(offered)
    assert answer.stats.used_tokens == sum(entry.resident.size_tokens for entry in answer.resident)
    in_context = [entry.page for entry in answer.resident if not entry.resident.faulted]
    pages = [*in_context, *answer.available]
    assert answer.stats.total_tokens == sum(page.representations[0].size_tokens for page in pages)
    unprotected = {entry.page.page_id for entry in answer.resident if not entry.resident.pinned}
    assert set(answer.eviction_order) == unprotected
    for entry in answer.resident:
        assert entry.page.tier == page_pb2.STORAGE_TIER_L0
        assert entry.page.resident_level == entry.resident.level
        in_log = {one.level for one in entry.page.representations if one.placement.HasField("inline")}
        assert {one.level for one in entry.inline} == in_log


async def test_a_page_keeps_its_place_when_it_is_updated_or_comes_back() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open()
        await replica.append(said("p1", 20), said("p2", 20))
        await replica.append(said("p3", 20))
        again = said("p1", 30)
        again.new_version = True
        await replica.append(again)
        assert await residents(replica) == ["p1", "p2", "p3"]


async def test_what_a_fork_says_itself_stands_behind_what_it_inherited() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open()
        for number in range(4):
            await replica.append(said(f"p{number}", 20))
        request = pb.ForkSessionRequest(request_id="fork", session_id="s1", new_session_id="s2")
        await replica.page_table.fork_session(caller(), request)
        await replica.append(said("own", 20), session_id="s2")
        assert await residents(replica, "s2") == ["p0", "p1", "p2", "p3", "own"]


async def residents(replica: FaultingReplica, session_id: str = "s1") -> list[str]:
    request = working_pb.ResidentRequest(session_id=session_id)
    answer = await replica.working_set.resident(caller(), request)
    return [entry.resident.page_id for entry in answer.resident]


async def test_who_knows_it_all_is_told_nothing_and_who_knows_some_the_rest() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open()
        await replica.append(said("p1", 20))
        first = await replica.resident()
        assert [len(entry.inline) for entry in first.resident] == [1]
        again = await replica.resident(known_revision=first.revision)
        assert again == working_pb.ResidentResponse(revision=first.revision, unchanged=True)
        await replica.append(said("p2", 20))
        second = await replica.resident(known_revision=first.revision)
        assert {entry.page.page_id: len(entry.inline) for entry in second.resident} == {"p1": 0, "p2": 1}
        assert second.input_page_id == "p2"


async def test_a_medium_that_is_shown_at_any_level_is_not_what_a_prompt_ends_with() -> None:
    """Its lower level tells what its bytes say, and was asked for to be read."""
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open()
        film = page_pb2.PageInput(page_id="film", modality=page_pb2.MODALITY_VIDEO, data=b"a film")
        await replica.append(said("p1", 20), film)
        await represent(replica, "film", 1, "0:02 the spare key is under the flowerpot")
        full = await replica.resident()
        assert (await replica.fault("film", 1)).outcome.level == 1
        lower = await replica.resident()
        await replica.append(said("answer", 20, page_pb2.MESSAGE_ROLE_ASSISTANT))
        answered = await replica.resident()
        for answer, level in ((full, 0), (lower, 1), (answered, 1)):
            assert {entry.page.page_id: entry.resident.level for entry in answer.resident}["film"] == level
            assert (answer.words_page_id, answer.input_page_id) == ("film", "")
            assert not answer.HasField("words")


async def test_a_replica_that_is_behind_catches_up_with_its_caller() -> None:
    stores = await ready(Stores())
    ahead, behind = FaultingReplica(stores), FaultingReplica(stores, "b")
    async with serving(ahead):
        await ahead.open()
        await behind.resident()
        await ahead.append(said("p1", 20))
        known = await ahead.resident()
        assert (await behind.resident(known_revision=known.revision)).unchanged


async def test_the_most_useful_pages_are_offered_first_and_no_more_than_asked_for() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open(max_l0_tokens=600, reserved_tokens=10)
        claim = said("claim", 30)
        claim.page_type, claim.importance = page_pb2.PAGE_TYPE_CLAIM, 0.0
        vital = said("vital", 30)
        vital.importance = 0.9
        await replica.append(said("old", 30), claim, vital, said("new", 30))
        await replica.push_out("old", "claim", "vital", "new")
        offered = [page.page_id for page in (await replica.resident()).available]
        of_interest = [page_id for page_id in offered if not page_id.startswith("filler")]
        assert of_interest == ["claim", "vital", "new", "old"]
        few = await replica.resident(available_limit=2)
        assert [page.page_id for page in few.available] == ["claim", "vital"]
        assert few.available_total == len(offered)


async def test_counters_are_those_of_the_fold() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open(max_l0_tokens=600, reserved_tokens=10)
        await replica.append(said("p1", 30))
        await replica.push_out("p1")
        await replica.fault("p1")
        answer = await replica.working_set.get_stats(caller(), pb.GetStatsRequest(session_id="s1"))
        session = await replica.fold()
        assert answer.revision == session.revision
        assert answer.stats == stats_message(session, page_totals(session))
        assert answer.stats.faults_this_turn == 1
