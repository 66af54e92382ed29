"""A service in this process, as those see it that call it through `remote` elsewhere.

Nothing is serialized and no deadline is set: the call runs in its caller's task and ends with it. Only what the service
raises is made the same, so that whoever catches it cannot tell where the service lives.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from types import SimpleNamespace
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message

from pagekeeper.memory.errors import PagekeeperError
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.methods import Method, methods_of
from pagekeeper.runtime.rpc.refusals import escaped, refusal_of

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


def _unary(method: Method, served: Unary) -> Unary:
    async def call(caller: Caller, request: Message) -> Message:
        try:
            return await served(caller, request)
        except PagekeeperError:
            raise
        except asyncio.CancelledError as cancelled:
            raise refusal_of(escaped(cancelled), method.path, caller.trace) from cancelled
        except Exception as error:
            raise refusal_of(error, method.path, caller.trace) from error

    return call


def _stream(method: Method, served: Stream) -> Stream:
    async def call(caller: Caller, request: Message) -> AsyncGenerator[Message, None]:
        try:
            async with aclosing(served(caller, request)) as responses:
                async for response in responses:
                    yield response
        except PagekeeperError:
            raise
        except asyncio.CancelledError as cancelled:
            raise refusal_of(escaped(cancelled), method.path, caller.trace) from cancelled
        except Exception as error:
            raise refusal_of(error, method.path, caller.trace) from error

    return call
