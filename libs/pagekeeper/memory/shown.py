"""Values as a person reads them in a message or at a prompt: what they are and how large, never all they hold."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Final

VALUE_CHARS_MAX: Final = 60
REPR_CHARS_MAX: Final = 280


def shown(value: object) -> str:
    """`value` in at most about `VALUE_CHARS_MAX` characters; a text that is cut and a collection say their size."""
    match value:
        case Enum():
            return str(value.name)
        case str() if len(value) > VALUE_CHARS_MAX:
            return f"{value[:VALUE_CHARS_MAX]!r}… ({len(value):,} characters)"
        case bytes():
            return f"{len(value):,} bytes"
        case Mapping() | list() | tuple() | AbstractSet() if len(value) > 3 or len(str(value)) > VALUE_CHARS_MAX:
            return f"{type(value).__name__} of {len(value):,}"
        case _:
            said = repr(value)
            return said if len(said) <= VALUE_CHARS_MAX else f"{said[:VALUE_CHARS_MAX]}…"


def short_repr(name: str, facts: Iterable[tuple[str | None, object]]) -> str:
    """`Name(fact=value, ...)` with each value `shown`, in at most about `REPR_CHARS_MAX` characters."""
    said: list[str] = []
    for fact, value in facts:
        said.append(f"{fact}={shown(value)}" if fact else str(value))
        if len(name) + sum(len(each) + 2 for each in said) > REPR_CHARS_MAX:
            said[-1] = "…"
            break
    return f"{name}({', '.join(said)})"
