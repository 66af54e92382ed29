"""A fork begins as its parent was and then knows nothing of it, nor the parent of the fork."""

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pagekeeper.core.errors import RequestIdReused, RevisionNotFound, SessionExists, SessionNotFound
from pagekeeper.core.session import Session
from pagekeeper.runtime import codec
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from tests.unit.page_table_scripts import Step, scripts, take
from tests.unit.stack import Replica, Stores, caller, key, ready


async def fork(replica: Replica, *, at_revision: int = 0, into: str = "s2") -> session_pb2.Session:
    request = pb.ForkSessionRequest(
        request_id=f"fork-{into}",
        session_id="s1",
        new_session_id=into,
        at_revision=at_revision,
        labels={"branch": into},
    )
    return (await replica.page_table.fork_session(caller(), request)).session


def shown(session: Session) -> list[tuple[str, int, bytes, bool]]:
    """Pages, their versions and contents, and which are resident: what a caller sees of a session."""
    return [
        (page.page_id, page.current_version, page.current.full.digest, page.page_id in session.working_set)
        for page in session.mapped_pages()
    ]


@settings(max_examples=25)
@given(scripts, scripts, st.integers(0, 40))
def test_a_fork_is_its_parent_at_that_revision_and_then_itself(before: list[Step], after: list[Step], at: int) -> None:
    async def play() -> None:
        replica = Replica(await ready(Stores()))
        await replica.open(max_l0_tokens=600, reserved_tokens=10)
        states = [codec.decode_state(await replica.state(), (await replica.fold()).revision)]
        for step in before:
            await take(replica, step)
            fold = await replica.fold()
            if fold.revision != states[-1].revision:
                states.append(codec.decode_state(codec.encode_state(fold), fold.revision))
        then = Random(at).choice(states)
        await fork(replica, at_revision=then.revision)
        seeded = await replica.state("s2")
        assert shown(await replica.fold("s2")) == shown(then)
        for step in after:
            await take(replica, step)
        assert await replica.state("s2") == seeded, "the fork does not move with its parent"
        reader = Replica(replica.stores, "b")
        assert await reader.state("s2") == seeded
        parent = await replica.state()
        await replica.append(page_pb2.PageInput(page_id="own", text="of the fork"), session_id="s2")
        await replica.snapshot("s2")
        assert await replica.state() == parent, "the parent does not move with its fork"
        for page in (await replica.fold("s2")).mapped_pages():
            content = await reader.content(page.page_id, "s2")
            assert len(content) == page.current.full.size_bytes

    asyncio.run(play())


async def test_a_fork_says_where_it_comes_from_and_forgets_what_was_about_its_parent() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    revision = (await replica.append(page_pb2.PageInput(page_id="p", text="x"))).revision
    request = pb.CreateCheckpointRequest(request_id="c", session_id="s1", checkpoint_id="c1")
    await replica.page_table.create_checkpoint(caller(), request)
    forked = await fork(replica, at_revision=revision)
    assert (forked.parent_session_id, forked.parent_revision) == ("s1", revision)
    assert dict(forked.labels) == {"branch": "s2"}
    checkpoints = await replica.page_table.list_checkpoints(caller(), pb.ListCheckpointsRequest(session_id="s2"))
    assert not checkpoints.checkpoints
    history = await replica.page_table.get_page_history(
        caller(), pb.GetPageHistoryRequest(session_id="s2", page_id="p")
    )
    (entry,) = history.entries
    assert entry.mapped == session_pb2.PageHistoryEntry.Mapped(version=1, inherited_from_session_id="s1")


async def test_a_fork_of_a_closed_session_is_open() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    await replica.append(page_pb2.PageInput(page_id="p", text="x"))
    await replica.page_table.close_session(caller(), pb.CloseSessionRequest(request_id="c", session_id="s1"))
    await fork(replica)
    await replica.append(page_pb2.PageInput(text="goes on"), session_id="s2")


async def test_a_retried_fork_is_one_fork() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    first = await fork(replica)
    assert await fork(replica) == first
    assert await fork(Replica(replica.stores, "b")) == first
    with pytest.raises(RequestIdReused):
        await fork_again(replica, "fork-s2", "s2", at_revision=first.parent_revision)
    with pytest.raises(SessionExists):
        await fork_again(replica, "another", "s2")
    with pytest.raises(SessionExists):
        await fork_again(replica, "another", "s1")


async def fork_again(replica: Replica, request_id: str, into: str, at_revision: int = 0) -> None:
    request = pb.ForkSessionRequest(
        request_id=request_id, session_id="s1", new_session_id=into, at_revision=at_revision
    )
    await replica.page_table.fork_session(caller(), request)


async def test_what_never_was_cannot_be_forked() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open()
    with pytest.raises(RevisionNotFound):
        await fork(replica, at_revision=999)
    await replica.page_table.delete_session(caller(), pb.DeleteSessionRequest(request_id="d", session_id="s1"))
    with pytest.raises(SessionNotFound):
        await fork(replica)
    assert not (await replica.sessions.read(key("s2"), strict=True)).revision


async def test_a_large_session_is_forked_through_the_object_store() -> None:
    """Its state does not fit a record of the log."""
    replica = Replica(await ready(Stores()))
    await replica.open()
    random = Random(7)
    for batch in range(8):
        pages = [
            page_pb2.PageInput(page_id=f"p{batch}-{number}", text="x", hint=random.randbytes(400).hex())
            for number in range(200)
        ]
        await replica.append(*pages)
    await fork(replica)
    assert len((await Replica(replica.stores, "b").fold("s2")).pages) == 1_600
