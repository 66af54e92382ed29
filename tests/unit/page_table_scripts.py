"""Random scripts of what may happen to a session, for laws that hold whatever happened.

A step that the session refuses is part of the script: it must leave no trace.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256

from hypothesis import strategies as st

from pagekeeper.core import decisions
from pagekeeper.core import events as ev
from pagekeeper.core.errors import PagekeeperError
from pagekeeper.core.pages import FaultReason
from pagekeeper.core.session import Session
from pagekeeper.runtime.sessions import Request
from pagekeeper.v1 import event_pb2, page_pb2, session_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_table_service_pb2 as table_pb
from tests.unit.stack import Replica, caller, key

PAGE_IDS = tuple(f"p{number}" for number in range(6))
CHECKPOINT_IDS = ("c0", "c1")
ROLES = (
    page_pb2.MESSAGE_ROLE_USER,
    page_pb2.MESSAGE_ROLE_ASSISTANT,
    page_pb2.MESSAGE_ROLE_TOOL,
    page_pb2.MESSAGE_ROLE_SYSTEM,
)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that somebody does, with everything that is left open drawn."""

    what: str
    page_id: str
    other_id: str
    checkpoint_id: str
    words: int
    level: int
    role: int
    flag: bool


def steps(*kinds: str) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        what=st.sampled_from(kinds),
        page_id=st.sampled_from(PAGE_IDS),
        other_id=st.sampled_from(PAGE_IDS),
        checkpoint_id=st.sampled_from(CHECKPOINT_IDS),
        words=st.integers(1, 300),
        level=st.integers(1, 3),
        role=st.integers(0, len(ROLES) - 1),
        flag=st.booleans(),
    )


async def take(replica: Replica, step: Step) -> None:
    """Do it; a refusal is an outcome like any other."""
    try:
        await _ACTIONS[step.what](replica, step)
    except PagekeeperError:
        return


def _page(step: Step, page_id: str, *, new_version: bool = False) -> page_pb2.PageInput:
    return page_pb2.PageInput(
        page_id=page_id,
        text=f"{page_id} " * step.words,
        role=ROLES[step.role],
        new_version=new_version,
        pinned=step.flag and step.words < 40,
        importance=step.words / 300,
    )


async def _append(replica: Replica, step: Step) -> None:
    """Map the page, or another version of it when it is there."""
    page = (await replica.fold()).page(step.page_id)
    if page is not None:
        await replica.append(_page(replace(step, role=_role_index(page.role.name)), step.page_id, new_version=True))
        return
    pages = [_page(step, step.page_id)]
    if step.flag and step.other_id != step.page_id:
        link = page_pb2.PageLink(kind=page_pb2.LINK_KIND_DERIVED_FROM, target_page_id=step.page_id)
        pages.append(page_pb2.PageInput(page_id=step.other_id, text="derived " * step.words, links=[link]))
    await replica.append(*pages)


def _role_index(name: str) -> int:
    return ROLES.index(page_pb2.MessageRole.Value(f"MESSAGE_ROLE_{name}"))


async def _annotate(replica: Replica, step: Step) -> None:
    request = pb.AnnotatePageRequest(
        request_id=replica.request_id(), session_id="s1", page_id=step.page_id, hint=f"hint {step.words}"
    )
    await replica.page_table.annotate_page(caller(), request)


async def _link(replica: Replica, step: Step) -> None:
    link = page_pb2.PageLink(kind=page_pb2.LINK_KIND_REFERS_TO, target_page_id=step.other_id)
    request = pb.LinkPagesRequest(request_id=replica.request_id(), session_id="s1", page_id=step.page_id, links=[link])
    await replica.page_table.link_pages(caller(), request)


async def _unmap(replica: Replica, step: Step) -> None:
    request = pb.DropPagesRequest(request_id=replica.request_id(), session_id="s1", page_ids=[step.page_id])
    await replica.page_table.unmap_pages(caller(), request)


async def _represent(replica: Replica, step: Step) -> None:
    content = f"{step.page_id} at level {step.level}".encode()
    session = await replica.fold()
    added = event_pb2.AddedRepresentation(
        page_id=step.page_id,
        version=decisions.known_page(session, step.page_id).current_version,
        representation=event_pb2.StoredRepresentation(
            level=step.level, inline=content, digest=sha256(content).digest(), compressor="test/1"
        ),
    )
    request = table_pb.AddRepresentationsRequest(
        request_id=replica.request_id(), session_id="s1", representations=[added]
    )
    await replica.page_table.add_representations(caller(), request)


async def _checkpoint(replica: Replica, step: Step) -> None:
    request = pb.CreateCheckpointRequest(
        request_id=replica.request_id(), session_id="s1", checkpoint_id=step.checkpoint_id
    )
    await replica.page_table.create_checkpoint(caller(), request)


async def _forget_checkpoint(replica: Replica, step: Step) -> None:
    request = pb.DeleteCheckpointRequest(
        request_id=replica.request_id(), session_id="s1", checkpoint_id=step.checkpoint_id
    )
    await replica.page_table.delete_checkpoint(caller(), request)


async def _configure(replica: Replica, step: Step) -> None:
    config = session_pb2.SessionConfig(max_l0_tokens=512 + step.words)
    request = pb.ConfigureSessionRequest(request_id=replica.request_id(), session_id="s1", config=config)
    await replica.page_table.configure_session(caller(), request)


async def _restore(replica: Replica, step: Step) -> None:
    session = await replica.fold()
    checkpoint = decisions.known_checkpoint(session, step.checkpoint_id)
    then = await replica.history.at_revision(key("s1"), checkpoint.revision)
    restored = decisions.restore(then, step.checkpoint_id)
    await _commit(replica, lambda _session: restored)


async def _begin_turn(replica: Replica, step: Step) -> None:
    del step
    await _commit(replica, lambda _session: ev.TurnBegun())


async def _pin(replica: Replica, step: Step) -> None:
    await _commit(replica, lambda session: decisions.pin(session, [step.page_id]))


async def _admit(replica: Replica, step: Step) -> None:
    def decide(session: Session) -> ev.PageAdmitted | None:
        level = 0 if step.flag else step.level
        return decisions.admit(session, step.page_id, level, FaultReason.RESOLVE_REFERENCE, prefetched=False)

    await _commit(replica, decide)


async def _commit(replica: Replica, decide: Callable[[Session], ev.Event | None]) -> None:
    """What working-set writes, without its service."""
    request_id = replica.request_id()
    await replica.sessions.commit(key("s1"), Request(request_id, sha256(request_id.encode()).digest()), decide)


async def _flush(replica: Replica, step: Step) -> None:
    del step
    await replica.flush()


async def _snapshot(replica: Replica, step: Step) -> None:
    del step
    await replica.snapshot()


_ACTIONS: dict[str, Callable[[Replica, Step], Awaitable[None]]] = {
    "append": _append,
    "annotate": _annotate,
    "link": _link,
    "unmap": _unmap,
    "represent": _represent,
    "checkpoint": _checkpoint,
    "forget checkpoint": _forget_checkpoint,
    "configure": _configure,
    "restore": _restore,
    "begin turn": _begin_turn,
    "pin": _pin,
    "admit": _admit,
    "flush": _flush,
    "snapshot": _snapshot,
}
UPKEEP = ("flush", "snapshot")
CHANGES = tuple(kind for kind in _ACTIONS if kind not in UPKEEP)
ALL = tuple(_ACTIONS)
scripts = st.lists(steps(*ALL, "append", "append", "append", "admit", "snapshot"), min_size=25, max_size=40)
