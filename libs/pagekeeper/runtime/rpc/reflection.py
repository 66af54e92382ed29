"""`grpc.reflection.v1alpha`: the API as a server tells it to generic clients, such as grpcurl.

The stock servicer answers. Its requests are parsed here, so that bad bytes are refused as everywhere else.
"""

from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.reflection import SERVICE_NAME, aio

from pagekeeper.core.errors import PagekeeperError
from pagekeeper.runtime.rpc.health import HEALTH
from pagekeeper.runtime.rpc.parsing import parse
from pagekeeper.runtime.rpc.refusals import answer_refusal

_Context = grpc.aio.ServicerContext[Any, Any]


def reflection_of(services: Iterable[str]) -> dict[str, "grpc.RpcMethodHandler[Any, Any]"]:
    """The handler, by path, that tells of `services`, by full name, of health, and of itself. Nobody needs a token."""
    servicer: Any = aio.ReflectionServicer([*services, HEALTH, SERVICE_NAME])

    async def tell(_: object, context: _Context) -> None:
        async for answer in servicer.ServerReflectionInfo(_questions(context), context):
            await context.write(answer)

    serialized = reflection_pb2.ServerReflectionResponse.SerializeToString
    return {
        f"/{SERVICE_NAME}/ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(
            tell, response_serializer=serialized
        )
    }


async def _questions(context: _Context) -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
    while (raw := await context.read()) is not grpc.aio.EOF:
        try:
            yield parse(reflection_pb2.ServerReflectionRequest, raw)
        except PagekeeperError as refusal:
            await answer_refusal(context, refusal)
