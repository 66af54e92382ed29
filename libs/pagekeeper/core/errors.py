"""Everything the platform refuses on purpose, one class per reason.

The names are those of `ErrorReason` in `error_reason.proto`, which documents each for callers. Which gRPC code a
reason travels with is the runtime's business (`pagekeeper.runtime.errors`); what went wrong is said here.
"""

from collections.abc import Callable
from typing import ClassVar


class PagekeeperError(Exception):
    """A refusal with a reason that a program can branch on.

    `metadata` holds what the caller needs to act, as strings; its keys are documented with the reason.
    """

    reason: ClassVar[str]

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = metadata

    def __reduce__(self) -> "tuple[Callable[..., PagekeeperError], tuple[object, ...]]":
        """For `pickle`: an error as it is, whatever its constructor takes."""
        return _again, (type(self), self.args, vars(self))


def _again(kind: type[PagekeeperError], args: tuple[object, ...], facts: dict[str, object]) -> PagekeeperError:
    error = kind.__new__(kind, *args)
    vars(error).update(facts)
    return error


class TokenMissing(PagekeeperError):
    reason = "TOKEN_MISSING"


class TokenInvalid(PagekeeperError):
    reason = "TOKEN_INVALID"


class TokenExpired(PagekeeperError):
    reason = "TOKEN_EXPIRED"


class TokenAudience(PagekeeperError):
    reason = "TOKEN_AUDIENCE"


class InvalidField(PagekeeperError):
    """One field of the request is wrong; `field` is its path and the message says what would be right."""

    reason = "INVALID_FIELD"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}", field=field)
        self.field = field
        self.problem = problem


class ContentTooLarge(PagekeeperError):
    reason = "CONTENT_TOO_LARGE"

    def __init__(self, field: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{field} has {size_bytes:,} bytes; at most {limit_bytes:,} are accepted",
            field=field,
            size_bytes=str(size_bytes),
            limit_bytes=str(limit_bytes),
        )


class BudgetTooSmall(PagekeeperError):
    """The mandatory parts of a prompt alone exceed the budget that was asked for."""

    reason = "BUDGET_TOO_SMALL"

    def __init__(self, budget_tokens: int, needed_tokens: int) -> None:
        super().__init__(
            f"budget_tokens is {budget_tokens:,}; rules, tools, manifest, pinned pages and the user's input "
            f"alone need {needed_tokens:,}",
            field="budget_tokens",
            budget_tokens=str(budget_tokens),
            needed_tokens=str(needed_tokens),
        )
        self.needed_tokens = needed_tokens


class SessionNotFound(PagekeeperError):
    """No such session for this tenant: never existed, was deleted, or is another tenant's. Nobody can tell which."""

    reason = "SESSION_NOT_FOUND"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} does not exist", session_id=session_id)


class PageNotFound(PagekeeperError):
    reason = "PAGE_NOT_FOUND"

    def __init__(self, page_id: str) -> None:
        super().__init__(f"page {page_id!r} does not exist in this session", page_id=page_id)


class CheckpointNotFound(PagekeeperError):
    reason = "CHECKPOINT_NOT_FOUND"

    def __init__(self, checkpoint_id: str) -> None:
        super().__init__(f"checkpoint {checkpoint_id!r} does not exist in this session", checkpoint_id=checkpoint_id)


class RevisionNotFound(PagekeeperError):
    """A revision or turn that this session has not reached, or that precedes its first event."""

    reason = "REVISION_NOT_FOUND"

    def __init__(self, asked: str, latest: int) -> None:
        super().__init__(f"{asked} is not in this session's history; it is at revision {latest}", latest=str(latest))


class ServiceNotFound(PagekeeperError):
    """A server was asked for the health of a service that it does not serve."""

    reason = "SERVICE_NOT_FOUND"

    def __init__(self, service: str) -> None:
        super().__init__(f"no service {service!r} here", service=service)


class MethodNotFound(PagekeeperError):
    """A call of a method that the server does not have."""

    reason = "METHOD_NOT_FOUND"

    def __init__(self) -> None:
        super().__init__("this server does not have the method; the API's files name those that it has")


class SessionExists(PagekeeperError):
    reason = "SESSION_EXISTS"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} already exists", session_id=session_id)


class PageExists(PagekeeperError):
    reason = "PAGE_EXISTS"

    def __init__(self, page_id: str) -> None:
        super().__init__(f"page {page_id!r} already exists; set new_version to append a version of it", page_id=page_id)


class CheckpointExists(PagekeeperError):
    reason = "CHECKPOINT_EXISTS"

    def __init__(self, checkpoint_id: str) -> None:
        super().__init__(f"checkpoint {checkpoint_id!r} already exists", checkpoint_id=checkpoint_id)


class RequestIdReused(PagekeeperError):
    """The request_id was already used for a request with another body."""

    reason = "REQUEST_ID_REUSED"

    def __init__(self, request_id: str) -> None:
        super().__init__(f"request_id {request_id!r} was already used for another request", request_id=request_id)


class OutcomeUnknown(PagekeeperError):
    """The request may be one that was carried out, and nothing tells whether it was."""

    reason = "OUTCOME_UNKNOWN"

    def __init__(self, request_id: str, problem: str) -> None:
        super().__init__(
            f"whether request {request_id!r} was carried out before cannot be told: {problem}", request_id=request_id
        )


class SessionClosed(PagekeeperError):
    reason = "SESSION_CLOSED"

    def __init__(self, session_id: str) -> None:
        super().__init__(f"session {session_id!r} is closed; it can be read but not changed", session_id=session_id)


class LevelUnavailable(PagekeeperError):
    """The page has no representation at the level asked for, or at any lower fidelity that would fit."""

    reason = "LEVEL_UNAVAILABLE"


class RevisionConflict(PagekeeperError):
    """Another writer came first: `expected_revision` is stale, or the session is written to faster than we could."""

    reason = "REVISION_CONFLICT"

    def __init__(self, expected: int, actual: int) -> None:
        super().__init__(
            f"the session is at revision {actual}, not {expected}", expected=str(expected), actual=str(actual)
        )
        self.actual = actual


class LogFull(PagekeeperError):
    reason = "LOG_FULL"


class FaultLimitReached(PagekeeperError):
    reason = "FAULT_LIMIT_REACHED"


class FaultTokensExceeded(PagekeeperError):
    reason = "FAULT_TOKENS_EXCEEDED"


class PinBudgetExceeded(PagekeeperError):
    """Pinning these pages would leave less of the budget than a turn needs."""

    reason = "PIN_BUDGET_EXCEEDED"


class TooManyRequests(PagekeeperError):
    reason = "TOO_MANY_REQUESTS"


class LogUnavailable(PagekeeperError):
    """The log could not be reached in time. The append may or may not have happened."""

    reason = "LOG_UNAVAILABLE"


class StoreUnavailable(PagekeeperError):
    reason = "STORE_UNAVAILABLE"


class ServiceUnavailable(PagekeeperError):
    reason = "SERVICE_UNAVAILABLE"


class ReleaseTooOld(PagekeeperError):
    """The process cannot fold the session: its log names rules or a policy of a newer release."""

    reason = "RELEASE_TOO_OLD"

    def __init__(self, needed: str, known: str) -> None:
        super().__init__(
            f"this release is too old for the session, which was written by {needed}; it knows {known}", needed=needed
        )


class ContentCorrupt(PagekeeperError):
    """Stored bytes do not match their digest. They are never returned."""

    reason = "CONTENT_CORRUPT"


class DeadlineExceeded(PagekeeperError):
    reason = "DEADLINE_EXCEEDED"


class InternalError(PagekeeperError):
    reason = "INTERNAL"
