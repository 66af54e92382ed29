"""A valid request for any RPC, made from its descriptor, so that a new RPC is tried without a line here."""

from collections.abc import Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2

SERVICE = pb.DESCRIPTOR.services_by_name["MemoryService"]

LEFT_EMPTY = frozenset({"request_id", "page_token", "expected_revision", "min_revision", "extra_tools_json", "version"})
CHOSEN_BY_THE_SERVER = frozenset(
    {("CreateCheckpointRequest", "checkpoint_id"), ("ForkSessionRequest", "new_session_id")}
)
NUMBERS = {"counted_tokens": 1_000, "input_tokens": 1_000}
TEXTS = {"query": "hello", "name": "page_fault", "arguments_json": '{"page_id": "%s"}', "id": "call_1"}


def filled(kind: type[Message], session_id: str, page_id: str, checkpoint_id: str) -> Message:
    """A request that would succeed if the session, page and checkpoint were the caller's."""
    ids = {
        "session_id": session_id,
        "page_id": page_id,
        "page_ids": page_id,
        "target_page_id": page_id,
        "checkpoint_id": checkpoint_id,
    }
    message = kind()
    descriptor = message.DESCRIPTOR
    taken: set[str] = set()
    fields: Sequence[Any] = descriptor.fields
    for field in fields:
        if field.name in LEFT_EMPTY or (descriptor.name, field.name) in CHOSEN_BY_THE_SERVER:
            continue
        if field.containing_oneof is not None:
            if field.containing_oneof.name in taken:
                continue
            taken.add(field.containing_oneof.name)
        _fill(message, field, ids)
    return message


def _fill(message: Message, field: FieldDescriptor, ids: dict[str, str]) -> None:
    if field.message_type is not None:
        _fill_message(message, field, ids)
    elif field.name in ids:
        _put(message, field, ids[field.name])
    elif field.name in TEXTS:
        text = TEXTS[field.name]
        _put(message, field, text % ids["page_id"] if "%s" in text else text)
    elif field.name in NUMBERS:
        _put(message, field, NUMBERS[field.name])
    elif field.name in ("turn", "from_turn", "to_turn", "revision") and field.containing_oneof is not None:
        _put(message, field, 1)


def _fill_message(message: Message, field: FieldDescriptor, ids: dict[str, str]) -> None:
    assert field.message_type is not None
    match field.message_type.name:
        case "PageInput":
            getattr(message, field.name).append(page_pb2.PageInput(text="hello"))
        case "PageLink":
            link = page_pb2.PageLink(kind=page_pb2.LINK_KIND_REFERS_TO, target_page_id=ids["page_id"])
            getattr(message, field.name).append(link)
        case "ToolCall":
            call = filled(GetMessageClass(field.message_type), ids["session_id"], ids["page_id"], ids["checkpoint_id"])
            getattr(message, field.name).append(call)
        case "FaultPageRequest":
            inner = filled(GetMessageClass(field.message_type), ids["session_id"], ids["page_id"], ids["checkpoint_id"])
            getattr(message, field.name).CopyFrom(inner)
        case _:
            pass  # it may be left out


def _put(message: Message, field: FieldDescriptor, value: Any) -> None:  # noqa: ANN401 - a scalar of the field's type
    if field.is_repeated:
        getattr(message, field.name).append(value)
    else:
        setattr(message, field.name, value)
