"""`python -m demo run`: what `make run` runs."""

import os
import sys
from collections.abc import Mapping, Sequence

from demo.options import read_options
from demo.replay.run import ReplayOptions, run_replay
from pagekeeper.app.printing import Printer
from pagekeeper.local.options import WrongOption
from pagekeeper.local.run import refuse, run
from pagekeeper.local.stack import LocalStack


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """Run, and answer the exit status: 0 when every check of the replay passed."""
    if list(arguments) != ["run"]:
        return refuse("usage: python -m demo run")
    try:
        options = read_options(environment)
    except WrongOption as wrong:
        return refuse(str(wrong))
    console = Printer()

    async def replayed(stack: LocalStack) -> int:
        return await run_replay(
            endpoint=stack.endpoint,
            token=stack.token(),
            ca=stack.ca,
            conversation=options.conversation,
            model=options.model,
            console=console,
            report=options.report,
            options=ReplayOptions(demand_paging=options.demand_paging),
        )

    return run(options.stack, replayed, console, once=options.once)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
