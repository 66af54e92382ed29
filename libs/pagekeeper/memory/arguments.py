"""Arguments of public calls, checked by pydantic against the signature before the call is made.

Invariant: a call that is refused has done nothing. What is refused: a keyword that the signature does not have, a value
that is not of the annotated type, a text that names no member of an enumeration, a number outside an annotated range.
A text that holds half a character is mended, see `whole_text`.
"""

import inspect
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from enum import Enum
from functools import cache, reduce, wraps
from operator import or_
from types import UnionType
from typing import Annotated, Any, Final, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Strict, TypeAdapter, ValidationError
from typing_extensions import get_protocol_members, is_protocol

from pagekeeper.core.errors import InvalidField
from pagekeeper.core.wellformed import whole_text
from pagekeeper.memory.shown import shown

T = TypeVar("T")

_BY_PLACE: Final = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_STRICT: Final = ConfigDict(strict=True)
"""A text is no number and a number no text; an enumeration alone takes its values."""


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


def unknown_keyword(keyword: str, owner: str, known: Iterable[str]) -> str:
    """The sentence that refuses a keyword: the nearest one that exists, or all of them."""
    names = sorted(known)
    near = get_close_matches(keyword, names, n=1)
    right = f"did you mean {near[0]}?" if near else f"its arguments are {', '.join(names) or 'none'}"
    return f"is no argument of {owner}; {right}"


def _checked_function(function: Callable[..., Any], called: str) -> Callable[..., Any]:
    parameters = inspect.signature(function).parameters.values()
    places = [each.name for each in parameters if each.kind in _BY_PLACE]
    keywords = {each.name for each in parameters if each.kind in _BY_NAME}
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)

    @cache
    def adapters() -> dict[str, TypeAdapter[Any]]:
        """Made at the first call: an annotation may name what is defined below the function."""
        hints = get_type_hints(function, include_extras=True)
        return {name: _adapter(hints[name]) for name in {*places, *keywords} if name in hints}

    def read(name: str, value: object) -> object:
        adapter = adapters().get(name)
        if adapter is None:
            return value
        try:
            return adapter.validate_python(value)
        except ValidationError as refused:
            raise InvalidArgument(name, f"must be {_wanted(refused)}, not {shown(value)}") from None

    def arguments(args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[list[object], dict[str, object]]:
        for name in kwargs.keys() - keywords:
            if not open_ended:
                raise InvalidArgument(name, unknown_keyword(name, called, keywords - {"self", "cls"}))
        given = [read(name, value) for name, value in zip(places, args, strict=False)]
        named = {name: read(name, value) if name in keywords else value for name, value in kwargs.items()}
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


@cache
def _adapter(hint: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - an annotation
    return TypeAdapter(_taken(hint), config=_STRICT)


def _taken(hint: Any) -> Any:  # noqa: ANN401 - one annotation in, another out
    """The annotation by which pydantic takes what a call takes; a class of ours is taken as an instance."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(_taken(args[0]), *args[1:])]
    if origin in (Union, UnionType):
        named = any(isinstance(each, type) and issubclass(each, Enum) for each in args)
        return reduce(or_, [_taken(each) for each in args if each is not str or not named])
    if origin in (Literal, Callable):
        return hint
    if origin in (Collection, Iterable):
        return Annotated[Any, AfterValidator(_made_by(origin))]
    if origin is not None:
        return origin[tuple(map(_taken, args))]
    if hint is str:
        return Annotated[str, BeforeValidator(_mended)]
    if not isinstance(hint, type) or hint in (Any, object, int, float, bool, bytes, type(None)):
        return Any if hint is object else hint
    if issubclass(hint, Enum):
        return Annotated[hint, Strict(strict=False)]
    return Annotated[Any, AfterValidator(_shaped_like(hint) if is_protocol(hint) else _made_by(hint))]


def _mended(value: object) -> object:
    return whole_text(value) if isinstance(value, str) else value


def _made_by(kind: type) -> Callable[[object], object]:
    def check(value: object) -> object:
        if not isinstance(value, kind):
            raise ValueError(f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}")  # noqa: TRY004 - pydantic asks for it
        return value

    return check


def _shaped_like(protocol: type) -> Callable[[object], object]:
    members = sorted(get_protocol_members(protocol))

    def check(value: object) -> object:
        if not all(hasattr(value, member) for member in members):
            raise ValueError(f"a {protocol.__name__}, which has {', '.join(members)}")
        return value

    return check


def _wanted(refused: ValidationError) -> str:
    """The wanted input, in the words of pydantic."""
    messages = [problem["msg"] for problem in refused.errors(include_url=False, include_context=False)]
    wanted = [said.removeprefix("Input should be ").removeprefix("Value error, ") for said in messages]
    return " or ".join(dict.fromkeys(wanted))
