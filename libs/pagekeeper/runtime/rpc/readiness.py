"""The check, again and again, of what a process depends on.

A need that is not met makes its server say so within 5 s (`health`), and so does a need that is met again.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

from pagekeeper.runtime.errors import FORESEEN, to_public_error
from pagekeeper.runtime.rpc.health import NEED_SECONDS_MAX, Health, Need

PAUSE_SECONDS: Final = 1.0

_log: Final = logging.getLogger(__name__)


async def watch_needs(needs: Sequence[Need], health: Health) -> None:
    """Check each need until cancelled, one beside the other. Raises what a check raises that is a defect."""
    try:
        async with asyncio.TaskGroup() as group:
            for need in needs:
                group.create_task(_watch(need, health))
    except ExceptionGroup as defects:
        raise defects.exceptions[0] from None


async def _watch(need: Need, health: Health) -> None:
    while True:
        problem = await _problem(need)
        if await health.note(need.name, met=problem is None):
            _log.warning("%s is %s", need.name, f"away: {problem}" if problem is not None else "back")
        await asyncio.sleep(PAUSE_SECONDS)


async def _problem(need: Need) -> Exception | None:
    """Return what is wrong with a need, None when it is met."""
    try:
        async with asyncio.timeout(NEED_SECONDS_MAX):
            await need.check()
    except FORESEEN as problem:
        if to_public_error(problem) is None:
            raise
        return problem
    return None
