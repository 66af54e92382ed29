"""What a launcher may leave behind."""

import os
import re
from pathlib import Path


def users_of(directory: Path) -> list[str]:
    """The processes that have to do with a directory: by their working directory, arguments or environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            told = command + (process / "environ").read_bytes()
            where = str((process / "cwd").readlink())
        except OSError:
            continue  # it has ended, or it is nobody's business
        if int(process.name) != os.getpid() and (str(directory).encode() in told or where.startswith(str(directory))):
            found.append(f"{process.name} {command!r}")
    return found


def sockets_of(users: list[str]) -> list[Path]:
    """SeaweedFS's sockets in /tmp, of the servers among some users."""
    ports = re.findall(r"\.port(?:\.grpc)?=(\d+)", " ".join(users))
    return [path for port in ports for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock")]  # noqa: S108 - its choice
