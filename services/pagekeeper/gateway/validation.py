"""Validation of public requests, before any other code reads them.

One walk over the message by its descriptor checks what a field's name and type already say: ids, enumerations, finite
numbers, sizes of lists. So a new RPC is checked without a line here. Checks over several fields follow the walk over
single fields.

Raises InvalidField or ContentTooLarge for the first offence, naming the field by its path and what would be right.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from pagekeeper.core.errors import ContentTooLarge, InvalidField
from pagekeeper.core.ids import check_id
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2

PAGE_BYTES_MAX: Final = 4 * 1024 * 1024
APPEND_BYTES_MAX: Final = 4 * 1024 * 1024
TEXT_FIELD_BYTES_MAX: Final = 1024
INPUT_BYTES_MAX: Final = 1024 * 1024
QUERY_BYTES_MAX: Final = 16 * 1024
ARGUMENTS_BYTES_MAX: Final = 256 * 1024
MAP_ENTRIES_MAX: Final = 32
MAP_VALUE_BYTES_MAX: Final = 1024
BUDGET_TOKENS_MAX: Final = 10_000_000
LEVEL_MAX: Final = 3

OPTIONAL_IDS: Final = frozenset(
    {
        ("OpenSessionRequest", "session_id"),
        ("PageInput", "page_id"),
        ("CreateCheckpointRequest", "checkpoint_id"),
        ("ForkSessionRequest", "new_session_id"),
    }
)
"""Ids that are derived from the request's own when empty; `request_id` itself is minted."""

FOREIGN_IDS: Final = frozenset({("ToolCall", "id"), ("PageInput", "tool_call_id")})
"""Ids that others chose: opaque, only bounded."""

COUNT_RANGES: Final[Mapping[tuple[str, str], tuple[int, int]]] = {
    ("AppendPagesRequest", "pages"): (1, 256),
    ("PageInput", "links"): (0, 64),
    ("LinkPagesRequest", "links"): (1, 64),
    ("HandleToolCallsRequest", "calls"): (1, 32),
    ("FaultPagesRequest", "page_ids"): (1, 32),
    ("PinPagesRequest", "page_ids"): (1, 256),
    ("UnpinPagesRequest", "page_ids"): (1, 256),
    ("DropPagesRequest", "page_ids"): (1, 256),
    ("CompressPagesRequest", "page_ids"): (1, 256),
    ("AssemblePromptRequest", "extra_tools_json"): (0, 128),
    ("MediaDescription", "scenes"): (0, 256),
    ("SearchPagesRequest", "page_types"): (0, 16),
}

NUMBER_RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "importance": (0, 1),
    "target_level": (0, LEVEL_MAX),
    "level": (0, LEVEL_MAX),
    "limit": (0, 100),
    "budget_tokens": (0, BUDGET_TOKENS_MAX),
    "reserve_tokens": (0, BUDGET_TOKENS_MAX),
    "duration_seconds": (0, 10_000_000),
}
PAGE_SIZE_MAX: Final = {"ListPagesRequest": 1_000, "GetPageHistoryRequest": 1_000}
PAGE_SIZE_MAX_OTHERWISE: Final = 500

TEXT_BYTES_MAX: Final[Mapping[tuple[str, str], int]] = {
    ("PageInput", "text"): PAGE_BYTES_MAX,
    ("PageInput", "data"): PAGE_BYTES_MAX,
    ("MediaDescription", "caption"): 16 * 1024,
    ("MediaDescription", "transcript"): 64 * 1024,
    ("MediaDescription", "scenes"): 4 * 1024,
    ("AssemblePromptRequest", "user_input"): INPUT_BYTES_MAX,
    ("AssemblePromptRequest", "system_prompt"): INPUT_BYTES_MAX,
    ("AssemblePromptRequest", "extra_tools_json"): 64 * 1024,
    ("SearchPagesRequest", "query"): QUERY_BYTES_MAX,
    ("ToolCall", "arguments_json"): ARGUMENTS_BYTES_MAX,
}

MEDIA_MODALITIES: Final = frozenset({page_pb2.MODALITY_IMAGE, page_pb2.MODALITY_AUDIO, page_pb2.MODALITY_VIDEO})
TRUST_MAX_OF_ROLE: Final[Mapping[int, int]] = {
    page_pb2.MESSAGE_ROLE_TOOL: page_pb2.TRUST_CLASS_TOOL,
    page_pb2.MESSAGE_ROLE_ASSISTANT: page_pb2.TRUST_CLASS_MODEL,
    page_pb2.MESSAGE_ROLE_USER: page_pb2.TRUST_CLASS_USER,
    page_pb2.MESSAGE_ROLE_UNSPECIFIED: page_pb2.TRUST_CLASS_USER,
    page_pb2.MESSAGE_ROLE_SYSTEM: page_pb2.TRUST_CLASS_SYSTEM,
}


USAGE_RATIO_MAX: Final = 4
"""How far a provider's count of a prompt may be off ours: no tokenizer of a language model is further off."""


def check(request: Message) -> None:
    """Raises InvalidField or ContentTooLarge for the first thing that is wrong with a public request."""
    _walk(request, "")
    special = _SPECIAL.get(request.DESCRIPTOR.name)
    if special is not None:
        special(request)


@dataclass(frozen=True, slots=True)
class _Field:
    """The rule of every field of a message, computed once, because reading a descriptor is slow."""

    descriptor: FieldDescriptor
    name: str
    is_map: bool
    counts: tuple[int, int] | None
    """Of a list."""
    has_presence: bool
    may_be_empty: bool
    """Empty, zero and false are valid values everywhere but in required ids and lists."""


@cache
def _fields_of(descriptor: Descriptor) -> tuple[_Field, ...]:
    return tuple(_field(descriptor.name, field) for field in descriptor.fields)


def _field(owner: str, field: FieldDescriptor) -> _Field:
    is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
    counts = COUNT_RANGES.get((owner, field.name), (0, 1_000)) if field.is_repeated else None
    may_be_empty = (
        counts[0] == 0 if counts is not None else not _is_id(owner, field.name) or _may_lack(owner, field.name)
    )
    return _Field(field, field.name, is_map, counts, field.has_presence, may_be_empty)


def _walk(message: Message, path: str) -> None:
    owner = message.DESCRIPTOR.name
    for field in _fields_of(message.DESCRIPTOR):
        value = getattr(message, field.name)
        if not value and field.may_be_empty:
            continue
        where = f"{path}{field.name}"
        if field.is_map:
            _check_map(where, value)
        elif field.counts is not None:
            low, high = field.counts
            if not low <= len(value) <= high:
                raise InvalidField(where, f"must have {low} to {high} entries, not {len(value)}")
            for index, one in enumerate(value):
                _check_value(owner, field.descriptor, f"{where}[{index}]", one)
        elif not field.has_presence or message.HasField(field.name):
            _check_value(owner, field.descriptor, where, value)


def _check_value(owner: str, field: FieldDescriptor, where: str, value: Any) -> None:  # noqa: ANN401 - any field's value
    if field.message_type is not None:
        _walk(value, f"{where}.")
    elif field.enum_type is not None:
        if value not in field.enum_type.values_by_number:
            known = ", ".join(name for name in field.enum_type.values_by_name if not name.endswith("UNSPECIFIED"))
            raise InvalidField(where, f"must be one of {known}, not {value}")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise InvalidField(where, f"must be a finite number, not {value}")
        _check_range(where, field.name, value)
    elif isinstance(value, (str, bytes)):
        _check_text(owner, field.name, where, value)
    elif field.name == "page_size":
        high = PAGE_SIZE_MAX.get(owner, PAGE_SIZE_MAX_OTHERWISE)
        if value > high:
            raise InvalidField(where, f"must be at most {high}, not {value}")
    elif not isinstance(value, bool):
        _check_range(where, field.name, value)


def _check_range(where: str, name: str, value: float) -> None:
    if name in NUMBER_RANGES:
        low, high = NUMBER_RANGES[name]
        if not low <= value <= high:
            raise InvalidField(where, f"must be {low:,} to {high:,}, not {value:,}")


def _check_text(owner: str, name: str, where: str, value: str | bytes) -> None:
    if _is_id(owner, name):
        if value or not _may_lack(owner, name):
            check_id(where, cast(str, value))
        return
    size_bytes = len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else len(value)
    limit_bytes = TEXT_BYTES_MAX.get((owner, name), TEXT_FIELD_BYTES_MAX)
    if size_bytes > limit_bytes:
        raise ContentTooLarge(where, size_bytes, limit_bytes)


def _is_id(owner: str, name: str) -> bool:
    return (name == "id" or name.endswith(("_id", "_ids"))) and (owner, name) not in FOREIGN_IDS


def _may_lack(owner: str, name: str) -> bool:
    """Whether a request may come without this id."""
    return name == "request_id" or (owner, name) in OPTIONAL_IDS


def _check_map(where: str, value: Mapping[str, str]) -> None:
    if len(value) > MAP_ENTRIES_MAX:
        raise InvalidField(where, f"must have at most {MAP_ENTRIES_MAX} entries, not {len(value)}")
    for key, text in value.items():
        if not key or len(key.encode()) > TEXT_FIELD_BYTES_MAX // 4:
            raise InvalidField(where, f"must have keys of 1 to {TEXT_FIELD_BYTES_MAX // 4} bytes")
        if len(text.encode()) > MAP_VALUE_BYTES_MAX:
            raise ContentTooLarge(f"{where}[{key!r}]", len(text.encode()), MAP_VALUE_BYTES_MAX)


def _check_append(request: pb.AppendPagesRequest) -> None:
    total_bytes = 0
    for index, page in enumerate(request.pages):
        where = f"pages[{index}]"
        total_bytes += _check_page_content(where, page)
        if page.trust > TRUST_MAX_OF_ROLE[page.role]:
            raise InvalidField(f"{where}.trust", "must be at most what the role implies")
        if page.new_version and not page.page_id:
            raise InvalidField(f"{where}.page_id", "must name the page that gets a new version")
    if total_bytes > APPEND_BYTES_MAX:
        raise ContentTooLarge("pages", total_bytes, APPEND_BYTES_MAX)


def _check_page_content(where: str, page: page_pb2.PageInput) -> int:
    """Bytes of the content."""
    kind = page.WhichOneof("content")
    if page.modality in MEDIA_MODALITIES:
        if kind == "text":
            raise InvalidField(f"{where}.text", "must be empty for image, audio and video; put the bytes into data")
        described = page.media.caption or page.media.transcript or page.media.scenes
        if not page.data and not described:
            raise InvalidField(f"{where}.data", "must hold the medium's bytes, or media must describe it")
        return len(page.data)
    if kind == "data":
        raise InvalidField(f"{where}.data", "must be empty unless modality is image, audio or video; use text")
    if not page.text:
        raise InvalidField(f"{where}.text", "must not be empty")
    if page.HasField("media"):
        raise InvalidField(f"{where}.media", "must be absent unless modality is image, audio or video")
    if page.modality == page_pb2.MODALITY_STRUCTURED:
        try:
            json.loads(page.text)
        except (ValueError, RecursionError) as problem:
            raise InvalidField(f"{where}.text", f"must be JSON when modality is STRUCTURED: {problem}") from problem
    return len(page.text.encode())


def _check_assemble(request: pb.AssemblePromptRequest) -> None:
    if request.budget_tokens and request.reserve_tokens >= request.budget_tokens:
        raise InvalidField("reserve_tokens", f"must be less than budget_tokens ({request.budget_tokens:,})")
    for index, text in enumerate(request.extra_tools_json):
        where = f"extra_tools_json[{index}]"
        try:
            tool = json.loads(text)
        except (ValueError, RecursionError) as problem:
            raise InvalidField(where, f"must be a JSON object: {problem}") from problem
        if not isinstance(tool, dict):
            raise InvalidField(where, "must be a JSON object")


def _check_usage(request: pb.ReportUsageRequest) -> None:
    counted, given = request.counted_tokens, request.input_tokens
    if not 1 <= counted <= BUDGET_TOKENS_MAX:
        raise InvalidField("counted_tokens", f"must be 1 to {BUDGET_TOKENS_MAX:,}, not {counted:,}")
    if not counted <= given * USAGE_RATIO_MAX <= counted * USAGE_RATIO_MAX**2:
        low, high = -(-counted // USAGE_RATIO_MAX), counted * USAGE_RATIO_MAX
        raise InvalidField("input_tokens", f"must be {low:,} to {high:,} for that prompt, not {given:,}")


def _check_search(request: pb.SearchPagesRequest) -> None:
    if not request.query.strip():
        raise InvalidField("query", "must have at least one word")
    if request.to_turn and request.to_turn < request.from_turn:
        raise InvalidField("to_turn", f"must not be before from_turn ({request.from_turn})")


def _need_one_of(names: Iterable[str]) -> Callable[[Any], None]:
    """For oneofs of which one must be set: an id or a number that is 0 would otherwise mean something by accident."""
    groups = tuple(names)

    def check_oneofs(request: Message) -> None:
        for group in groups:
            if request.WhichOneof(group) is None:
                fields = request.DESCRIPTOR.oneofs_by_name[group].fields
                raise InvalidField(group, f"must be one of {', '.join(field.name for field in fields)}")

    return check_oneofs


def _check_stream_fault(request: pb.StreamFaultRequest) -> None:
    if not request.HasField("fault"):
        raise InvalidField("fault", "must say which page")


def _check_links(request: pb.LinkPagesRequest) -> None:
    _check_link_kinds("links", request.links)


def _check_link_kinds(where: str, links: Iterable[page_pb2.PageLink]) -> None:
    for index, link in enumerate(links):
        if link.kind == page_pb2.LINK_KIND_UNSPECIFIED:
            raise InvalidField(f"{where}[{index}].kind", "must be set")


def _check_append_links(request: pb.AppendPagesRequest) -> None:
    _check_append(request)
    for index, page in enumerate(request.pages):
        _check_link_kinds(f"pages[{index}].links", page.links)


_SPECIAL: Final[Mapping[str, Callable[[Any], None]]] = {
    "AppendPagesRequest": _check_append_links,
    "AssemblePromptRequest": _check_assemble,
    "ReportUsageRequest": _check_usage,
    "SearchPagesRequest": _check_search,
    "LinkPagesRequest": _check_links,
    "StreamFaultRequest": _check_stream_fault,
    "RestoreCheckpointRequest": _need_one_of(["target"]),
    "GetContextAtRequest": _need_one_of(["at"]),
    "DiffContextRequest": _need_one_of(["from", "to"]),
}
