"""A lone NATS server that gave up writing because its disk was full, started again when the disk has space.

nats-server does not begin to write again by itself (`pagekeeper.runtime.log.store_health`). Where somebody else runs
the server, its liveness probe does what is done here: `/healthz` fails as long as a stream is not written to.
"""

import shutil
from typing import Final

from pagekeeper.local.servers import NatsServer
from pagekeeper.runtime.log.connection import Unreachable, connect, now
from pagekeeper.runtime.log.store_health import failing_streams

HEAL_SECONDS: Final = 2.0
"""How often a launcher looks."""
ASK_SECONDS_MAX: Final = 2.0
SPACE_BYTES_MIN: Final = 16 * 1024**2
"""With less space the server would give up again at once."""


async def heal(server: NatsServer) -> bool:
    """Whether the server had given up and was started again. Raises StartFailed, and then it does not run."""
    if not server.running or shutil.disk_usage(server.directory).free < SPACE_BYTES_MIN:
        return False
    try:
        async with connect([server.url], name="pagekeeper-launcher", timeout_seconds=ASK_SECONDS_MAX) as connection:
            failing = await failing_streams(connection, deadline=now() + ASK_SECONDS_MAX)
    except Unreachable:
        return False
    if failing:
        await server.restart()
    return bool(failing)
