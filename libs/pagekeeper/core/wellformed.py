r"""Text and JSON as they are kept: the one rule for what comes from outside, at every entrance.

- Half of a character (a lone surrogate: a cut emoji, bytes read with `surrogateescape`) becomes U+FFFD, which says that
  something was there. The two halves of one character become that character.
- JSON is what RFC 8259 says. NaN, Infinity, and a number that is larger than any double (`1e999`) are refused in JSON
  text, with the number's spelling in the problem. In a Python value that is about to be written as JSON, they become
  the texts "NaN", "Infinity" and "-Infinity".

Invariant: what these functions return can be encoded in UTF-8 and written as JSON that every parser reads.
"""

import json
import math
import re
from collections.abc import Callable
from functools import partial
from operator import is_
from typing import Any, Final, NoReturn

from pagekeeper.core.errors import InvalidField

_HALF: Final = re.compile("[\ud800-\udfff]")
_HALF_ESCAPED: Final = re.compile(r"\\u[dD][89a-fA-F]")
_MAY_BE_INFINITE: Final = re.compile(r"[eE]\+?0*[1-9][0-9]{2}|[0-9]{300}")
"""A double ends at 1.8e308: a smaller number has neither an exponent of three digits nor 300 digits."""
_NUMBER_SHOWN_CHARS: Final = 24
_COLLECTIONS: Final = frozenset({dict, list, tuple, set, frozenset})


def whole_text(text: str) -> str:
    """`text` as it can be encoded in UTF-8: two halves of a character are joined, a lone half becomes U+FFFD."""
    if text.isascii() or _HALF.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def whole(value: Any) -> Any:  # noqa: ANN401 - a JSON value, and what else a caller may hand over
    """`value` with every text in it as `whole_text` gives it; the very same object when nothing was broken."""
    if isinstance(value, str):
        return whole_text(value)
    if type(value) not in _COLLECTIONS or not value:
        return value
    try:
        if json.dumps(value, ensure_ascii=False).encode():  # a tenth of the time that looking at each text takes
            return value
    except (TypeError, ValueError, RecursionError):
        pass  # half a character somewhere, or no JSON value: a look at each text tells
    if isinstance(value, dict):
        pairs = [(whole(key), whole(inner)) for key, inner in value.items()]
        same = all(new[0] is key and new[1] is value[key] for new, key in zip(pairs, value, strict=True))
        return value if same else dict(pairs)
    members = list(value)
    mended = [whole(inner) for inner in members]
    return value if all(map(is_, mended, members)) else type(value)(mended)


def read_json(text: str, spelled: Callable[[str], Any] | None = None) -> Any:  # noqa: ANN401 - JSON is any value
    """The value of JSON text; every text in it is whole. `spelled`, if given, makes a number of its spelling.

    Raises ValueError, of whose message a caller can see what would be right: json.JSONDecodeError, with the place,
    where the text is no JSON at all.
    """
    number = spelled if _MAY_BE_INFINITE.search(text) is None else partial(_finite, spelled)
    try:
        value = json.loads(text, parse_int=number, parse_float=number, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    is_broken = _HALF_ESCAPED.search(text) is not None or not text.isascii()
    return whole(value) if is_broken else value


def write_json(value: object, field: str) -> str:
    """`value` as JSON text. What JSON has no form for is written as the text that `str` makes of it.

    Raises InvalidField, which names `field`, for a value that holds itself, is nested too deeply, or has keys that
    are no scalars.
    """
    try:
        text = _dumps(value)
        if "NaN" in text or "Infinity" in text:
            text = _dumps(_without_infinities(value))
    except (TypeError, ValueError, RecursionError) as problem:
        raise InvalidField(field, f"must be a value that JSON can hold: {problem}") from problem
    return whole_text(text)


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _without_infinities(value: object) -> object:
    match value:
        case float() if not math.isfinite(value):
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case dict():
            return {_without_infinities(key): _without_infinities(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_without_infinities(inner) for inner in value]
        case _:
            return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(spelled: Callable[[str], Any] | None, spelling: str) -> Any:  # noqa: ANN401 - what `spelled` makes
    if math.isinf(float(spelling)):
        shown = spelling if len(spelling) <= _NUMBER_SHOWN_CHARS else f"{spelling[:_NUMBER_SHOWN_CHARS]}…"
        raise ValueError(f"{shown} is larger than any double")
    if spelled is not None:
        return spelled(spelling)
    return int(spelling) if spelling.lstrip("-").isdigit() else float(spelling)
