"""The one place where a channel to a server is made."""

from typing import Final

import grpc

from pagekeeper.runtime.rpc.methods import MESSAGE_BYTES_MAX

RECONNECT_MS_MAX: Final = 500
"""Between attempts to connect: less than a call goes on trying, so that no call misses a service that has come."""

_OPTIONS: Final = (
    ("grpc.service_config_disable_resolution", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),
    # Of a peer whose packets are dropped nothing else tells. A server allows a ping in 10 s (`server`).
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    # A proxy that the environment names is for the way out, not for the way next door.
    ("grpc.enable_http_proxy", 0),
)


def new_channel(target: str, authority: str, credentials: grpc.ChannelCredentials | None) -> grpc.aio.Channel:
    """Make a channel to one address. It connects when it is first used.

    `target` is gRPC's, such as `ipv4:127.0.0.1:7400`; `authority` is the name that the address was found by,
    which the server's certificate must have. Without credentials the channel has no TLS.
    """
    if credentials is None:
        return grpc.aio.insecure_channel(target, options=(*_OPTIONS, ("grpc.default_authority", authority)))
    name = authority.rpartition(":")[0].strip("[]")
    named = (("grpc.default_authority", authority), ("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(target, credentials, options=(*_OPTIONS, *named))
