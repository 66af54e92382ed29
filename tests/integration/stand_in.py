"""A stand-in for our processes: a gRPC server with nothing but health, told how to behave by its environment.

    python stand_in.py <service>

STAND_IN is empty, or `<service>=<behaviour>`: `fails` ends with a message, `waits` never says SERVING, `stays` ignores
SIGTERM.
"""

import asyncio
import os
import signal
import sys

import grpc
from grpc_health.v1._async import HealthServicer
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server


async def serve(service: str) -> None:
    behaviour = dict([os.environ.get("STAND_IN", "=").split("=")]).get(service, "")
    if behaviour == "fails":
        sys.exit("stand-in: it was told to fail")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, (lambda: None) if behaviour == "stays" else stop.set)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health = HealthServicer()
    status = HealthCheckResponse.NOT_SERVING if behaviour == "waits" else HealthCheckResponse.SERVING
    await health.set("", status)
    add_HealthServicer_to_server(health, server)
    server.add_insecure_port(os.environ["PK_LISTEN"])
    await server.start()
    await stop.wait()
    await server.stop(1)


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
