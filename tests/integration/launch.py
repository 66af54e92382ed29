"""A launcher to be interrupted: a stack of stand-ins in the directory given, until the end.

    python launch.py <directory>

Says `started` when everything runs. REPLICAS and NATS are those of the launcher.
"""

import asyncio
import os
import sys
from pathlib import Path

from pagekeeper.local.options import read_stack_options
from pagekeeper.local.stack import LocalStack

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py").resolve()))


async def launch(directory: Path) -> None:
    options = read_stack_options(os.environ)
    async with LocalStack(
        directory, serve=STAND_IN, replicas=options.replicas, nats_servers=options.nats_servers
    ) as stack:
        sys.stdout.write("started\n")
        sys.stdout.flush()
        await stack.watch()


if __name__ == "__main__":
    asyncio.run(launch(Path(sys.argv[1])))
