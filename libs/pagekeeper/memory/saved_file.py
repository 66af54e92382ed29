r"""A whole memory as one file: its transactions and contents, and nothing that can be derived from them.

    b"pagekeeper memory 1\\n", the SHA-256 of what follows, JSON compressed by zlib

A file is written beside its place and then moved into it, so whoever reads it finds the old one or the new one whole.
Reading refuses what is not such a file, what a newer release wrote, and what is damaged: nothing of it is used.

Events are written as JSON arrays of their fields in order, under the name of their class. The classes themselves say
how to read them, so a field that the core adds at the end of a class with a default needs nothing here.
"""

import json
import os
import zlib
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from functools import cache
from hashlib import sha256
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

from pagekeeper.core import events as ev
from pagekeeper.core.errors import ReleaseTooOld
from pagekeeper.memory.session_log import SessionLog

__all__ = ["SavedMemoryUnreadable"]

MAGIC: Final = b"pagekeeper memory "
VERSION: Final = 1
DIGEST_BYTES: Final = 32
_EVENTS: Final = {kind.__name__: kind for kind in get_args(ev.Event)}


class SavedMemoryUnreadable(Exception):
    """A file is no saved memory, was written by a newer release, or is damaged; the message says which."""


class _Newer(Exception):
    """A value names an event, a field or a member of an enumeration that this release does not have."""


@dataclass(frozen=True, slots=True)
class SavedMemory:
    """`beside` is what a program keeps beside its session: JSON values by name. `source` is for messages."""

    session_id: str
    transactions: Sequence[ev.Transaction]
    contents: Mapping[bytes, bytes]
    beside: Mapping[str, Any]
    source: str = field(default="it", compare=False)

    def folded(self, session_id: str, now_ms: Callable[[], int]) -> SessionLog:
        """The session that was saved, under an id. Raises SavedMemoryUnreadable for fold rules of a newer release."""
        try:
            return SessionLog.folded(session_id, now_ms, self.transactions, self.contents)
        except ReleaseTooOld as newer:
            raise SavedMemoryUnreadable(f"{self.source} was saved by a newer release: {newer.message}") from newer


def to_bytes(memory: SavedMemory) -> bytes:
    value = {
        "session_id": memory.session_id,
        "transactions": [_encode(transaction) for transaction in memory.transactions],
        "contents": [b64encode(content).decode() for content in memory.contents.values()],
        "beside": dict(memory.beside),
    }
    packed = zlib.compress(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode())
    return MAGIC + f"{VERSION}\n".encode() + sha256(packed).digest() + packed


def from_bytes(data: bytes, name: str = "it") -> SavedMemory:
    """Return the memory that `to_bytes` was given; `name` is for messages. Raises SavedMemoryUnreadable."""
    head, line_break, _ = data[: len(MAGIC) + 8].partition(b"\n")
    if not data.startswith(MAGIC) or not line_break:
        raise SavedMemoryUnreadable(f"{name} is no saved memory: it does not begin with {MAGIC.decode().strip()!r}")
    version = head[len(MAGIC) :].decode("ascii", "replace")
    if not version.isdigit():
        raise SavedMemoryUnreadable(f"{name} is damaged: its format is no number, but {version!r}")
    if version != str(VERSION):
        raise SavedMemoryUnreadable(
            f"{name} was saved by another release, in format {version}; this one reads {VERSION}"
        )
    start = len(head) + 1 + DIGEST_BYTES
    digest, packed = data[start - DIGEST_BYTES : start], data[start:]
    if sha256(packed).digest() != digest:
        raise SavedMemoryUnreadable(f"{name} is damaged: its digest is not that of its content")
    value = json.loads(zlib.decompress(packed))
    contents = [b64decode(content) for content in value["contents"]]
    try:
        transactions = [_decode(ev.Transaction, transaction) for transaction in value["transactions"]]
    except _Newer as newer:
        raise SavedMemoryUnreadable(f"{name} was saved by a newer release: this one does not know {newer}") from newer
    return SavedMemory(
        value["session_id"],
        transactions,
        {sha256(content).digest(): content for content in contents},
        value["beside"],
        name,
    )


def write(path: Path, memory: SavedMemory) -> None:
    """Raises OSError; then what was at `path` is there as it was."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.saving")
    try:
        with beside.open("wb") as file:
            file.write(to_bytes(memory))
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path) -> SavedMemory:
    """Raises OSError, SavedMemoryUnreadable."""
    return from_bytes(path.read_bytes(), str(path))


# Values of the core, as JSON


def _encode(value: Any) -> Any:  # noqa: ANN401 - any value of the core
    match value:
        case Enum():
            return value.value
        case bytes():
            return b64encode(value).decode()
        case tuple():
            return [_encode(one) for one in value]
        case _ if is_dataclass(value):
            encoded = [_encode(getattr(value, one.name)) for one in fields(value)]
            return {type(value).__name__: encoded} if type(value).__name__ in _EVENTS else encoded
        case _:
            return value


def _decode(hint: Any, value: Any) -> Any:  # noqa: ANN401 - as above
    if value is None:
        return None
    if get_origin(hint) in (UnionType, Union):
        options = [option for option in get_args(hint) if option is not NoneType]
        if len(options) == 1:
            return _decode(options[0], value)
        [(name, encoded)] = value.items()
        if name not in _EVENTS:
            raise _Newer(f"the event {name}")
        return _decode(_EVENTS[name], encoded)
    if get_origin(hint) is tuple:
        return tuple(_decode(get_args(hint)[0], one) for one in value)
    if isinstance(hint, type) and (is_dataclass(hint) or issubclass(hint, tuple)):
        if len(value) > len(_hints(hint)):
            raise _Newer(f"{len(value)} fields of {hint.__name__}")
        decoded = [_decode(one, given) for one, given in zip(_hints(hint), value, strict=False)]
        return hint(*decoded)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _member(hint, value)
    return b64decode(value) if hint is bytes else value


def _member(kind: type[Enum], value: object) -> Enum:
    try:
        return kind(value)
    except ValueError as unknown:
        raise _Newer(f"{value!r} of {kind.__name__}") from unknown


@cache
def _hints(kind: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a named tuple or a dataclass
    hints = get_type_hints(kind)
    names = getattr(kind, "_fields", None) or [one.name for one in fields(kind)]
    return tuple(hints[name] for name in names)
