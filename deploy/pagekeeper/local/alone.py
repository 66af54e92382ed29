"""A stack alone, until Ctrl-C: `python -m pagekeeper.local`, once the extra `local` is found to be installed."""

import os

from pagekeeper.app.printing import Printer
from pagekeeper.local.options import WrongOption, read_stack_options
from pagekeeper.local.run import refuse, run
from pagekeeper.local.stack import LocalStack


async def _nothing(stack: LocalStack) -> int:
    del stack
    return 0


def main() -> int:
    """Run, and answer the exit status: 0 when a signal ended it."""
    try:
        options = read_stack_options(os.environ)
    except WrongOption as wrong:
        return refuse(str(wrong))
    return run(options, _nothing, Printer(), once=False)
