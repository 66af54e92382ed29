"""Public errors in place of what a service raised: the same from this process and from another one."""

import asyncio
import logging
from typing import Any, Final, NoReturn

import grpc

from pagekeeper.core.errors import InternalError, PagekeeperError
from pagekeeper.runtime.errors import STATUS_DETAILS, rule, to_public_error, to_status
from pagekeeper.runtime.rpc.methods import TRACE

_log: Final = logging.getLogger(__name__)


def refusal_of(error: Exception, path: str, trace: str) -> PagekeeperError:
    """Return what the caller of `path` is told of `error`; what it is not told goes to the logs."""
    refusal = to_public_error(error)
    if refusal is None:
        _log.error("a defect in %s", path, exc_info=error)
        return InternalError(f"internal error; look for trace {trace} in the logs")
    if refusal is not error:
        _log.warning("%s failed: %s", path, error, extra={"reason": refusal.reason})
    return refusal


def uncaught_cancellation(cancelled: asyncio.CancelledError) -> Exception:
    """Let the cancellation of a call go on its way; return a defect for one that a service let escape.

    grpc answers nothing at all to a handler that ends in a CancelledError, so the caller would wait for its deadline.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise cancelled
    escape = RuntimeError("a CancelledError escaped from work that nobody cancelled")
    escape.__cause__ = cancelled
    return escape


async def answer_refusal(
    context: "grpc.aio.ServicerContext[Any, Any]", refusal: PagekeeperError, trace: str = ""
) -> NoReturn:
    """End a call with the status for `refusal`: code, message, details, and the trace where there is one."""
    status = to_status(refusal)
    details = (STATUS_DETAILS, status.SerializeToString())
    await context.abort(rule(refusal).code, status.message, (details, (TRACE, trace)) if trace else (details,))
    raise AssertionError("abort raises")
