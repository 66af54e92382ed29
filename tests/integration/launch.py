"""A launcher to be interrupted: a stack of stand-ins in the directory given, until the end.

    python launch.py <directory>

Says `started` when everything runs.
"""

import asyncio
import sys
from pathlib import Path

from pagekeeper.local.stack import LocalStack

STAND_IN = (sys.executable, str(Path(__file__).with_name("stand_in.py").resolve()))


async def launch(directory: Path) -> None:
    async with LocalStack(directory, serve=STAND_IN) as stack:
        sys.stdout.write("started\n")
        sys.stdout.flush()
        await stack.watch()


if __name__ == "__main__":
    asyncio.run(launch(Path(sys.argv[1])))
