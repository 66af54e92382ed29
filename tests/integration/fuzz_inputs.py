"""Inputs for every RPC of the gateway, made from the descriptors: valid, nearly valid, and no requests at all.

The n-th input of a seed is the same on every machine.
"""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from pagekeeper.runtime.rpc.calls import METADATA_BYTES_MAX
from pagekeeper.runtime.rpc.methods import MESSAGE_BYTES_MAX, Method, methods
from tests.integration.requests import SERVICE, filled
from tests.unit.hostile_text import FRAGMENTS

METHODS: Final = methods(SERVICE)
ENDS_A_SESSION: Final = {"close_session", "delete_session"}
"""Tried less often: what comes after them does not get far."""
PAGES: Final = ("u1", "a1", "t1", "j1", "u2")
CHECKPOINT: Final = "c1"
Metadata = tuple[tuple[str, str | bytes], ...]

NUMBERS: Final = (
    0,
    1,
    2,
    3,
    7,
    100,
    255,
    511,
    4_096,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**53,
    2**63 - 1,
    2**64 - 1,
    -1,
    -(2**31),
)
DOUBLES: Final = (0.0, 1.0, 0.5, -0.1, 1.5, float("nan"), float("inf"), float("-inf"), 5e-324, 1.7e308)
TEXTS: Final[tuple[str, ...]] = (
    "", " ", "hello", "a*b", "..", "../../x", ">", "page_fault", "search_pages", "x" * 65, "x" * 5_000, "0", "s1|2",
    '{"page_id": "u1"}', '{"page_id": "u1", "target_level": 99}', '{"query": "hello", "limit": 1e999}', "[" * 2_000,
    '{"a": NaN}', '"\\ud800"', "gpt-4o", "claude-3-5-sonnet", "ListPages", "eyJ", *FRAGMENTS,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Input:
    """One call: the bytes of its message, its metadata, and how long its caller waits."""

    kind: str
    method: Method
    raw: bytes
    metadata: Metadata
    timeout_seconds: float


class Inputs:
    """The inputs of a seed. `token` is the authorization of the tenant whose session is named to `make`."""

    def __init__(self, seed: int, token: str, bad_tokens: Sequence[str]) -> None:
        self._seed = seed
        self._token = token
        self._bad_tokens = bad_tokens

    def make(self, number: int, session_id: str) -> Input:
        dice = Random(f"{self._seed}/{number}")
        method = METHODS[dice.randrange(len(METHODS))]
        if method.attribute in ENDS_A_SESSION and dice.random() < 0.9:
            method = METHODS[dice.randrange(len(METHODS))]
        kind, make = dice.choices(_KINDS, weights=_WEIGHTS)[0]
        raw = make(dice, method, session_id)
        metadata: Metadata = (("authorization", self._token),)
        timeout_seconds = PATIENCE_SECONDS
        if dice.random() < 0.08:
            kind, metadata = "metadata", self._hostile_metadata(dice)
        elif dice.random() < 0.02:
            kind, timeout_seconds = "deadline", dice.choice((0.0005, 0.002, 0.01))
        return Input(kind, method, raw, metadata, timeout_seconds)

    def _hostile_metadata(self, dice: Random) -> Metadata:
        authorization: Metadata = (("authorization", dice.choice((self._token, *self._bad_tokens, ""))),)
        more: Metadata = dice.choice(
            (
                (),
                authorization,
                (("x-request-id", dice.choice(('","tenant":"evil', "x" * 300, "", "ok"))),),
                (("x-data-bin", dice.randbytes(dice.choice((0, 1, 500)))),),
                (("x-padding", "x" * dice.choice((METADATA_BYTES_MAX // 2, METADATA_BYTES_MAX, 40_000))),),
                (("grpc-previous-rpc-attempts", "99"),),
            )
        )
        return more if dice.random() < 0.2 else (*authorization, *more)


PATIENCE_SECONDS: Final = 30.0


def bad_tokens(good: str) -> list[str]:
    """Tokens that are no tokens of ours: cut, changed, unsigned, nested without end."""
    token = good.removeprefix("Bearer ")
    head, body, signature = token.split(".")

    def part(value: str) -> str:
        return urlsafe_b64encode(value.encode()).decode().rstrip("=")

    unsigned = part(json.dumps({"alg": "none", "typ": "JWT"}))
    return [
        "Bearer",
        "Bearer ",
        "Basic YWxpY2U6",
        f"Bearer {token[:-2]}",
        f"Bearer {head}.{body}.{signature[::-1]}",
        f"Bearer {unsigned}.{body}.",
        f"Bearer {part('[' * 5_000)}.{body}.{signature}",
        f"Bearer {part('[' * 2_000 + ']' * 2_000)}.{body}.{signature}",
        f"Bearer {part(json.dumps({'alg': 'HS256', 'kid': ['x'], 'crit': {}}))}.{body}.{signature}",
        f"Bearer {part('1e999')}.{part('NaN')}.{signature}",
        f"Bearer {part('{' + chr(34) + 'alg' + chr(34) + ':' + '9' * 5_000 + '}')}.{body}.{signature}",
        "Bearer " + "a" * 9_000,
        "Bearer ...",
    ]


# Messages


def _value(dice: Random, field: FieldDescriptor, session_id: str, depth: int) -> Any:  # noqa: ANN401 - of the field's type
    if field.message_type is not None:
        return _any_message(dice, GetMessageClass(field.message_type), session_id, depth + 1)
    if field.enum_type is not None:
        known = [*field.enum_type.values_by_number]
        return dice.choice((*known, max(known) + 1, -1, 2**31 - 1))
    if field.type == FieldDescriptor.TYPE_BOOL:
        return dice.random() < 0.5
    if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return dice.choice(DOUBLES)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return dice.randbytes(dice.choice((0, 1, 40, 3_000)))
    if field.type == FieldDescriptor.TYPE_STRING:
        return _text(dice, field.name, session_id)
    return dice.choice(NUMBERS)


def _text(dice: Random, name: str, session_id: str) -> str:
    ids = {"session_id": (session_id,), "page_id": PAGES, "page_ids": PAGES, "target_page_id": PAGES}
    if name in ids and dice.random() < 0.8:
        return str(dice.choice(ids[name]))
    if name == "checkpoint_id" and dice.random() < 0.5:
        return CHECKPOINT
    return dice.choice(TEXTS)


def _any_message(dice: Random, kind: type[Message], session_id: str, depth: int = 0) -> Any:  # noqa: ANN401 - of any class
    message: Any = kind()
    fields: Sequence[Any] = kind.DESCRIPTOR.fields
    for field in fields:
        if dice.random() < (0.35 if depth else 0.55):
            _put(dice, message, field, session_id, depth)
    return message


def _put(dice: Random, message: Any, field: FieldDescriptor, session_id: str, depth: int) -> None:  # noqa: ANN401
    """Set a field to anything that its type can hold."""
    try:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            for _ in range(dice.choice((1, 2, 65))):
                getattr(message, field.name)[dice.choice(TEXTS)[:300] + str(dice.randrange(99))] = dice.choice(TEXTS)
        elif field.is_repeated:
            entries = [_value(dice, field, session_id, depth) for _ in range(dice.choice((0, 1, 1, 2, 5)))]
            getattr(message, field.name).extend(entries)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(_value(dice, field, session_id, depth))
        else:
            setattr(message, field.name, _value(dice, field, session_id, depth))
    except (ValueError, TypeError):
        return  # a number that this field's type does not hold, or half a character: no caller could send it


def _valid(dice: Random, method: Method, session_id: str) -> bytes:
    message: Any = filled(method.request, session_id, dice.choice(PAGES), CHECKPOINT)
    if "new_session_id" in message.DESCRIPTOR.fields_by_name:
        message.new_session_id = f"fork{dice.getrandbits(40)}"
    if method.attribute == "open_session":
        message.session_id = f"open{dice.getrandbits(40)}"
    raw: bytes = message.SerializeToString()
    return raw


def _nearly_valid(dice: Random, method: Method, session_id: str) -> bytes:
    message: Any = method.request.FromString(_valid(dice, method, session_id))
    fields: Sequence[Any] = message.DESCRIPTOR.fields
    for _ in range(dice.choice((1, 1, 2, 3))):
        inner, choices = message, fields
        field = choices[dice.randrange(len(choices))]
        if field.name == "pages" and message.pages and dice.random() < 0.8:
            inner = message.pages[0]
            field = inner.DESCRIPTOR.fields[dice.randrange(len(inner.DESCRIPTOR.fields))]
        inner.ClearField(field.name)
        _put(dice, inner, field, session_id, 0)
    raw: bytes = message.SerializeToString()
    return raw


def _anything(dice: Random, method: Method, session_id: str) -> bytes:
    raw: bytes = _any_message(dice, method.request, session_id).SerializeToString()
    return raw


# Bytes


def _random_bytes(dice: Random, _: Method, __: str) -> bytes:
    return dice.randbytes(dice.choice((1, 2, 5, 20, 200, 5_000)))


def _damaged(dice: Random, method: Method, session_id: str) -> bytes:
    """Bytes of a request, cut, changed, doubled, or with others in their midst."""
    raw = bytearray(dice.choice((_valid, _nearly_valid))(dice, method, session_id))
    place = dice.randrange(len(raw) + 1)
    match dice.randrange(6):
        case 0:
            del raw[place:]
        case 1 if raw:
            raw[place - 1] ^= 1 << dice.randrange(8)
        case 2:
            raw[place:place] = dice.randbytes(dice.choice((1, 4, 30)))
        case 3:
            raw += _anything(dice, method, session_id)
        case 4:
            raw[place : place + 8] = b""
        case _:
            raw[place:place] = bytes([dice.randrange(256)]) * dice.choice((1, 12))
    return bytes(raw)


def _broken_text(dice: Random, method: Method, session_id: str) -> bytes:
    """A request with bytes that are not UTF-8, such as half of a character, in one of its texts."""
    raw = bytearray(_nearly_valid(dice, method, session_id))
    broken = dice.choice((b"\xff", b"\xed\xa0\x80", b"\xc0\x80", b"\xf4\x90\x80\x80", b"\x80"))
    for place in dice.sample(range(len(raw) or 1), min(3, len(raw) or 1)):
        raw[place : place + len(broken)] = broken
    return bytes(raw)


def _foreign_fields(dice: Random, method: Method, session_id: str) -> bytes:
    """A request with fields that its class does not have, of all wire types, or its own in other ones."""
    raw = _valid(dice, method, session_id)
    number = dice.choice((1, 2, 3, 19, 100, 2**29 - 1))
    extra = (
        _tag(number, 0) + b"\xff" * 9 + b"\x01",
        _tag(number, 1) + bytes(8),
        _tag(number, 2) + b"\x00",
        _tag(number, 3) + _tag(number, 4),
        _tag(number, 3) * dice.choice((1, 90, 5_000)),
        _tag(number, 5) + b"\x00\x00\xc0\x7f",
        _tag(number, 2) + b"\xff\xff\xff\xff\x0f",
    )
    return raw + dice.choice(extra)


def _many_entries(dice: Random, method: Method, session_id: str) -> bytes:
    """A list without end, of empty entries."""
    repeated = [field.number for field in method.request.DESCRIPTOR.fields if field.is_repeated]
    number = dice.choice((*repeated, 1, 4))
    return _valid(dice, method, session_id) + (_tag(number, 2) + b"\x00") * dice.choice((300, 5_000, 60_000))


def _large(dice: Random, method: Method, session_id: str) -> bytes:
    """About as many bytes as a message may have, or more."""
    size_bytes = dice.choice((1 << 20, 5 << 20, MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX + 1, MESSAGE_BYTES_MAX * 2))
    number = dice.choice((2, 3, 4, 5))
    return _valid(dice, method, session_id) + _tag(number, 2) + _varint(size_bytes) + bytes(size_bytes)


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def _varint(value: int) -> bytes:
    raw = bytearray()
    while value > 0x7F:
        raw.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*raw, value])


Make = Callable[[Random, Method, str], bytes]
_SHARES: Final[tuple[tuple[str, Make, float], ...]] = (
    ("valid", _valid, 10),
    ("nearly valid", _nearly_valid, 35),
    ("any fields", _anything, 20),
    ("random bytes", _random_bytes, 5),
    ("damaged bytes", _damaged, 12),
    ("broken text", _broken_text, 8),
    ("foreign fields", _foreign_fields, 6),
    ("many entries", _many_entries, 3.7),
    ("large", _large, 0.3),
)
_KINDS: Final = [(kind, make) for kind, make, _ in _SHARES]
_WEIGHTS: Final = [share for _, _, share in _SHARES]
