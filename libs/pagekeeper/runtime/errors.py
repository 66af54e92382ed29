"""Both directions of an error's way: from a Python exception to a gRPC status with details, and back.

`error_reason.proto` documents what the reasons mean to a caller. `RULES` alone says with which canonical code a reason
travels, whether the error is definite, and after which delay to retry. An exception that is not in the table becomes
INTERNAL with the call's trace id; its text stays in the logs.

`to_public_error` turns the failures of the stores, which have classes of their own, into public errors.
"""

import re
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from pagekeeper.core import errors
from pagekeeper.runtime.blobs import port as blobs
from pagekeeper.runtime.log import port as logs
from pagekeeper.runtime.queue import port as queues
from pagekeeper.v1.error_reason_pb2 import ErrorReason

DOMAIN: Final = "pagekeeper"
STATUS_DETAILS: Final = "grpc-status-details-bin"
MESSAGE_BYTES_MAX: Final = 1_024
"""Longer messages are cut: gRPC allows 8 KiB of trailing metadata, and the message travels three times in it."""
METADATA_VALUE_BYTES_MAX: Final = 256


class CannotStart(Exception):
    """The process cannot run as it is configured. One line: what is wrong, and what would be right."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one class of errors is sent.

    `definite`: the operation did not and will not happen. `retry_delay_ms`: the sender of the same request may come
    back after so long; 0 when waiting alone would change nothing.
    """

    code: grpc.StatusCode
    definite: bool
    retry_delay_ms: int = 0


_C: Final = grpc.StatusCode
RULES: Final[dict[type[errors.PagekeeperError], Rule]] = {
    errors.TokenMissing: Rule(_C.UNAUTHENTICATED, definite=True),
    errors.TokenInvalid: Rule(_C.UNAUTHENTICATED, definite=True),
    errors.TokenExpired: Rule(_C.UNAUTHENTICATED, definite=True),
    errors.TokenAudience: Rule(_C.UNAUTHENTICATED, definite=True),
    errors.InvalidField: Rule(_C.INVALID_ARGUMENT, definite=True),
    errors.ContentTooLarge: Rule(_C.INVALID_ARGUMENT, definite=True),
    errors.BudgetTooSmall: Rule(_C.INVALID_ARGUMENT, definite=True),
    errors.SessionNotFound: Rule(_C.NOT_FOUND, definite=True),
    errors.PageNotFound: Rule(_C.NOT_FOUND, definite=True),
    errors.CheckpointNotFound: Rule(_C.NOT_FOUND, definite=True),
    errors.RevisionNotFound: Rule(_C.NOT_FOUND, definite=True),
    errors.ServiceNotFound: Rule(_C.NOT_FOUND, definite=True),
    errors.MethodNotFound: Rule(_C.UNIMPLEMENTED, definite=True),
    errors.SessionExists: Rule(_C.ALREADY_EXISTS, definite=True),
    errors.PageExists: Rule(_C.ALREADY_EXISTS, definite=True),
    errors.CheckpointExists: Rule(_C.ALREADY_EXISTS, definite=True),
    errors.RequestIdReused: Rule(_C.ALREADY_EXISTS, definite=True),
    errors.SessionClosed: Rule(_C.FAILED_PRECONDITION, definite=True),
    errors.LevelUnavailable: Rule(_C.FAILED_PRECONDITION, definite=True),
    errors.RevisionConflict: Rule(_C.ABORTED, definite=True),
    errors.OutcomeUnknown: Rule(_C.ABORTED, definite=False),
    errors.LogFull: Rule(_C.RESOURCE_EXHAUSTED, definite=True, retry_delay_ms=5_000),
    errors.FaultLimitReached: Rule(_C.RESOURCE_EXHAUSTED, definite=True),
    errors.FaultTokensExceeded: Rule(_C.RESOURCE_EXHAUSTED, definite=True),
    errors.PinBudgetExceeded: Rule(_C.RESOURCE_EXHAUSTED, definite=True),
    errors.TooManyRequests: Rule(_C.RESOURCE_EXHAUSTED, definite=True, retry_delay_ms=200),
    errors.LogUnavailable: Rule(_C.UNAVAILABLE, definite=False),
    errors.StoreUnavailable: Rule(_C.UNAVAILABLE, definite=True),
    errors.ServiceUnavailable: Rule(_C.UNAVAILABLE, definite=False),
    errors.ReleaseTooOld: Rule(_C.UNAVAILABLE, definite=True),
    errors.ContentCorrupt: Rule(_C.DATA_LOSS, definite=True),
    errors.DeadlineExceeded: Rule(_C.DEADLINE_EXCEEDED, definite=False),
    errors.InternalError: Rule(_C.INTERNAL, definite=False),
}
_PREFIX: Final = "ERROR_REASON_"
_BY_REASON: Final = {kind.reason: kind for kind in RULES}

# What gRPC itself answers, without our details; also for a reason of a newer release.
_BY_CODE: Final[dict[grpc.StatusCode, type[errors.PagekeeperError]]] = {
    _C.UNAVAILABLE: errors.ServiceUnavailable,
    _C.CANCELLED: errors.ServiceUnavailable,  # the server went away; a cancellation of ours is a CancelledError
    _C.DEADLINE_EXCEEDED: errors.DeadlineExceeded,
    _C.RESOURCE_EXHAUSTED: errors.TooManyRequests,
    _C.UNAUTHENTICATED: errors.TokenInvalid,
    _C.UNIMPLEMENTED: errors.MethodNotFound,
}
# gRPC's answer to a message that is too large has the same code as its answer to too many calls. A request was never
# served; a response was, and is too large by our fault.
_REQUEST_TOO_LARGE: Final = re.compile(
    r"(?:CLIENT: Sent|SERVER: Received) message larger than max \((\d+) vs\. (\d+)\)"
)
_RESPONSE_TOO_LARGE: Final = "message larger than max"


def reason_number(kind: type[errors.PagekeeperError]) -> "ErrorReason.ValueType":
    """The reason of a class of errors, as the status of one item of an answer carries it."""
    return ErrorReason.Value(f"{_PREFIX}{kind.reason}")


def reason_name(number: "ErrorReason.ValueType") -> str:
    """The reason that a number stands for, such as PAGE_NOT_FOUND; the number's digits for one of a newer release."""
    known = ErrorReason.DESCRIPTOR.values_by_number.get(number)
    return known.name.removeprefix(_PREFIX) if known else f"{number}"


def rule(error: errors.PagekeeperError) -> Rule:
    """How `error` is sent."""
    return RULES[type(error)]


FORESEEN: Final = (
    errors.PagekeeperError,
    logs.LogError,
    queues.QueueError,
    blobs.BlobError,
    TimeoutError,
    ExceptionGroup,
)
"""What `to_public_error` may know a public error for; anything else is a defect."""


def to_public_error(error: Exception) -> errors.PagekeeperError | None:
    """Return the error that a caller may see in place of `error`; None when `error` is a defect.

    A store's own words about its failure may name hosts and objects, and are for the logs only.
    """
    match error:
        case errors.PagekeeperError():
            return error if type(error) in RULES else None
        case logs.LogError() | queues.QueueError():
            return _of_the_bus(error)
        case blobs.BlobError():
            return _of_the_store(error)
        case TimeoutError():
            return errors.DeadlineExceeded("the deadline passed; what was asked for may have happened")
        case ExceptionGroup():
            # Of calls made side by side: the first refusal speaks for all, unless one of them is a defect.
            members = [to_public_error(member) for member in error.exceptions]
            return members[0] if all(members) else None
        case _:
            return None


def _of_the_bus(error: logs.LogError | queues.QueueError) -> errors.PagekeeperError | None:
    match error:
        case logs.AppendConflict():
            return errors.RevisionConflict(error.expected, error.actual)
        case logs.RecordTooLarge():
            return errors.ContentTooLarge("request", error.size_bytes, error.limit_bytes)
        case logs.NoRoom() | queues.QueueFull():
            return errors.LogFull("the log is full; nothing was written")
        case logs.NoAnswer() | queues.QueueUnavailable():
            return errors.LogUnavailable("the log does not answer; retry with the same request_id")
        case logs.SessionGone():
            return errors.SessionNotFound(error.key.session)
        case logs.LogBroken():
            return errors.ContentCorrupt("the session's log lacks a record")
        case _:
            return None


def _of_the_store(error: blobs.BlobError) -> errors.PagekeeperError | None:
    match error:
        case blobs.BlobUnavailable() | blobs.BlobRefused():
            return errors.StoreUnavailable("the object store does not do what it is asked; retry")
        case blobs.BlobMissing() | blobs.BlobCorrupt():
            return errors.ContentCorrupt("stored bytes are missing or are not what they were")
        case _:
            return None


def to_status(error: errors.PagekeeperError) -> Status:
    """Return what is sent for `error`: code, message, ErrorInfo, and BadRequest or RetryInfo where they apply."""
    sent = RULES[type(error)]
    message = _cut(error.message, MESSAGE_BYTES_MAX)
    status = Status(code=sent.code.value[0], message=message)
    metadata = {key: _cut(value, METADATA_VALUE_BYTES_MAX) for key, value in error.metadata.items()}
    status.details.add().Pack(ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if sent.code is _C.INVALID_ARGUMENT:
        violation = BadRequest.FieldViolation(field=metadata["field"], description=message, reason=error.reason)
        status.details.add().Pack(BadRequest(field_violations=[violation]))
    if sent.retry_delay_ms:
        delay = Duration()
        delay.FromMilliseconds(sent.retry_delay_ms)
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return status


def from_rpc_error(error: grpc.aio.AioRpcError) -> errors.PagekeeperError:
    """Return the error that the server raised; for a failure of gRPC itself, the nearest that we have.

    The reverse of `to_status`: class, message and metadata are those that were sent.
    """
    message = error.details() or error.code().name
    for key, value in error.trailing_metadata():
        if key == STATUS_DETAILS and isinstance(value, bytes):
            return _from_status(Status.FromString(value), error.code())
    if too_large := _REQUEST_TOO_LARGE.search(message):
        return errors.ContentTooLarge("request", int(too_large[1]), int(too_large[2]))
    if _RESPONSE_TOO_LARGE in message:
        return errors.InternalError(message)
    return _revive(_BY_CODE.get(error.code(), errors.InternalError), message, {})


def _from_status(status: Status, code: grpc.StatusCode) -> errors.PagekeeperError:
    info = ErrorInfo()
    for detail in status.details:
        if detail.Unpack(info) and info.domain == DOMAIN and info.reason in _BY_REASON:
            return _revive(_BY_REASON[info.reason], status.message, dict(info.metadata))
    return _revive(_BY_CODE.get(code, errors.InternalError), status.message, dict(info.metadata))


def _revive(kind: type[errors.PagekeeperError], message: str, metadata: dict[str, str]) -> errors.PagekeeperError:
    """Make an error of `kind` from what was sent, without its constructor: that would compose the message anew."""
    error = kind.__new__(kind, message)
    error.message = message
    error.metadata = metadata
    match error:
        case errors.InvalidField():
            error.field = metadata["field"]
            error.problem = message.removeprefix(f"{error.field} ")
        case errors.BudgetTooSmall():
            error.needed_tokens = int(metadata["needed_tokens"])
        case errors.RevisionConflict():
            error.actual = int(metadata["actual"])
        case _:
            pass  # the others have nothing of their own
    return error


def _cut(text: str, bytes_max: int) -> str:
    # A lone surrogate, which a model's JSON may smuggle into an id, is not UTF-8.
    raw = text.encode(errors="replace")
    return raw.decode() if len(raw) <= bytes_max else raw[: bytes_max - 3].decode(errors="ignore") + "…"
