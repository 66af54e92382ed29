"""Ports of 127.0.0.1: which are free, and who listens on which.

The ports lie below the range from which the kernel takes local ports of outgoing connections. Inside that range a
connection may take a free port before the server binds it. Worse, a client that keeps dialling a stopped server may be
connected to itself and then holds the server's port.
"""

import random
import socket
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
_EPHEMERAL: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST: Final = 10_000
_CHOICE_MIN: Final = 2_000
_LAST_ANYWHERE: Final = 60_999
_LISTEN: Final = "0A"


def free_ports(count: int) -> list[int]:
    """Return different ports that nobody listens on. Another process may still be faster: see `is_free`."""
    below = range(_FIRST, int(_EPHEMERAL.read_text().split()[0]))
    candidates = below if len(below) >= _CHOICE_MIN else range(_FIRST, _LAST_ANYWHERE + 1)
    found: list[int] = []
    for port in random.SystemRandom().sample(candidates, len(candidates)):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(f"fewer than {count} ports of {HOST} are free")


def is_free(port: int) -> bool:
    """Tell whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def is_listening(pid: int, port: int) -> bool:
    """Tell whether a process itself listens on `port`: another one may have been faster."""
    # Cheap and mostly the answer while one waits; whose socket it is takes reading all the sockets there are.
    with socket.socket() as probe:
        if probe.connect_ex((HOST, port)) != 0:
            return False
    try:
        sockets = {str(file.readlink()) for file in Path(f"/proc/{pid}/fd").iterdir()}
    except OSError:
        return False  # it has ended
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:]:
            # sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode
            field = line.split()
            local_port = int(field[1].rpartition(":")[2], 16)
            if field[3] == _LISTEN and local_port == port and f"socket:[{field[9]}]" in sockets:
                return True
    return False
