"""Where a service is: from a setting to the addresses of its replicas.

A setting is `host:port`, or several of them with commas between. A host that is a name stands for every address that
the name has at the time, such as those of a headless Kubernetes service.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

RESOLVE_SECONDS_MAX: Final = 3.0
PORT_MAX: Final = 65_535

_ADDRESS: Final = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):(\d{1,5})")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of a replica, and the `host:port` that it was found by. Equal addresses are equal endpoints."""

    host: str
    port: int
    authority: str

    @property
    def name(self) -> str:
        """`host:port`, with brackets around an IPv6 host: the same for every process, so that all hash alike."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> str:
        """The address as gRPC names it."""
        return f"{'ipv6' if ':' in self.host else 'ipv4'}:{self.name}"


Resolve = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host. Raises OSError, TimeoutError."""


def split(addresses: str) -> list[tuple[str, int]]:
    """Hosts and ports of a setting. Raises ValueError when it is none."""
    found = []
    for part in addresses.split(","):
        match = _ADDRESS.fullmatch(part.strip())
        if match is None or not 0 < int(match[2]) <= PORT_MAX:
            raise ValueError("not host:port, nor several of them with commas between")
        found.append((match[1].strip("[]"), int(match[2])))
    return found


async def ask_dns(host: str, port: int) -> list[str]:
    """Every address of a host, as the machine resolves names. Raises OSError, TimeoutError."""
    async with asyncio.timeout(RESOLVE_SECONDS_MAX):
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


async def endpoints_of(addresses: str, resolve: Resolve) -> list[Endpoint]:
    """All addresses that a setting stands for at this time, each once, sorted. Raises OSError, TimeoutError."""
    found: dict[str, Endpoint] = {}
    for host, port in split(addresses):
        hosts = [host] if _is_literal(host) else await resolve(host, port)
        for one in hosts:
            endpoint = Endpoint(one, port, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            found.setdefault(endpoint.name, endpoint)
    return [found[name] for name in sorted(found)]


def _is_literal(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
