"""Limits stand in the API: every field of a public request has its own, and what the core says beside is the same."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from pagekeeper.core import session_settings, terms, tools
from pagekeeper.core.decisions import METADATA_ENTRIES_MAX
from pagekeeper.core.drafts import IMPORTANCE
from pagekeeper.core.errors import ContentTooLarge, InvalidField
from pagekeeper.core.events import SessionConfig
from pagekeeper.core.ids import ID_LENGTH_MAX, check_id
from pagekeeper.core.packing import SAID_UNIX_MS_MAX
from pagekeeper.core.pages import CompressionLevel
from pagekeeper.core.previews import PREVIEW_BYTES_MAX
from pagekeeper.runtime.limits import check, limits_of, number_asked
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2, session_pb2
from pagekeeper.v1.limits_pb2 import FieldLimits

REQUESTS = [method.input_type for method in pb.DESCRIPTOR.services_by_name["MemoryService"].methods]
TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)


def fields_of(descriptor: Descriptor, path: tuple[FieldDescriptor, ...] = ()) -> Iterator[tuple[FieldDescriptor, ...]]:
    """Every field of a message and of the messages in it, with the fields that lead there."""
    for field in descriptor.fields:
        yield (*path, field)
        if field.message_type is not None and not field.message_type.GetOptions().map_entry:
            yield from fields_of(field.message_type, (*path, field))


FIELDS = [(request, path) for request in REQUESTS for path in fields_of(request)]
NAMES = [f"{request.name}.{'.'.join(field.name for field in path)}" for request, path in FIELDS]


def limits(field: FieldDescriptor) -> FieldLimits:
    assert field.containing_type is not None
    return limits_of(GetMessageClass(field.containing_type), field.name)


@pytest.mark.parametrize(("request_", "path"), FIELDS, ids=NAMES)
def test_every_text_and_list_is_limited(request_: Descriptor, path: tuple[FieldDescriptor, ...]) -> None:
    del request_
    field = path[-1]
    said = limits(field)
    if field.is_repeated:
        assert said.max_items, f"{field.full_name} may have any number of entries"
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        assert said.max_bytes, f"{field.full_name} may have values of any size"
        assert said.max_key_bytes, f"{field.full_name} may have keys of any size"
    elif field.type in TEXTS:
        assert said.id or said.max_bytes, f"{field.full_name} may have any size"
        assert said.id == (field.name.endswith(("_id", "_ids")) and field.name != "tool_call_id")


def beyond(field: FieldDescriptor) -> Any:  # noqa: ANN401 - a value of the field's type
    """A value that is just too much; None for a field that accepts any."""
    said = limits(field)
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    if is_map:
        return {str(number): "x" for number in range(said.max_items + 1)}
    if field.is_repeated:
        entry = GetMessageClass(field.message_type)() if field.message_type is not None else 1
        return [("x" if field.type == FieldDescriptor.TYPE_STRING else entry)] * (said.max_items + 1)
    if said.id:
        return "x" * (ID_LENGTH_MAX + 1)
    if field.type in TEXTS:
        return ("x" if field.type == FieldDescriptor.TYPE_STRING else b"x") * (said.max_bytes + 1)
    if field.enum_type is not None:
        return max(field.enum_type.values_by_number) + 1
    if field.message_type is None and said.HasField("max"):
        return said.max + 1 if field.type == FieldDescriptor.TYPE_DOUBLE else int(said.max) + 1
    return None


LIMITED = [(r, path) for r, path in FIELDS if beyond(path[-1]) is not None]


def within(field: FieldDescriptor) -> Any:  # noqa: ANN401 - a value of the field's type
    """A value that is as large as the limit says."""
    said = limits(field)
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        keys = [f"{number:0{said.max_key_bytes}}" for number in range(said.max_items)]
        return dict.fromkeys(keys[:-1], "x") | {keys[-1]: "x" * said.max_bytes}
    if field.is_repeated:
        if field.message_type is not None:
            return [filled(GetMessageClass(field.message_type))] * said.max_items
        entry = "x" if field.type == FieldDescriptor.TYPE_STRING else 1
        longest = ["x" * (ID_LENGTH_MAX if said.id else said.max_bytes)] if entry == "x" else []
        return [entry] * (said.max_items - len(longest)) + longest
    if said.id:
        return "x" * ID_LENGTH_MAX
    if field.type in TEXTS:
        return ("x" if field.type == FieldDescriptor.TYPE_STRING else b"x") * said.max_bytes
    if field.enum_type is not None:
        return max(field.enum_type.values_by_number)
    return said.max if field.type == FieldDescriptor.TYPE_DOUBLE else int(said.max)


def below(field: FieldDescriptor) -> Any:  # noqa: ANN401 - a number
    """A number that is just too small, and is not 0, which stands for the default; None where there is none."""
    said = limits(field)
    if field.message_type is not None or field.is_repeated or field.type in TEXTS or field.enum_type is not None:
        return None
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return math.nextafter(said.min, -math.inf) if said.HasField("max") else None
    return int(said.min) - 1 if said.min > 1 else None


def with_value(request_: Descriptor, path: tuple[FieldDescriptor, ...], value: Any) -> tuple[Any, str]:  # noqa: ANN401
    """A request that has all that is required of it, and this value where `path` leads; and that place in words."""
    message = filled(GetMessageClass(request_))
    inner: Any = message
    where = ""
    for field in path[:-1]:
        entry = getattr(inner, field.name)
        if field.is_repeated:
            del entry[:]
            inner = filled(entry.add())
            where += f"{field.name}[0]."
        else:
            inner = filled(entry)
            inner.SetInParent()
            where += f"{field.name}."
    name = path[-1].name
    inner.ClearField(name)
    if isinstance(value, dict):
        getattr(inner, name).update(value)
    elif isinstance(value, list):
        getattr(inner, name).extend(value)
    else:
        setattr(inner, name, value)
    return message, f"{where}{name}"


@pytest.mark.parametrize(("request_", "path"), LIMITED, ids=lambda one: getattr(one, "name", "at"))
def test_a_field_beyond_its_limit_is_refused_by_its_path(
    request_: Descriptor, path: tuple[FieldDescriptor, ...]
) -> None:
    for value in (beyond(path[-1]), below(path[-1])):
        if value is None:
            continue
        message, where = with_value(request_, path, value)
        with pytest.raises((InvalidField, ContentTooLarge)) as refusal:
            check(message)
        assert refusal.value.metadata["field"] == where


@pytest.mark.parametrize(("request_", "path"), LIMITED, ids=lambda one: getattr(one, "name", "at"))
def test_a_field_at_its_limit_is_taken(request_: Descriptor, path: tuple[FieldDescriptor, ...]) -> None:
    check(with_value(request_, path, within(path[-1]))[0])


def filled(message: Message | type[Message]) -> Any:  # noqa: ANN401 - a message of that class
    """A message that has all that is required of it."""
    whole: Any = message() if isinstance(message, type) else message
    descriptor: Descriptor = whole.DESCRIPTOR
    for field in descriptor.fields:
        said = limits(field)
        if not (said.required or said.min_items) or field.containing_oneof is not None:
            continue
        if field.message_type is not None:
            filled(getattr(whole, field.name).add() if field.is_repeated else getattr(whole, field.name)).SetInParent()
        elif field.is_repeated:
            getattr(whole, field.name).append("x")
        else:
            text = field.type == FieldDescriptor.TYPE_STRING
            setattr(whole, field.name, "x" if text else 1)
    for oneof in descriptor.oneofs:
        field = oneof.fields[0]
        if whole.WhichOneof(oneof.name) is None and len(oneof.fields) > 1:
            setattr(
                whole,
                field.name,
                b"x" if field.type == FieldDescriptor.TYPE_BYTES else "x" if field.type in TEXTS else 1,
            )
    return whole


def test_what_the_core_limits_too_is_limited_alike() -> None:
    config, defaults = session_pb2.SessionConfig, SessionConfig()
    assert limits_of(page_pb2.PageInput, "metadata").max_items == METADATA_ENTRIES_MAX
    assert limits_of(pb.AnnotatePageRequest, "metadata").max_items == METADATA_ENTRIES_MAX
    assert limits_of(page_pb2.PageInput, "said_unix_ms").max == SAID_UNIX_MS_MAX
    assert limits_of(page_pb2.MediaPreview, "data").max_bytes == PREVIEW_BYTES_MAX
    assert limits_of(page_pb2.PageInput, "importance").default == IMPORTANCE
    assert limits_of(pb.SearchPagesRequest, "query").max_bytes == terms.QUERY_CHARS_MAX
    assert limits_of(pb.ToolCall, "arguments_json").max_bytes == 4 * tools.ARGUMENTS_CHARS_MAX
    assert limits_of(config, "model").max_bytes == session_settings.MODEL_LENGTH_MAX
    for message, name in ((pb.FaultPageRequest, "target_level"), (pb.ReadPageRequest, "level")):
        assert limits_of(message, name).max == max(CompressionLevel)
    for name, (low, high) in session_settings.RANGES.items():
        assert (limits_of(config, name).min, limits_of(config, name).max) == (low, high), name
    for field in config.DESCRIPTOR.fields:
        said = limits_of(config, field.name)
        if said.default:
            assert said.default == getattr(defaults, field.name), field.name


def test_an_id_is_as_long_as_its_option_says() -> None:
    assert check_id("id", "x" * ID_LENGTH_MAX)
    check(pb.GetSessionRequest(session_id="x" * ID_LENGTH_MAX))
    with pytest.raises(InvalidField, match="session_id"):
        check(pb.GetSessionRequest(session_id="x" * (ID_LENGTH_MAX + 1)))


@pytest.mark.parametrize(("asked", "answered"), [(0, 100), (1, 1), (1_000, 1_000), (5_000, 1_000)])
def test_a_number_that_is_not_given_has_its_default(asked: int, answered: int) -> None:
    assert number_asked(pb.ListPagesRequest(page_size=asked), "page_size") == answered


@pytest.mark.parametrize("text", ["x" * 16_384, "ü" * 8_192, "🜁" * 4_096])
def test_bytes_are_counted_not_characters(text: str) -> None:
    check(pb.SearchPagesRequest(session_id="s", query=text))
    with pytest.raises(ContentTooLarge) as refusal:
        check(pb.SearchPagesRequest(session_id="s", query=f"{text}x"))
    assert refusal.value.metadata["size_bytes"] == str(16_385)
