"""An RPC's facts for client and server, read from the service's descriptor once."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

MESSAGE_BYTES_MAX: Final = 9 << 20
"""The largest request or response: 8 MiB of content, and 1 MiB for what is said around it."""

AUTHORIZATION: Final = "authorization"
TRACE: Final = "x-request-id"
SESSION: Final = "x-pagekeeper-session"
"""The session that a call is about, said by clients for load balancers; no service reads it."""
_WORD: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


@dataclass(frozen=True, slots=True)
class Method:
    """One RPC.

    `attribute` is its name on the objects that serve or call it. `repeatable_by_id`: its requests have a `request_id`,
    under which a repetition is done once. The others ask for what may safely be done twice: that is a rule of the API.
    """

    name: str
    path: str
    attribute: str
    request: type[Message]
    response: type[Message]
    streams: bool
    repeatable_by_id: bool


def methods(service: ServiceDescriptor) -> tuple[Method, ...]:
    """Return the RPCs of `service`. Raises TypeError for one whose requests are a stream: we have none."""
    for method in service.methods:
        if method.client_streaming:
            raise TypeError(f"{method.full_name} takes a stream of requests")
    return tuple(
        Method(
            name=method.name,
            path=f"/{service.full_name}/{method.name}",
            attribute=_WORD.sub("_", method.name).lower(),
            request=GetMessageClass(method.input_type),
            response=GetMessageClass(method.output_type),
            streams=method.server_streaming,
            repeatable_by_id="request_id" in method.input_type.fields_by_name,
        )
        for method in service.methods
    )


def methods_of(service: ServiceDescriptor, target: object) -> list[tuple[Method, Callable[..., Any]]]:
    """Return each RPC of `service` with the method of `target` that serves it. Raises TypeError when one is missing."""
    found = [(method, getattr(target, method.attribute, None)) for method in methods(service)]
    missing = [method.attribute for method, served in found if not callable(served)]
    if missing:
        raise TypeError(f"{type(target).__name__} is no {service.full_name}: it lacks {', '.join(missing)}")
    return [(method, served) for method, served in found if callable(served)]
