"""A channel to all replicas of another service.

Names are resolved to every address behind them and calls go round-robin, so a headless Kubernetes service spreads load
without a proxy. A replica that ends a connection because of the connection's age makes the channel resolve again.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import grpc

from pagekeeper.runtime.rpc.methods import MESSAGE_BYTES_MAX

WARM_UP_SECONDS: Final = 10.0
RECONNECT_MS_MAX: Final = 500
"""Between attempts to connect: less than a call goes on trying, so that no call misses a service that has come."""

_OPTIONS: Final = (
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.dns_min_time_between_resolutions_ms", 2_000),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # A proxy that the environment names is for the way out, not for the way next door.
    ("grpc.enable_http_proxy", 0),
)

_log: Final = logging.getLogger(__name__)


@asynccontextmanager
async def open_channel(address: str, warm_up_seconds: float = WARM_UP_SECONDS) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to `address` (`host:port`), connected before the first call needs it.

    A service that is not there yet is waited for, then started without: calls to it fail until it is.
    """
    async with grpc.aio.insecure_channel(f"dns:///{address}", options=_OPTIONS) as channel:
        try:
            async with asyncio.timeout(warm_up_seconds):
                await channel.channel_ready()
        except TimeoutError:
            _log.warning("a service does not answer yet", extra={"address": address})
        yield channel
