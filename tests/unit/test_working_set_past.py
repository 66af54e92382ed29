"""The past is what was answered then, and going back to it is one more thing that happens."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings

from pagekeeper.core.effects import decisions_digest
from pagekeeper.core.errors import CheckpointNotFound, InvalidField, RevisionNotFound, StoreUnavailable
from pagekeeper.runtime import codec
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import session_pb2
from tests.fakes.faulty_bucket import Faults
from tests.unit.faulting import FaultingReplica, said, serving
from tests.unit.page_table_scripts import Step, scripts, take
from tests.unit.stack import Stores, caller, key, ready

CONFIG = {"max_l0_tokens": 600, "reserved_tokens": 10}


async def now(replica: FaultingReplica) -> pb.GetContextAtResponse:
    """The context as it is served, without a look at history."""
    answer = await replica.resident()
    pages = [entry.resident for entry in answer.resident]
    return pb.GetContextAtResponse(revision=answer.revision, turn=answer.turn, pages=pages, stats=answer.stats)


def without_placement(context: pb.GetContextAtResponse) -> pb.GetContextAtResponse:
    """History that was archived names places where the log had bytes."""
    context.stats.dirty_pages = 0
    return context


async def at(replica: FaultingReplica, revision: int) -> pb.GetContextAtResponse:
    request = pb.GetContextAtRequest(session_id="s1", revision=revision)
    return await replica.working_set.context_at(caller(), request)


async def replay(replica: FaultingReplica, to_revision: int = 0) -> pb.ReplaySessionResponse:
    request = pb.ReplaySessionRequest(session_id="s1", to_revision=to_revision)
    return await replica.working_set.replay_session(caller(), request)


def by_id(pages: list[session_pb2.ResidentPage]) -> dict[str, session_pb2.ResidentPage]:
    return {page.page_id: page for page in pages}


@settings(max_examples=25)
@given(scripts)
def test_the_context_at_a_revision_is_what_was_served_then(script: list[Step]) -> None:
    async def play() -> None:
        replica = FaultingReplica(await ready(Stores()))
        async with serving(replica):
            await replica.open("s1", **CONFIG)
            served = [await now(replica)]
            for step in script:
                await take(replica, step)
                context = await now(replica)
                if context.revision != served[-1].revision:
                    served.append(context)
            late = FaultingReplica(replica.stores, "late")
            for then in served[::4]:
                assert without_placement(await at(late, then.revision)) == without_placement(then)
            for before, after in pairwise(served[::7]):
                await check_difference(late, before, after)

    asyncio.run(play())


async def check_difference(
    replica: FaultingReplica, before: pb.GetContextAtResponse, after: pb.GetContextAtResponse
) -> None:
    request = pb.DiffContextRequest(session_id="s1", from_revision=before.revision, to_revision=after.revision)
    answer = await replica.working_set.diff_context(caller(), request)
    old, new = by_id(list(before.pages)), by_id(list(after.pages))
    assert by_id(list(answer.entered)) == {page_id: new[page_id] for page_id in new.keys() - old.keys()}
    assert by_id(list(answer.left)) == {page_id: old[page_id] for page_id in old.keys() - new.keys()}
    for page in answer.changed:
        assert (old[page.page_id].level, old[page.page_id].version) != (page.level, page.version)
    unchanged = new.keys() & old.keys() - by_id(list(answer.changed)).keys()
    assert all((old[i].level, old[i].version) == (new[i].level, new[i].version) for i in unchanged)


@settings(max_examples=25)
@given(scripts)
def test_a_replay_decides_alike_and_comes_to_what_is_served(script: list[Step]) -> None:
    async def play() -> None:
        replica = FaultingReplica(await ready(Stores()))
        async with serving(replica):
            await replica.open("s1", **CONFIG)
            for step in script:
                await take(replica, step)
            middle, end = 0, (await replica.fold()).revision
            happenings = []
            async for step_of_log in replica.history.steps(key("s1")):
                happenings += step_of_log.effects
                middle = step_of_log.revision if step_of_log.revision <= end // 2 else middle
            for one in (replica, FaultingReplica(replica.stores, "b")):
                whole = await replay(one)
                assert (whole.revision, whole.matches_served_state) == (end, True)
                assert whole.state_digest == codec.state_digest(await replica.fold())
                assert (whole.decisions, whole.decisions_digest) == (len(happenings), decisions_digest(happenings))
                if middle:
                    part = await replay(one, middle)
                    assert (part.revision, part.matches_served_state) == (middle, True)
                    assert part.decisions <= whole.decisions

    asyncio.run(play())


async def test_a_turn_ends_before_the_next_one_begins() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open("s1", **CONFIG)
        await replica.append(said("p1", 20))
        first = await now(replica)
        await replica.append(said("p2", 20))
        second = await now(replica)
        for turn, context in ((1, first), (2, second)):
            request = pb.GetContextAtRequest(session_id="s1", turn=turn)
            assert await replica.working_set.context_at(caller(), request) == context
        for wrong, refusal in (
            (pb.GetContextAtRequest(session_id="s1", turn=3), RevisionNotFound),
            (pb.GetContextAtRequest(session_id="s1", revision=10**6), RevisionNotFound),
            (pb.GetContextAtRequest(session_id="s1"), InvalidField),
        ):
            with pytest.raises(refusal):
                await replica.working_set.context_at(caller(), wrong)
        with pytest.raises(RevisionNotFound):
            await replay(replica, 10**6)


async def test_a_restore_brings_back_what_was_there_and_can_be_undone() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open("s1", **CONFIG)
        await replica.append(said("p1", 100), said("p2", 100))
        checkpoint = pb.CreateCheckpointRequest(request_id="cp", session_id="s1", checkpoint_id="c1")
        await replica.page_table.create_checkpoint(caller(), checkpoint)
        before = await now(replica)
        drop = pb.DropPagesRequest(request_id="drop", session_id="s1", page_ids=["p2"])
        await replica.page_table.unmap_pages(caller(), drop)
        await replica.append(*(said(f"more-{number}", 60) for number in range(8)))
        changed = await now(replica)

        restore = pb.RestoreCheckpointRequest(request_id="back", session_id="s1", checkpoint_id="c1")
        restored = await replica.working_set.restore(caller(), restore)
        assert [page.page_id for page in restored.resident] == [page.page_id for page in before.pages] == ["p1", "p2"]
        assert restored.page_count == 2
        await replica.append(said("p9", 20))
        assert await replica.working_set.restore(caller(), restore) == restored

        undo = pb.RestoreCheckpointRequest(request_id="undo", session_id="s1", revision=changed.revision)
        undone = await replica.working_set.restore(caller(), undo)
        assert [page.page_id for page in undone.resident] == [page.page_id for page in changed.pages]


async def test_a_restore_that_was_done_is_not_denied_when_the_past_is_read_wrong() -> None:
    """A definite refusal would say that nothing has happened."""
    stores = await ready(Stores())
    replica = FaultingReplica(stores)
    async with serving(replica):
        await replica.open("s1", **CONFIG)
        for number in range(3):
            await replica.append(said(f"p{number}", 20))
        restore = pb.RestoreCheckpointRequest(request_id="back", session_id="s1", revision=3)
        restored = await replica.working_set.restore(caller(), restore)
        await replica.append(said("later", 20))
        await replica.flush()
        assert (await replica.snapshot()).replaced_records

        stores.bucket.faults = Faults(wrong=1.0)
        with pytest.raises(StoreUnavailable):
            await replica.working_set.restore(caller(), restore)
        stores.bucket.faults = Faults()
        assert await replica.working_set.restore(caller(), restore) == restored


async def test_what_was_never_there_is_not_restored() -> None:
    replica = FaultingReplica(await ready(Stores()))
    async with serving(replica):
        await replica.open("s1", **CONFIG)
        for request, refusal in (
            (pb.RestoreCheckpointRequest(request_id="r1", session_id="s1", checkpoint_id="c1"), CheckpointNotFound),
            (pb.RestoreCheckpointRequest(request_id="r2", session_id="s1", revision=10**6), RevisionNotFound),
            (pb.RestoreCheckpointRequest(request_id="r3", session_id="s1"), InvalidField),
        ):
            before = await replica.state()
            with pytest.raises(refusal):
                await replica.working_set.restore(caller(), request)
            assert await replica.state() == before
