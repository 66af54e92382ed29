"""Limits of requests: the options of `limits.proto`, read once from each descriptor of a message.

`check` walks a whole request; `limits_of` is for callers that need one limit, such as how many pages fit into a call. A
new field is checked without a line here, and no limit stands in the code a second time.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from pagekeeper.core.errors import ContentTooLarge, InvalidField
from pagekeeper.core.ids import check_id
from pagekeeper.v1 import limits_pb2

Check = Callable[[Any, str], None]
"""Takes a field's value and the path of its message, such as `pages[2].`. Raises InvalidField, ContentTooLarge."""

UTF8_BYTES_PER_CHAR_MAX: Final = 4


def limits_of(message: type[Message] | Message, field: str) -> limits_pb2.FieldLimits:
    """The limits of one field. Raises KeyError when the message has no such field."""
    return _limits(message.DESCRIPTOR, field)


def number_asked(request: Message, field: str) -> int:
    """A number of a request: its default for 0, and at most its largest value. Of a list's `page_size`, say."""
    limits = limits_of(request, field)
    return min(getattr(request, field) or int(limits.default), int(limits.max))


def check(message: Message, path: str = "") -> None:
    """Raises InvalidField or ContentTooLarge for the first field that breaks a limit; `path` leads to the message."""
    plan = _plan_of(message.DESCRIPTOR)
    for field in plan.required:
        field.check(message, path)
    for oneof, names in plan.oneofs:
        if message.WhichOneof(oneof) is None:
            raise InvalidField(f"{path}{oneof}", f"must be one of {names}")
    checks = plan.checks
    for descriptor, value in message.ListFields():
        check_value = checks.get(descriptor.number)
        if check_value is not None:
            check_value(value, path)


@dataclass(frozen=True, slots=True)
class _Required:
    """A field that may not be empty, 0, unspecified or absent."""

    name: str
    has_presence: bool
    problem: str

    def check(self, message: Message, path: str) -> None:
        given = message.HasField(self.name) if self.has_presence else getattr(message, self.name)
        if not given:
            raise InvalidField(f"{path}{self.name}", self.problem)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The checks of one class of messages, computed once, because reading a descriptor is slow."""

    required: tuple[_Required, ...]
    oneofs: tuple[tuple[str, str], ...]
    """Of which one member must be set, with the members' names."""
    checks: Mapping[int, Check]
    """By the field's number; fields of which nothing is asked are left out."""


@cache
def _limits(descriptor: Descriptor, field: str) -> limits_pb2.FieldLimits:
    return descriptor.fields_by_name[field].GetOptions().Extensions[limits_pb2.limits]


@cache
def _plan_of(descriptor: Descriptor) -> _Plan:
    fields = [(field, _limits(descriptor, field.name)) for field in descriptor.fields]
    required = [(field, limits) for field, limits in fields if limits.required or limits.min_items]
    checks = {field.number: _check_of(field, limits) for field, limits in fields}
    return _Plan(
        tuple(
            _Required(field.name, _is_message(field), _problem_of_nothing(field, limits))
            for field, limits in required
            if field.containing_oneof is None
        ),
        tuple(
            (oneof.name, ", ".join(field.name for field in oneof.fields))
            for oneof in descriptor.oneofs
            if oneof.GetOptions().Extensions[limits_pb2.one_required]
        ),
        {number: check_value for number, check_value in checks.items() if check_value is not None},
    )


def _is_message(field: FieldDescriptor) -> bool:
    return field.message_type is not None and not field.is_repeated


def _problem_of_nothing(field: FieldDescriptor, limits: limits_pb2.FieldLimits) -> str:
    if limits.min_items:
        return f"must have {limits.min_items:,} to {limits.max_items:,} entries, not 0"
    if limits.id:
        return _problem_of_id("")
    if field.enum_type is not None or field.message_type is not None:
        return "must be set"
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return "must not be empty"
    return f"must be {limits.min:,.0f} to {limits.max:,.0f}, not 0" if limits.HasField("max") else "must not be 0"


def _problem_of_id(value: str) -> str:
    try:
        check_id("", value)
    except InvalidField as refusal:
        return refusal.problem
    raise ValueError(f"{value!r} is an id")


def _check_of(field: FieldDescriptor, limits: limits_pb2.FieldLimits) -> Check | None:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map_check(field.name, limits)
    check_one = _check_of_one(field, limits)
    return _list_check(field.name, limits, check_one) if field.is_repeated else _named(field.name, check_one)


def _check_of_one(field: FieldDescriptor, limits: limits_pb2.FieldLimits) -> Check | None:
    """The check of a value, or of each entry of a list; takes the path of the value itself."""
    if field.message_type is not None:
        return _message_check
    if field.enum_type is not None:
        return _enum_check(field)
    if limits.id:
        return _id_check
    if field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
        return _size_check(limits.max_bytes) if limits.max_bytes else None
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT) or limits.min or limits.HasField("max"):
        return _range_check(limits)
    return None


def _named(name: str, check_one: Check | None) -> Check | None:
    if check_one is None:
        return None

    def check_field(value: Any, path: str) -> None:  # noqa: ANN401 - any field's value
        check_one(value, f"{path}{name}")

    return check_field


def _list_check(name: str, limits: limits_pb2.FieldLimits, check_one: Check | None) -> Check | None:
    least, most, bytes_max = limits.min_items, limits.max_items, limits.max_total_bytes

    def check_list(values: Sequence[Any], path: str) -> None:
        if most and not least <= len(values) <= most:
            raise InvalidField(f"{path}{name}", f"must have {least:,} to {most:,} entries, not {len(values):,}")
        if check_one is not None:
            for index, value in enumerate(values):
                check_one(value, f"{path}{name}[{index}]")
        if bytes_max and isinstance(values[0], bytes | str) and sum(map(bytes_of, values)) > bytes_max:
            raise ContentTooLarge(f"{path}{name}", sum(map(bytes_of, values)), bytes_max)

    return check_list


def _map_check(name: str, limits: limits_pb2.FieldLimits) -> Check | None:
    def check_map(entries: Mapping[str, str], path: str) -> None:
        if len(entries) > limits.max_items:
            raise InvalidField(f"{path}{name}", f"must have at most {limits.max_items:,} entries, not {len(entries):,}")
        for key, value in entries.items():
            if not key or len(key.encode()) > limits.max_key_bytes:
                raise InvalidField(f"{path}{name}", f"must have keys of 1 to {limits.max_key_bytes:,} bytes")
            size_bytes = len(value.encode())
            if size_bytes > limits.max_bytes:
                raise ContentTooLarge(f"{path}{name}[{key!r}]", size_bytes, limits.max_bytes)

    return check_map if limits.max_items else None


def _message_check(value: Message, path: str) -> None:
    check(value, f"{path}.")


def _id_check(value: str, path: str) -> None:
    check_id(path, value)


def _enum_check(field: FieldDescriptor) -> Check:
    assert field.enum_type is not None
    known = frozenset(field.enum_type.values_by_number)
    names = ", ".join(name for name in field.enum_type.values_by_name if not name.endswith("UNSPECIFIED"))

    def check_enum(value: int, path: str) -> None:
        if value not in known:
            raise InvalidField(path, f"must be one of {names}, not {value}")

    return check_enum


def _size_check(bytes_max: int) -> Check:
    chars_max = bytes_max // UTF8_BYTES_PER_CHAR_MAX

    def check_size(value: str | bytes, path: str) -> None:
        if len(value) > chars_max and (size_bytes := bytes_of(value)) > bytes_max:
            raise ContentTooLarge(path, size_bytes, bytes_max)

    return check_size


def bytes_of(value: str | bytes) -> int:
    """The size of bytes, or of a text in UTF-8. A text without other characters than ASCII's is not encoded for it."""
    return len(value) if isinstance(value, bytes) or value.isascii() else len(value.encode("utf-8", "surrogatepass"))


def _range_check(limits: limits_pb2.FieldLimits) -> Check:
    low, high = limits.min, limits.max if limits.HasField("max") else math.inf

    def check_range(value: float, path: str) -> None:
        if low <= value <= high:
            return
        if not math.isfinite(value):
            raise InvalidField(path, f"must be a finite number, not {value}")
        bounds = f"{low:,g} to {high:,.10g}" if math.isfinite(high) else f"at least {low:,g}"
        raise InvalidField(path, f"must be {bounds}, not {value:,}")

    return check_range
