"""Messages of the API, made of what a program hands over."""

from typing import Any, TypeVar

from google.protobuf.message import Message

from pagekeeper.core.wellformed import whole

M = TypeVar("M", bound=Message)


def made(kind: type[M], /, **fields: Any) -> M:  # noqa: ANN401 - the fields of `kind`, which checks them
    """A message with these fields. Half a character in a text becomes U+FFFD, because no message can hold the half."""
    try:
        return kind(**fields)
    except UnicodeEncodeError:
        return kind(**{name: whole(value) for name, value in fields.items()})
