"""Bytes that are no request are refused by the field that is wrong, whichever bytes they are."""

from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core.errors import ContentTooLarge, InvalidField
from pagekeeper.runtime.rpc import parsing
from pagekeeper.runtime.rpc.methods import MESSAGE_BYTES_MAX
from pagekeeper.runtime.rpc.parsing import FIELDS_MAX, FIELDS_READ_MAX, parse
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2
from tests.unit.test_limits import REQUESTS, fields_of

MARK = "a text that stands nowhere else"
BROKEN = b"\xff" + MARK.encode()[1:]

TEXTS = [
    (request, path)
    for request in REQUESTS
    for path in fields_of(request)
    if path[-1].type == FieldDescriptor.TYPE_STRING
]
NAMES = [f"{request.name}.{'.'.join(field.name for field in path)}" for request, path in TEXTS]


def marked(message: Any, path: tuple[FieldDescriptor, ...]) -> str:  # noqa: ANN401 - a message of any class
    """Put MARK where `path` leads, as the second entry of each list. Return the path as refusals say it."""
    said = ""
    for field in path[:-1]:
        value = getattr(message, field.name)
        if field.is_repeated:
            value.add()
            message, said = value.add(), f"{said}{field.name}[1]."
        else:
            message, said = value, f"{said}{field.name}."
    name = path[-1].name
    if path[-1].is_repeated:
        getattr(message, name).extend(["whole", MARK])
        return f"{said}{name}[1]"
    setattr(message, name, MARK)
    return f"{said}{name}"


@pytest.mark.parametrize(("request_", "path"), TEXTS, ids=NAMES)
def test_a_text_that_is_not_utf_8_is_named_by_its_path(request_: Descriptor, path: tuple[FieldDescriptor, ...]) -> None:
    kind = GetMessageClass(request_)
    message = kind()
    where = marked(message, path)
    with pytest.raises(InvalidField) as refusal:
        parse(kind, message.SerializeToString().replace(MARK.encode(), BROKEN))
    assert refusal.value.field == where
    assert "UTF-8" in refusal.value.problem


def test_a_map_is_named_as_a_whole() -> None:
    raw = pb.OpenSessionRequest(labels={"key": MARK}).SerializeToString().replace(MARK.encode(), BROKEN)
    with pytest.raises(InvalidField) as refusal:
        parse(pb.OpenSessionRequest, raw)
    assert refusal.value.field == "labels"


@given(raw=st.binary(max_size=200), kind=st.sampled_from([GetMessageClass(request) for request in REQUESTS]))
def test_any_bytes_are_a_request_or_a_bad_field(raw: bytes, kind: type[Message]) -> None:
    try:
        expected = kind.FromString(raw)
    except DecodeError:
        with pytest.raises(InvalidField):
            parse(kind, raw)
    else:
        assert parse(kind, raw) == expected


@given(cut=st.integers(0, 300))
def test_a_message_that_was_cut_off_is_refused_as_a_whole_or_is_shorter(cut: int) -> None:
    whole = pb.AppendPagesRequest(session_id="s", pages=[page_pb2.PageInput(text="a text")] * 20).SerializeToString()
    try:
        size_bytes = pb.AppendPagesRequest.FromString(whole[:cut]).ByteSize()
    except DecodeError:
        with pytest.raises(InvalidField) as refusal:
            parse(pb.AppendPagesRequest, whole[:cut])
        assert refusal.value.field == "request"
    else:
        assert parse(pb.AppendPagesRequest, whole[:cut]).ByteSize() == size_bytes


def test_a_message_has_as_many_bytes_as_the_limit() -> None:
    fits = pb.SearchPagesRequest(query="x" * (MESSAGE_BYTES_MAX - 5)).SerializeToString()
    assert len(fits) == MESSAGE_BYTES_MAX
    assert parse(pb.SearchPagesRequest, fits).ByteSize() == MESSAGE_BYTES_MAX
    with pytest.raises(ContentTooLarge) as refusal:
        parse(pb.SearchPagesRequest, fits + b"\x00")
    assert refusal.value.metadata["size_bytes"] == str(MESSAGE_BYTES_MAX + 1)


def test_the_search_for_a_bad_field_ends() -> None:
    """The wrong text comes after more fields than are looked at: the refusal names the request."""
    fields = b"\x0a\x00" * (FIELDS_READ_MAX + 1)
    broken = pb.SearchPagesRequest(query=MARK).SerializeToString().replace(MARK.encode(), BROKEN)
    with pytest.raises(InvalidField) as refusal:
        parse(pb.SearchPagesRequest, fields + broken)
    assert refusal.value.field == "request"


REPEATED_PAGE = bytes([pb.AppendPagesRequest.DESCRIPTOR.fields_by_name["pages"].number << 3 | 2, 0])


@pytest.mark.parametrize("depth", [0, 1, 2])
async def test_a_message_of_very_many_fields_is_refused_before_it_is_parsed(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At any depth: pages, their links, and entries of what no class knows."""
    links = bytes([page_pb2.PageInput.DESCRIPTOR.fields_by_name["links"].number << 3 | 2, 0]) * (FIELDS_MAX + 1)
    inner = pb.AppendPagesRequest(pages=[page_pb2.PageInput.FromString(b"")]).SerializeToString()
    raw = [REPEATED_PAGE * (FIELDS_MAX + 1), _wrapped(links), b"\x08\x01" * (FIELDS_MAX + 1) + inner][depth]
    monkeypatch.setattr(parsing, "parse", None)
    with pytest.raises(InvalidField, match="at most 160,000 fields") as refusal:
        await parsing.parsed(pb.AppendPagesRequest, raw)
    assert refusal.value.field == "request"


async def test_a_message_that_is_too_large_is_refused_for_its_size_whatever_its_fields() -> None:
    raw = REPEATED_PAGE * (MESSAGE_BYTES_MAX // len(REPEATED_PAGE) + 1)
    with pytest.raises(ContentTooLarge) as refusal:
        await parsing.parsed(pb.AppendPagesRequest, raw)
    assert refusal.value.metadata["size_bytes"] == str(len(raw))


async def test_a_request_that_uses_every_limit_is_parsed() -> None:
    page = page_pb2.PageInput(
        text="x",
        links=[page_pb2.PageLink(target_page_id="p1")] * 64,
        metadata={f"label{number}": "x" for number in range(32)},
        media=page_pb2.MediaDescription(scenes=["x"] * 256),
    )
    request = pb.AppendPagesRequest(session_id="s", pages=[page] * 256)
    assert await parsing.parsed(pb.AppendPagesRequest, request.SerializeToString()) == request


@given(st.binary(max_size=200))
async def test_long_bytes_are_refused_as_short_ones_are(raw: bytes) -> None:
    long = raw + bytes(parsing.LONG_BYTES_MIN)
    outcomes: list[Message | str] = []
    for read in (parsing.parsed(pb.AppendPagesRequest, long), _at_once(pb.AppendPagesRequest, long)):
        try:
            outcomes.append(await read)
        except InvalidField as refusal:
            outcomes.append(str(refusal))
    assert outcomes[0] == outcomes[1]


async def _at_once(kind: type[Message], raw: bytes) -> Message:
    return parse(kind, raw)


def _wrapped(page: bytes) -> bytes:
    """A request with one page of these bytes."""
    length, size = b"", len(page)
    while size >= 0x80:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return REPEATED_PAGE[:1] + length + bytes([size]) + page
