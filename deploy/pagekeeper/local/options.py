"""Options of the launcher, from environment variables.

TOPOLOGY   five (the default) or one: how many processes our services run in
REPLICAS   processes of a service, such as `gateway=2 fault-handler=4`; one of each that is not named
NATS       1 (the default), 3 or 5: servers of the NATS cluster
TLS        1: everything speaks TLS to everything, with certificates that are issued at the start
DATA_DIR   a directory to keep everything in; one that is removed at the end when empty
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pagekeeper.local.nats_cluster import SIZES
from pagekeeper.local.stack import Topology

REPLICAS_MAX: Final = 64
"""Processes of one service: more than any machine of one person runs well, and fewer than its ports."""


class WrongOption(Exception):
    """A variable has a value that cannot be meant. One line: which, and what would be right."""


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Which stack to start. `directory` None is a temporary one; a service that `replicas` does not name runs once."""

    topology: Topology
    directory: Path | None
    replicas: Mapping[str, int] = field(default_factory=dict)
    nats_servers: int = 1
    tls: bool = False


def read_stack_options(environment: Mapping[str, str]) -> StackOptions:
    """Raises WrongOption."""
    topology = _topology(environment.get("TOPOLOGY", ""))
    return StackOptions(
        topology,
        _directory(environment.get("DATA_DIR", "")),
        _replicas(environment.get("REPLICAS", ""), topology),
        _nats_servers(environment.get("NATS", "")),
        _tls(environment.get("TLS", "")),
    )


def _topology(value: str) -> Topology:
    try:
        return Topology(value or Topology.FIVE)
    except ValueError:
        raise WrongOption(f"TOPOLOGY is {value!r}: it is {' or '.join(Topology)}") from None


def _directory(value: str) -> Path | None:
    path = Path(value)
    if value and path.exists() and not path.is_dir():
        raise WrongOption(f"DATA_DIR is {value!r}: that is not a directory")
    return path if value else None


def _replicas(value: str, topology: Topology) -> dict[str, int]:
    replicas: dict[str, int] = {}
    for part in value.replace(",", " ").split():
        service, _, count = part.partition("=")
        if service not in topology.services:
            named = ", ".join(topology.services)
            raise WrongOption(f"REPLICAS names {service!r}: with TOPOLOGY={topology} the services are {named}")
        if service in replicas:
            raise WrongOption(f"REPLICAS names {service} twice: say once how many there are")
        if not count.isascii() or not count.isdecimal() or not 1 <= int(count) <= REPLICAS_MAX:
            raise WrongOption(f"REPLICAS has {part!r}: it is {service}=N, with N from 1 to {REPLICAS_MAX}")
        replicas[service] = int(count)
    return replicas


def _nats_servers(value: str) -> int:
    sizes = [str(size) for size in SIZES]
    if value and value not in sizes:
        raise WrongOption(f"NATS is {value!r}: it is {', '.join(sizes[:-1])} or {sizes[-1]} servers")
    return int(value or SIZES[0])


def _tls(value: str) -> bool:
    if value not in {"", "0", "1"}:
        raise WrongOption(f"TLS is {value!r}: it is 1, or 0 for none")
    return value == "1"
