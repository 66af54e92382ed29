"""What a caller says of a page is known of it for good: in the log, the fold, a packed page, a snapshot, an answer.

A field that is added to `PageInput` alone, or lost on the way, is named by the first test.
"""

from typing import Any, Final, Literal

import pytest
from google.protobuf.descriptor import FieldDescriptor

from pagekeeper.core import events as ev
from pagekeeper.core.lines import LineFacts
from pagekeeper.core.packed_pages import FieldGroups
from pagekeeper.core.pages import PageState, Version
from pagekeeper.runtime.codec import MessageCodec, MessageReader, MessageWriter
from pagekeeper.v1 import event_pb2, page_pb2
from pagekeeper.v1 import memory_service_pb2 as pb
from tests.unit.stack import Replica, Stores, caller, ready

NO_FACTS: Final = {"new_version", "text", "data"}
"""Fields of a page to append that say what to do, and its content."""
FOR_CALLERS_ALONE: Final[tuple[Literal["links", "metadata"], ...]] = ("links", "metadata")
"""Facts that no service needs to know of another's pages: internal answers are without them."""
SAID: Final[dict[str, Any]] = {
    "page_id": "named",
    "modality": page_pb2.MODALITY_IMAGE,
    "page_type": page_pb2.PAGE_TYPE_CLAIM,
    "role": page_pb2.MESSAGE_ROLE_ASSISTANT,
    "trust": page_pb2.TRUST_CLASS_TOOL,
    "media": page_pb2.MediaDescription(caption="a cat", width=3, height=4),
    "links": [page_pb2.PageLink(kind=page_pb2.LINK_KIND_REFERS_TO, target_page_id="target")],
    "metadata": {"key": "value"},
}
BY_TYPE: Final[dict[int, Any]] = {
    FieldDescriptor.TYPE_STRING: "said by the caller",
    FieldDescriptor.TYPE_BOOL: True,
    FieldDescriptor.TYPE_DOUBLE: 0.25,
    FieldDescriptor.TYPE_UINT32: 7,
    FieldDescriptor.TYPE_UINT64: 1_700_000_000_000,
}
FACTS: Final = {
    field.name: SAID[field.name] if field.name in SAID else BY_TYPE[field.type]
    for field in page_pb2.PageInput.DESCRIPTOR.fields
    if field.name not in NO_FACTS
}


async def test_every_fact_that_a_caller_can_say_is_answered_as_it_was_said() -> None:
    replica = Replica(await ready(Stores()))
    await replica.open(max_l0_tokens=600, reserved_tokens=10)
    await replica.append(page_pb2.PageInput(page_id="target", text="what it refers to"))
    await replica.append(page_pb2.PageInput(data=b"\x89PNG", **FACTS))
    await replica.flush()
    await replica.snapshot()
    asked = pb.GetPageRequest(session_id="s1", page_id="named")
    for reader in (replica, Replica(replica.stores, "cold")):
        page = (await reader.page_table.get_page(caller(), asked)).page
        for name, value in FACTS.items():
            assert name in page_pb2.Page.DESCRIPTOR.fields_by_name, f"page.proto: Page has no {name}"
            answered = getattr(page, name)
            assert (dict(answered) if isinstance(value, dict) else answered) == value, name
        looked_up = (await reader.lookup("named")).page
        for name in FOR_CALLERS_ALONE:
            page.ClearField(name)
        assert looked_up == page


def test_what_is_mapped_is_kept_by_a_page_or_by_its_version() -> None:
    kept = {*PageState._fields, *Version._fields, "full"}
    assert {*ev.MappedPage._fields} - {"page_type"} | {"mapped_type"} <= kept


def test_a_field_that_only_one_side_has_stops_the_program() -> None:
    """So that whoever adds one is told which class or message lacks it."""
    with pytest.raises(TypeError, match="has no"):
        MessageCodec(type("PageVersion", (ev.PageRelation,), {}))
    with pytest.raises(TypeError, match="mapped_type"):
        MessageReader(LineFacts, event_pb2.MappedPage)
    with pytest.raises(TypeError, match="versions"):
        FieldGroups(PageState, ("page_id", "links", "metadata", "reuse"), {"tool_name"})


def test_a_writer_leaves_what_it_is_told_to() -> None:
    relation = ev.PageVersion("p1", 3, 0.5)
    assert MessageWriter(ev.PageVersion, page_pb2.Page).written(relation) == {
        "page_id": "p1",
        "version": 3,
        "importance": 0.5,
    }
    assert MessageWriter(ev.PageVersion, page_pb2.Page, apart=("version",)).written(relation) == {
        "page_id": "p1",
        "importance": 0.5,
    }
