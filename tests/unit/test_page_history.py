"""A page's history is typed, complete, and can be put into words."""

import pytest

from pagekeeper.client.page_history import event_text
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from pagekeeper.v1.session_pb2 import PageHistoryEntry as Entry
from tests.unit.faulting import FaultingReplica
from tests.unit.stack import Replica, Stores, caller, ready

EVENTS = Entry.DESCRIPTOR.oneofs_by_name["event"].fields


async def history_of(replica: Replica, page_id: str) -> list[Entry]:
    request = pb.GetPageHistoryRequest(session_id="s1", page_id=page_id, page_size=1_000)
    return list((await replica.page_table.get_page_history(caller(), request)).entries)


@pytest.mark.parametrize("name", [field.name for field in EVENTS])
def test_every_event_can_be_put_into_words(name: str) -> None:
    entry = Entry()
    getattr(entry, name).SetInParent()
    assert event_text(entry).startswith(name.replace("_", " "))


def test_an_event_of_a_newer_release_is_told_apart_from_silence() -> None:
    assert "does not know" in event_text(Entry(revision=7))


async def test_events_carry_what_was_asked_for() -> None:
    replica = FaultingReplica(await ready(Stores()))
    await replica.open()
    await replica.append(page_pb2.PageInput(page_id="p", text="x " * 60))
    await replica.append(page_pb2.PageInput(page_id="other", text="y"))
    link = page_pb2.PageLink(kind=page_pb2.LINK_KIND_SUPERSEDES, target_page_id="other")
    await replica.page_table.link_pages(
        caller(), pb.LinkPagesRequest(request_id="l", session_id="s1", page_id="p", links=[link])
    )
    annotation = pb.AnnotatePageRequest(
        request_id="a",
        session_id="s1",
        page_id="p",
        hint="what it is",
        page_type=page_pb2.PAGE_TYPE_CLAIM,
        metadata={"source": "web"},
    )
    revision = (await replica.page_table.annotate_page(caller(), annotation)).revision
    await replica.working_set.set_importance(
        caller(), pb.SetImportanceRequest(request_id="i", session_id="s1", page_id="p", importance=0.9)
    )
    await replica.working_set.pin(caller(), pb.PinPagesRequest(request_id="pin", session_id="s1", page_ids=["p"]))
    await replica.working_set.unpin(caller(), pb.UnpinPagesRequest(request_id="unpin", session_id="s1", page_ids=["p"]))
    await replica.working_set.restore(
        caller(), pb.RestoreCheckpointRequest(request_id="r", session_id="s1", revision=revision)
    )
    entries = await history_of(replica, "p")
    by_name = {entry.WhichOneof("event"): entry for entry in entries}
    names = ["mapped", "admitted", "linked", "annotated", "importance_set", "pinned", "unpinned", "restored"]
    assert [entry.WhichOneof("event") for entry in entries][: len(names)] == names
    assert by_name["mapped"].mapped == Entry.Mapped(version=1, size_bytes=120)
    assert by_name["linked"].linked == link
    annotated = by_name["annotated"].annotated
    assert (annotated.hint, annotated.page_type) == ("what it is", page_pb2.PAGE_TYPE_CLAIM)
    assert dict(annotated.metadata) == {"source": "web"}
    assert by_name["importance_set"].importance_set.importance == 0.9
    assert by_name["restored"].restored == Entry.Restored(revision=revision, version=1)
    assert [entry.revision for entry in entries] == sorted(entry.revision for entry in entries)
    assert event_text(by_name["linked"]) == "linked: supersedes other"
    assert event_text(by_name["annotated"]) == "annotated: hint 'what it is', type claim, source = 'web'"
