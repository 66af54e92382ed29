"""Identity of requests: which two requests are the same, and the names that are derived from a request.

A retry carries the same `request_id` and the same body. So everything that answers it may derive from the two: whether
it was carried out already, and the ids that it was given.
"""

from hashlib import blake2b, sha256
from typing import Any, Final, Protocol, Self

from google.protobuf.descriptor import Descriptor

from pagekeeper.core.ids import check_id
from pagekeeper.runtime.sessions import Request

ID_BYTES: Final = 10
"""80 bits: of a million pages in one session, two get the same id with a chance of one in 10^12."""
MIN_REVISION: Final = "min_revision"


class Mutation(Protocol):
    """A message with a `request_id`."""

    @property
    def DESCRIPTOR(self) -> Descriptor: ...  # noqa: N802 - protobuf's name

    request_id: str

    def SerializeToString(self, *, deterministic: bool = ...) -> bytes: ...  # noqa: N802 - protobuf's name
    def CopyFrom(self, other: Self, /) -> None: ...  # noqa: N802 - protobuf's name
    def ClearField(self, field: Any, /) -> None: ...  # noqa: ANN401, N802 - protobuf's name and type


def request_of(message: Mutation) -> Request:
    """The request that `message` is; the same id with another body, or as another call, has another digest.

    How new a state it wants to see is not part of what it asks: between two attempts of one request, the gateway may
    have answered its session's newer states.
    Raises InvalidField for an id that is none: the gateway mints one for callers who sent none.
    """
    check_id("request_id", message.request_id)
    digest = sha256(message.DESCRIPTOR.full_name.encode())
    digest.update(b"\0")
    digest.update(_asked(message).SerializeToString(deterministic=True))
    return Request(message.request_id, digest.digest())


def _asked(message: Mutation) -> Mutation:
    if MIN_REVISION not in message.DESCRIPTOR.fields_by_name:
        return message
    asked = type(message)()
    asked.CopyFrom(message)
    asked.ClearField(MIN_REVISION)
    return asked


def derived_id(prefix: str, request_id: str, index: int) -> str:
    """The id of the `index`-th thing that a request makes without naming it: a retry names it alike."""
    return f"{prefix}_{blake2b(f'{request_id}/{index}'.encode(), digest_size=ID_BYTES).hexdigest()}"
