"""Reading a conversation from a file: which format it is, decided by content, and what is wrong with it, and where.

Formats: a JSON array of OpenAI-style messages, an object with such `messages`, JSON Lines of either, LoCoMo samples,
a BEAM chat. Nothing is guessed: what is not understood is refused with its place in the file.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from demo.corpus import beam, locomo, messages
from demo.corpus.place import ROOT, Malformed, Place, as_array, as_object, at_line, shown
from demo.corpus.types import Conversation
from pagekeeper.core.wellformed import read_json

FILE_BYTES_MAX: Final = 100 * 2**20

_EXPECTED: Final = "expected OpenAI-style messages (a JSON array or JSON Lines), LoCoMo samples or a BEAM chat"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_GZIP: Final = b"\x1f\x8b"

Placed = tuple[Place, object]
"""A JSON value and where it stands."""


class UnreadableConversation(Exception):
    """The file holds no conversation that can be replayed; the message says where and why."""


def load_conversations(path: Path, bytes_max: int = FILE_BYTES_MAX) -> tuple[Conversation, ...]:
    """The conversations of a file, at least one.

    Raises UnreadableConversation.
    """
    try:
        return _conversations(_values(_text(path, bytes_max)), path.stem)
    except Malformed as error:
        raise UnreadableConversation(f"{path}: {error}") from error
    except OSError as error:
        raise UnreadableConversation(f"{path}: {error.strerror or error}") from error


def _text(path: Path, bytes_max: int) -> str:
    if path.is_dir():
        raise Malformed(ROOT, "this is a directory; name one file")
    size = path.stat().st_size
    if size > bytes_max:
        raise Malformed(ROOT, f"the file has {size:,} bytes; at most {bytes_max:,} are read")
    data = path.read_bytes()
    if data.startswith(_GZIP):
        raise Malformed(ROOT, "the file is compressed with gzip; unpack it first")
    if data.startswith(_UTF16):
        raise Malformed(ROOT, "the file is UTF-16; save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _not_utf8(error) from error
    if not text.strip():
        raise Malformed(ROOT, f"the file is empty; {_EXPECTED}")
    return text


def _not_utf8(error: UnicodeDecodeError) -> Malformed:
    """The decoder counts from behind a byte order mark, so the place is looked for in what it saw."""
    seen = error.object
    before = seen[: error.start]
    column = error.start - (before.rfind(b"\n") + 1) + 1
    problem = f"byte {column} of the line, 0x{seen[error.start]:02x}, is not UTF-8; save the file as UTF-8"
    return Malformed(at_line(before.count(b"\n") + 1), problem)


def _values(text: str) -> Sequence[Placed]:
    """The file's value; for JSON Lines, the value of each line."""
    try:
        return [(ROOT, _parsed(text, ROOT))]
    except json.JSONDecodeError as whole:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        if len(lines) > 1 and _is_object(lines[0][1]):
            return [(at_line(number), _line_value(number, line)) for number, line in lines]
        raise Malformed(at_line(whole.lineno), _syntax_problem(whole, text)) from whole


def _parsed(text: str, place: Place) -> object:
    """The value, every text in it whole. Raises JSONDecodeError, and Malformed for JSON that no parser could take."""
    try:
        value: object = read_json(text)
    except json.JSONDecodeError:
        raise
    except ValueError as error:
        raise Malformed(place, f"not JSON: {error}") from error
    return value


def _is_object(line: str) -> bool:
    try:
        return isinstance(_parsed(line, ROOT), dict)
    except json.JSONDecodeError:
        return False


def _line_value(number: int, line: str) -> object:
    try:
        return _parsed(line, at_line(number))
    except json.JSONDecodeError as error:
        problem = f"{_syntax_problem(error, line)} (each line must be one complete JSON object)"
        raise Malformed(at_line(number), problem) from error


def _syntax_problem(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string"):
        return f"the JSON ends in the middle, at column {error.colno} ({error.msg}); the file looks truncated"
    found = text[error.pos : error.pos + 20].splitlines()[0]
    return f"not JSON at column {error.colno}: {error.msg}, found {found!r}; {_EXPECTED}"


def _conversations(values: Sequence[Placed], name: str) -> tuple[Conversation, ...]:
    """An array counts as its elements from here on; the first of them tells the format."""
    place, value = values[0]
    if isinstance(value, list):
        values = [(place / index, item) for index, item in enumerate(value)]
        if not values:
            raise Malformed(ROOT, f"the array is empty; {_EXPECTED}")
        place, value = values[0]
    match value:
        case {"role": _}:
            return (messages.read(values, name),)
        case {"messages": _}:
            names = [name] if len(values) == 1 else [f"{name} {number}" for number in range(1, len(values) + 1)]
            return tuple(messages.read(_inner(*placed), own) for placed, own in zip(values, names, strict=True))
        case {"conversation": _}:
            return tuple(locomo.read(item, where) for where, item in values)
        case {"chat": _}:
            return tuple(beam.read(item, where) for where, item in values)
        case _:
            raise Malformed(place, f"{_EXPECTED}, found {shown(value)}")


def _inner(place: Place, value: object) -> Sequence[Placed]:
    """The `messages` of an object that wraps them."""
    wrapped = as_object(value, place, "an object with messages").get("messages")
    inside = place / "messages"
    return [(inside / index, item) for index, item in enumerate(as_array(wrapped, inside, "an array of messages"))]
