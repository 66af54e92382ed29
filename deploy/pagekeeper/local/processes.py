"""Our own processes: a service each, or all of them in one."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from pagekeeper.local.child import Child
from pagekeeper.local.ports import HOST
from pagekeeper.runtime.rpc.probe import SERVING, health_of

START_SECONDS_MAX: Final = 180.0
"""Long, because five processes import at once, which a busy machine takes minutes for. A process that ends while it
starts is noticed at once; the deadline is for one that hangs."""
STOP_SECONDS_MAX: Final = 25.0
"""A little more than the calls in flight get to end."""
SERVE: Final = (sys.executable, "-m", "pagekeeper.app", "serve")


class Process(Child):
    """A process that serves gRPC on a port of 127.0.0.1, with grpc.health.v1 among it.

    `environment` is added to this process's own. The log, one file in `directory`, continues over restarts.
    """

    def __init__(
        self, name: str, command: Sequence[str], environment: Mapping[str, str], directory: Path, port: int
    ) -> None:
        super().__init__(name, directory / f"{name}.log", stop_seconds_max=STOP_SECONDS_MAX)
        self.port = port
        self._command = command
        self._environment = environment
        self._directory = directory

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{HOST}:{self.port}"

    async def start(self) -> None:
        """Start, and return when it says SERVING. Raises StartFailed, PortTaken; then it does not run."""
        await self._run(
            self._command,
            {**os.environ, **self._environment},
            self._directory,
            ready=self._is_serving,
            timeout_seconds=START_SECONDS_MAX,
            ports=[self.port],
        )

    async def _is_serving(self) -> bool:
        ca = self._environment.get("PK_TLS_CA")
        return await health_of(self.address, ca=Path(ca) if ca else None) == SERVING
