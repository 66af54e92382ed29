"""Asking a server from outside whether it takes calls."""

from pathlib import Path
from typing import Final

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from pagekeeper.runtime.rpc.channel import new_channel
from pagekeeper.runtime.rpc.tls import Trust

SERVING: Final = "SERVING"
PROBE_SECONDS: Final = 1.0


async def health_of(
    address: str, service: str = "", timeout_seconds: float = PROBE_SECONDS, *, ca: Path | None = None
) -> str:
    """Return the status of the server at `host:port` by grpc.health.v1: SERVING, NOT_SERVING.

    Or the name of the gRPC status that it, or the network, answers with instead, such as UNAVAILABLE. `service` is a
    name that `health` knows; "" is the whole server. `ca` is a file of the
    authorities whose certificates are believed; without it there is no TLS. Raises CannotStart.
    """
    async with new_channel(address, address, Trust(ca).credentials()) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        try:
            answer = await check(HealthCheckRequest(service=service), timeout=timeout_seconds)
        except grpc.aio.AioRpcError as error:
            return str(error.code().name)
    return HealthCheckResponse.ServingStatus.Name(answer.status)
