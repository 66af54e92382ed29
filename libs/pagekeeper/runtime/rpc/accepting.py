"""gRPC's server, with loops of our own that take the calls.

`grpc.aio` takes the calls of all methods in one loop, and decodes each call's path there. A path that is not UTF-8 ends
the loop, and the server with it: one packet of anybody stops a process. Here each method of the API has a loop of its
own, and is known by the loop and not by what a caller sent. The calls of all other paths come to one more loop, which
never looks at the path.

The loops cost less, too: the loop of `grpc.aio` waits for a set of futures anew for each call, and decodes a call's
metadata once more to ask for a handler.

The class and the functions are those that `grpc.aio` is made of; they have no public names. A release of grpcio that
lacks one of them is refused at the start.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Final

import grpc

from pagekeeper.runtime.errors import CannotStart

cygrpc: Final[Any] = import_module("grpc._cython.cygrpc")
_TAKE: Final = "_request_registered_call"
_TAKE_UNKNOWN: Final = "_request_call"
_SCHEDULE: Final = "_schedule_rpc_coro"
_HANDLE: Final = {False: "_handle_stream_unary_rpc", True: "_handle_stream_stream_rpc"}
"""By whether the method answers a stream. Its requests are one: other handlers run only once a message is there."""


class _Core(cygrpc.AioServer):  # type: ignore[misc]
    """The server of gRPC, which asks `_make_request_call_future` for a future for each method when it starts."""

    def __init__(
        self,
        options: Sequence[tuple[str, object]],
        handlers: Mapping[str, "grpc.RpcMethodHandler[Any, Any]"],
        unknown: "grpc.RpcMethodHandler[Any, Any]",
    ) -> None:
        self._calls_loop = asyncio.get_running_loop()
        super().__init__(self._calls_loop, None, (), None, tuple(options), None)
        self._calls: set[asyncio.Task[None]] = set()
        self._handlers: dict[bytes | None, Any] = {path.encode(): handler for path, handler in handlers.items()}
        self._handlers[None] = unknown
        self._take, self._take_unknown = _part(self, _TAKE), _part(self, _TAKE_UNKNOWN)
        self._schedule = _part(cygrpc, _SCHEDULE)
        self._handle = {streams: _part(cygrpc, name) for streams, name in _HANDLE.items()}
        self.add_registered_method_handlers(dict(handlers))

    def _make_request_call_future(self, method: bytes | None) -> "asyncio.Task[None]":
        return self._calls_loop.create_task(self._take_calls(method))

    async def _take_calls(self, method: bytes | None) -> None:
        """Take the calls of a method, of all unknown ones for None, until the server stops: that raises."""
        handler, name, loop = self._handlers[method], (method or b"").decode(), self._calls_loop
        handle, schedule = self._handle[handler.response_streaming], self._schedule
        while True:
            call = await (self._take_unknown() if method is None else self._take(method))
            running = loop.create_task(schedule(handle(handler, call, loop), call, loop, name))
            # A loop refers to its tasks weakly.
            self._calls.add(running)
            running.add_done_callback(self._calls.discard)


class GrpcServer:
    """A server for methods by path, `/package.Service/Method`, and one handler for the calls of all other paths."""

    def __init__(
        self,
        options: Sequence[tuple[str, object]],
        handlers: Mapping[str, "grpc.RpcMethodHandler[Any, Any]"],
        unknown: "grpc.RpcMethodHandler[Any, Any]",
    ) -> None:
        """Must run in the loop that will serve. Raises CannotStart for a release of grpcio that this does not fit."""
        self._core = _Core(options, handlers, unknown)

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Bind to `address` (`host:port`), with TLS where there are credentials, and return the port.

        Raises CannotStart.
        """
        port: int
        if credentials is None:
            port = self._core.add_insecure_port(address.encode())
        else:
            port = self._core.add_secure_port(address.encode(), credentials)
        if not port:
            raise CannotStart(f"cannot listen on {address}: the port is taken, or the host is not this one")
        return port

    async def start(self) -> None:
        """Take calls from here on."""
        await self._core.start()

    async def stop(self, grace_seconds: float) -> None:
        """Take no further call. What runs after `grace_seconds` is cancelled."""
        await self._core.shutdown(grace_seconds)


def _part(owner: object, name: str) -> Any:  # noqa: ANN401 - a function of grpcio
    found = getattr(owner, name, None)
    if found is None:
        raise CannotStart(f"grpcio {grpc.__version__} does not fit this release: it has no {name}; install 1.85")
    return found


class _BytesOfCallers(logging.Filter):
    """Drops what grpcio logs of metadata that are not UTF-8: a traceback for each, of a caller without a token."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("Invalid encoding on")


logging.getLogger("grpc._cython.cygrpc").addFilter(_BytesOfCallers())
