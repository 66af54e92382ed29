"""Requests made of the bytes that callers send: read once the call is let in, and refused by the field that is wrong.

gRPC knows no deserializer of ours. gRPC answers bytes that its deserializer cannot parse with UNKNOWN and the parser's
words, and writes a traceback to the logs, before anything of ours has run.
"""

import asyncio
import zlib
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import DecodeError, Message

from pagekeeper.core.errors import ContentTooLarge, InvalidField
from pagekeeper.runtime.rpc.methods import MESSAGE_BYTES_MAX

FIELDS_READ_MAX: Final = 10_000
"""Fields of bad bytes that are looked at for the name of the wrong one: about 5 ms."""
DEPTH_MAX: Final = 32
FIELDS_MAX: Final = 160_000
"""Fields of a request: 256 pages with all the links, labels and scenes that the limits allow have 144,000."""
LONG_BYTES_MIN: Final = 64 * 1024
"""A shorter message has at most 32,768 fields, which take 6 MB and 5 ms."""

_VARINT, _EIGHT_BYTES, _DELIMITED, _FOUR_BYTES = 0, 1, 2, 5
_FIXED_BYTES: Final = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_VARINT_BYTES_MAX: Final = 10
_GZIP: Final = b"\x1f\x8b"
"""How gzip begins. No message does: its first byte would be a field of wire type 7, which there is not."""
_GZIP_HEADER: Final = 16

M = TypeVar("M", bound=Message)


async def read_request(context: "grpc.aio.ServicerContext[Any, Any]", kind: type[M]) -> M:
    """Receive and parse the one request of a call whose messages are bytes. Raises InvalidField, ContentTooLarge."""
    return await parsed(kind, await received(context, kind))


async def received(context: "grpc.aio.ServicerContext[Any, Any]", kind: type[Message]) -> bytes:
    """Receive the one request of a call whose messages are bytes, compressed or not. Raises InvalidField."""
    raw: Any = await context.read()
    if raw is grpc.aio.EOF:
        raise InvalidField("request", f"must be one {kind.DESCRIPTOR.full_name}; the call ended without a message")
    # A thread unpacks beside the loop: zlib does not hold the interpreter's lock.
    return await asyncio.to_thread(_unpacked, raw) if raw.startswith(_GZIP) else raw


async def parsed(kind: type[M], raw: bytes) -> M:
    """As `parse`, once a long message was found to have no more bytes and fields than a request may have.

    The bytes are counted first: the fields of a message that is too large are not looked at. 9 MiB of empty pages,
    which gzip packs into 9 KiB, would take 0.8 s and 930 MiB to parse. Raises InvalidField, ContentTooLarge.
    """
    _check_size(raw)
    if len(raw) > LONG_BYTES_MIN:
        descriptor: Any = kind.DESCRIPTOR  # which has two classes for the type checker
        await asyncio.to_thread(_check_fields, descriptor, raw)
    return parse(kind, raw)


def parse(kind: type[M], raw: bytes) -> M:
    """The message of class `kind` that `raw` holds. Raises InvalidField, ContentTooLarge."""
    _check_size(raw)
    try:
        return kind.FromString(raw)
    except DecodeError:
        descriptor: Any = kind.DESCRIPTOR  # which has two classes for the type checker
        try:
            field = _Reader().broken_text(descriptor, memoryview(raw), "", 0)
        except _NoMessage:
            field = None
        if field is not None:
            raise InvalidField(field, "must be text in UTF-8; other bytes were sent") from None
        raise InvalidField("request", f"must be the bytes of a {descriptor.full_name}; they cannot be parsed") from None


def _unpacked(raw: bytes) -> bytes:
    """The bytes that a caller compressed with gzip, as far as one more than a message may have."""
    unpacking = zlib.decompressobj(wbits=zlib.MAX_WBITS | _GZIP_HEADER)
    try:
        return unpacking.decompress(raw, MESSAGE_BYTES_MAX + 1)
    except zlib.error:
        raise InvalidField("request", "must be a message, compressed with gzip or not; it cannot be unpacked") from None


def _check_size(raw: bytes) -> None:
    """Raises ContentTooLarge."""
    if len(raw) > MESSAGE_BYTES_MAX:
        raise ContentTooLarge("request", len(raw), MESSAGE_BYTES_MAX)


def _check_fields(descriptor: Descriptor, raw: bytes) -> None:
    """Raises InvalidField for more than FIELDS_MAX fields, those of messages in messages included."""
    try:
        _fields(descriptor, memoryview(raw), FIELDS_MAX, 0)
    except _NoMessage:
        return  # `parse` says what is wrong


def _fields(descriptor: Descriptor, raw: memoryview, left: int, depth: int) -> int:
    """How many of the `left` fields are left after those of a message. Raises InvalidField, _NoMessage."""
    known = descriptor.fields_by_number
    position, size = 0, len(raw)
    while position < size:
        left -= 1
        if left < 0:
            raise InvalidField("request", f"must have at most {FIELDS_MAX:,} fields, entries of lists included")
        tag, position = _varint(raw, position)
        if tag & 7 != _DELIMITED:
            position = _after_number(raw, position, tag & 7)
            continue
        length, position = _varint(raw, position)
        field = known.get(tag >> 3)
        if field is not None and field.message_type is not None and depth < DEPTH_MAX:
            left = _fields(field.message_type, raw[position : position + length], left, depth + 1)
        position += length
    return left


class _NoMessage(Exception):
    """The bytes end in the midst of a field, or their fields are too many to look at all."""


class _Reader:
    """A walk over the fields on the wire, as far as the first text that is not UTF-8."""

    def __init__(self) -> None:
        self._left = FIELDS_READ_MAX

    def broken_text(self, descriptor: Descriptor, raw: memoryview, path: str, depth: int) -> str | None:
        """The path of the first broken text. Raises _NoMessage."""
        fields = descriptor.fields_by_number
        seen: dict[int, int] = {}
        position = 0
        while position < len(raw):
            self._left -= 1
            if self._left < 0 or depth > DEPTH_MAX:
                raise _NoMessage
            tag, position = _varint(raw, position)
            number, wire_type = tag >> 3, tag & 7
            if wire_type != _DELIMITED:
                position = _after_number(raw, position, wire_type)
                continue
            length, position = _varint(raw, position)
            value, position = raw[position : position + length], position + length
            if position > len(raw):
                raise _NoMessage
            field = fields.get(number)
            if field is None:
                continue
            index = seen.get(number, 0)
            seen[number] = index + 1
            found = self._of_field(field, value, f"{path}{_name(field, index)}", depth)
            if found is not None:
                return found
        return None

    def _of_field(self, field: FieldDescriptor, value: memoryview, path: str, depth: int) -> str | None:
        if field.message_type is not None:
            inner = path if field.message_type.GetOptions().map_entry else f"{path}."
            found = self.broken_text(field.message_type, value, inner, depth + 1)
            return path if found is not None and inner == path else found
        if field.type != FieldDescriptor.TYPE_STRING:
            return None
        try:
            str(value, "utf-8")
        except UnicodeDecodeError:
            return path
        return None


def _name(field: FieldDescriptor, index: int) -> str:
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    return f"{field.name}[{index}]" if field.is_repeated and not is_map else field.name


def _after_number(raw: memoryview, position: int, wire_type: int) -> int:
    if wire_type == _VARINT:
        return _varint(raw, position)[1]
    if wire_type not in _FIXED_BYTES:
        raise _NoMessage
    return position + _FIXED_BYTES[wire_type]


def _varint(raw: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for count, byte in enumerate(raw[position : position + _VARINT_BYTES_MAX]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, position + count + 1
    raise _NoMessage
