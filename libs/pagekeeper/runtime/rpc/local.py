"""A proxy of a service in this process, with the behaviour of `remote`.

Nothing is serialized and no deadline is set: the call runs in its caller's task and ends with the task. Exceptions are
turned into public errors, so that a caller cannot tell in which process the service runs.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from pagekeeper.core.errors import PagekeeperError
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.methods import Method, methods_of
from pagekeeper.runtime.rpc.refusals import refusal_of, uncaught_cancellation

Unary = Callable[[Caller, Message], Awaitable[Message]]
Stream = Callable[[Caller, Message], AsyncGenerator[Message, None]]


def local(service: ServiceDescriptor, target: object) -> Any:  # noqa: ANN401 - see `remote`
    """Return an object with the methods of `service`, each of which calls `target`.

    Raises TypeError when `target` lacks one.
    """
    return SimpleNamespace(
        **{
            method.attribute: _stream(method, served) if method.streams else _unary(method, served)
            for method, served in methods_of(service, target)
        }
    )


@dataclass(frozen=True, slots=True)
class _Edge:
    """The edge of the service: what it raises inside the block leaves as a refusal."""

    path: str
    trace: str

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: TracebackType | None) -> None:
        match error:
            case asyncio.CancelledError():
                raise refusal_of(uncaught_cancellation(error), self.path, self.trace) from error
            case Exception() if not isinstance(error, PagekeeperError):
                raise refusal_of(error, self.path, self.trace) from error
            case _:
                pass


def _unary(method: Method, served: Unary) -> Unary:
    async def call(caller: Caller, request: Message) -> Message:
        with _Edge(method.path, caller.trace):
            return await served(caller, request)

    return call


def _stream(method: Method, served: Stream) -> Stream:
    async def call(caller: Caller, request: Message) -> AsyncGenerator[Message, None]:
        with _Edge(method.path, caller.trace):
            async with aclosing(served(caller, request)) as responses:
                async for response in responses:
                    yield response

    return call
