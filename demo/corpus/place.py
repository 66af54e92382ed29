"""Where in a file something is, and the two shapes that everything in JSON has: object and array."""

from collections.abc import Mapping, Sequence


class Place:
    """A JSON path such as `$[12].content`, or a line of JSON Lines. Narrowed with `/`."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __truediv__(self, step: str | int) -> "Place":
        if isinstance(step, int):
            return Place(f"{self._path}[{step}]")
        return Place(f"{self._path}.{step}" if self._path.startswith("$") else f"{self._path}: {step}")

    def __str__(self) -> str:
        return self._path


ROOT = Place("$")
"""The whole file."""


def at_line(number: int) -> Place:
    """A line, counted from 1."""
    return Place(f"line {number}")


class Malformed(Exception):
    """Something in a file is not what it must be."""

    def __init__(self, place: Place, problem: str) -> None:
        super().__init__(problem if place is ROOT else f"{place}: {problem}")


def as_object(value: object, place: Place, what: str) -> Mapping[str, object]:
    """`value`, which must be an object. Raises Malformed, which says `what` was expected."""
    if not isinstance(value, Mapping):
        raise Malformed(place, f"must be {what}, not {shown(value)}")
    return value


def as_array(value: object, place: Place, what: str) -> Sequence[object]:
    """`value`, which must be an array. Raises Malformed, which says `what` was expected."""
    if not isinstance(value, list):
        raise Malformed(place, f"must be {what}, not {shown(value)}")
    return value


def shown(value: object) -> str:
    """`value` in a few words, for an error message."""
    match value:
        case Mapping():
            keys = ", ".join(repr(key) for key in list(value)[:6])
            return f"an object with the keys {keys}" if keys else "an empty object"
        case [first, *_]:
            return f"an array that begins with {shown(first)}"
        case list():
            return "an empty array"
        case _:
            return f"{value!r:.40}"
