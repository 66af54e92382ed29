"""Arguments of public calls, checked against the signature before the call is made.

Invariant: a call that is refused has done nothing. What is refused: a keyword that the signature does not have, a value
that is not of the annotated type, a text that names no member of an enumeration, a number outside an annotated range.
A text that holds half a character is mended, see `whole_text`.
"""

import inspect
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from difflib import get_close_matches
from enum import Enum
from functools import cache, wraps
from math import inf
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NamedTuple,
    NewType,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from typing_extensions import get_protocol_members, is_protocol

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.wellformed import whole_text
from pagekeeper.memory.shown import shown

T = TypeVar("T")

Check = Callable[[object], tuple[bool, object]]
"""Whether a value is accepted, and the value that the call gets."""


class InvalidArgument(InvalidField, TypeError, ValueError):
    """An argument that the signature does not allow. It is also the TypeError or ValueError that Python would raise."""


def checked(target: T) -> T:
    """A function whose arguments are checked; of a class, the constructor and the public methods that it defines.

    A text or number that is the value of an annotated enumeration is handed on as its member; `Modality | str` in a
    signature accepts the texts that are values of it, and no other.
    """
    if not isinstance(target, type):
        return cast(T, _checked_function(cast(Callable[..., Any], target), str(getattr(target, "__name__", target))))
    for name, member in list(vars(target).items()):
        if name.startswith("_") and name != "__init__":
            continue
        called = target.__name__ if name == "__init__" else f"{target.__name__}.{name}"
        if inspect.isfunction(member):
            setattr(target, name, _checked_function(member, called))
        elif isinstance(member, classmethod | staticmethod):
            setattr(target, name, type(member)(_checked_function(member.__func__, called)))
    return cast(T, target)


def fits(annotation: object) -> Callable[[object], object]:
    """A validator for a model's field of a type that pydantic does not check, such as a protocol."""
    rule = _check(annotation)

    def validate(value: object) -> object:
        accepted, handed_on = rule.judge(value)
        if not accepted:
            raise ValueError(f"must be {rule.wanted}, not {shown(value)}")
        return handed_on

    return validate


def unknown_keyword(keyword: str, owner: str, known: Iterable[str]) -> str:
    """The sentence that refuses a keyword: the nearest one that exists, or all of them."""
    names = sorted(known)
    near = get_close_matches(keyword, names, n=1)
    right = f"did you mean {near[0]}?" if near else f"its arguments are {', '.join(names) or 'none'}"
    return f"is no argument of {owner}; {right}"


class _Rule(NamedTuple):
    """The check of an annotation, and its words; no check accepts everything.

    Values whose type is in `kinds` are accepted without the check, because most calls are right.
    """

    check: Check | None
    wanted: str
    kinds: frozenset[type] = frozenset()

    def judge(self, value: object) -> tuple[bool, object]:
        return (True, value) if self.check is None or type(value) in self.kinds else self.check(value)

    def accepted(self, name: str, value: object) -> object:
        if self.check is None or type(value) in self.kinds:
            return value
        accepted, handed_on = self.check(value)
        if not accepted:
            raise InvalidArgument(name, f"must be {self.wanted}, not {shown(value)}")
        return handed_on


def _checked_function(function: Callable[..., Any], called: str) -> Callable[..., Any]:
    parameters = inspect.signature(function).parameters.values()
    places = [each.name for each in parameters if each.kind in _BY_PLACE]
    keywords = {each.name for each in parameters if each.kind in _BY_NAME}
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)

    @cache
    def rules() -> dict[str, _Rule]:
        """Found at the first call: an annotation may name what is defined below the function."""
        hints = get_type_hints(function, include_extras=True)
        return {name: _check(hints[name]) if name in hints else _ANYTHING for name in {*places, *keywords}}

    def arguments(args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[list[object], dict[str, object]]:
        known = rules()
        given = [known[name].accepted(name, value) for name, value in zip(places, args, strict=False)]
        if not kwargs:
            return [*given, *args[len(given) :]], kwargs
        for name in kwargs.keys() - keywords:
            if not open_ended:
                raise InvalidArgument(name, unknown_keyword(name, called, keywords - {"self", "cls"}))
        named = {
            name: known[name].accepted(name, value) if name in keywords else value for name, value in kwargs.items()
        }
        return [*given, *args[len(given) :]], named

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        given, named = arguments(args, kwargs)
        return function(*given, **named)

    @wraps(function)
    async def call_later(*args: object, **kwargs: object) -> object:
        given, named = arguments(args, kwargs)
        return await function(*given, **named)

    return call_later if inspect.iscoroutinefunction(function) else call


_BY_PLACE: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _check(annotation: object) -> _Rule:
    origin, args = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, NewType):
        return _check(annotation.__supertype__)
    if origin is Annotated:
        return _within(_check(args[0]), args[1:])
    if origin in (Union, UnionType):
        named = any(isinstance(each, type) and issubclass(each, Enum) for each in args)
        return _any_of([_check(each) for each in args if each is not str or not named])
    if origin is Literal:
        return _Rule(lambda value: (value in args, value), f"one of {', '.join(map(repr, args))}")
    kind = origin or annotation
    anything = not isinstance(kind, type) or kind in (Any, object)
    return _ANYTHING if anything else _check_of(cast(type, kind), args)


def _check_of(kind: type, args: Sequence[object]) -> _Rule:
    named = f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"
    if issubclass(kind, Enum):
        return _member(kind)
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind.__name__ == "Callable":
        return _Rule(lambda value: (callable(value), value), "a function")
    if is_protocol(kind):
        return _shaped(kind, named)
    if args and issubclass(kind, Collection):
        return _filled(kind, args, named)
    return _Rule(lambda value: (isinstance(value, kind), value), named, frozenset({kind}))


def _text(value: object) -> tuple[bool, object]:
    return (True, whole_text(value)) if isinstance(value, str) else (False, value)


def _whole_number(value: object) -> tuple[bool, object]:
    return isinstance(value, int) and not isinstance(value, bool), value


def _number(value: object) -> tuple[bool, object]:
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value, value  # noqa: PLR0124 - NaN


_ANYTHING: Final = _Rule(None, "anything")
_SCALARS: Final[Mapping[type, _Rule]] = {
    NoneType: _Rule(lambda value: (value is None, value), "None", frozenset({NoneType})),
    str: _Rule(_text, "a text"),
    int: _Rule(_whole_number, "a whole number", frozenset({int})),
    float: _Rule(_number, "a number"),
}


def _member(kind: type[Enum]) -> _Rule:
    values = {member.value: member for member in kind}

    def check(value: object) -> tuple[bool, object]:
        if isinstance(value, kind):
            return True, value
        known = isinstance(value, str | int) and not isinstance(value, bool) and value in values
        return known, values[value] if known else value

    return _Rule(check, f"one of {', '.join(map(str, values))} ({kind.__name__})", frozenset({kind}))


def _any_of(rules: Sequence[_Rule]) -> _Rule:
    if _ANYTHING in rules:
        return _ANYTHING

    def check(value: object) -> tuple[bool, object]:
        tried = (rule.judge(value) for rule in rules)
        return next((judged for judged in tried if judged[0]), (False, value))

    kinds = frozenset[type]().union(*(rule.kinds for rule in rules))
    return _Rule(check, " or ".join(rule.wanted for rule in rules), kinds)


def _within(rule: _Rule, marks: Sequence[object]) -> _Rule:
    """A whole number's range, as pydantic's annotations have it."""
    bounds = [bound for mark in marks for bound in getattr(mark, "metadata", [mark])]
    least = next((bound.ge for bound in bounds if hasattr(bound, "ge")), -inf)
    least = next((bound.gt + 1 for bound in bounds if hasattr(bound, "gt")), least)
    most = next((bound.le for bound in bounds if hasattr(bound, "le")), inf)

    def check(value: object) -> tuple[bool, object]:
        accepted, made = rule.judge(value)
        return accepted and (not isinstance(made, int | float) or least <= made <= most), made

    return _Rule(check, f"{rule.wanted}, at least {least}" if most == inf else f"{rule.wanted} from {least} to {most}")


def _shaped(kind: type, named: str) -> _Rule:
    members = sorted(get_protocol_members(kind))
    return _Rule(
        lambda value: (all(hasattr(value, member) for member in members), value),
        f"{named}, which has {', '.join(members)}",
    )


def _filled(kind: type, args: Sequence[object], named: str) -> _Rule:
    """A collection and what it holds. A text is no collection of texts here."""
    rules = [_check(each) for each in args if each is not ...]
    plain = rules[0].kinds | ({str} if args[0] is str else set())

    def check(value: object) -> tuple[bool, object]:
        if not isinstance(value, kind) or isinstance(value, str | bytes):
            return False, value
        if len(rules) == 1 and plain.issuperset(map(type, cast(Collection[object], value))):
            return True, value
        held = value.items() if isinstance(value, Mapping) else ((each,) for each in cast(Collection[object], value))
        return all(rule.judge(one)[0] for each in held for rule, one in zip(rules, each, strict=False)), value

    return _Rule(check, f"{named} of {' to '.join(rule.wanted for rule in rules)}")
