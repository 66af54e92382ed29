"""What a server raises is what its caller catches."""

from collections.abc import Iterator

import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from grpc.aio import AioRpcError, Metadata
from hypothesis import given
from hypothesis import strategies as st

from pagekeeper.core import errors
from pagekeeper.runtime.blobs import port as blobs
from pagekeeper.runtime.errors import (
    MESSAGE_BYTES_MAX,
    METADATA_VALUE_BYTES_MAX,
    RULES,
    STATUS_DETAILS,
    from_rpc_error,
    to_public_error,
    to_status,
)
from pagekeeper.runtime.log import port as logs
from pagekeeper.runtime.queue import port as queues

TRAILERS_BYTES_MAX = 8_192
"""What gRPC accepts by default for all trailing metadata together."""

EXAMPLES: dict[type[errors.PagekeeperError], errors.PagekeeperError] = {
    type(example): example
    for example in (
        errors.InvalidField("pages[2].page_id", "must be 1 to 64 characters, not 'a.b'"),
        errors.ContentTooLarge("pages[0].text", 5_000_000, 4_194_304),
        errors.BudgetTooSmall(100, 2_000),
        errors.SessionNotFound("s1"),
        errors.PageNotFound("p1"),
        errors.CheckpointNotFound("c1"),
        errors.RevisionNotFound("turn 7", 42),
        errors.ServiceNotFound("pagekeeper.v1.Nothing"),
        errors.MethodNotFound(),
        errors.SessionExists("s1"),
        errors.PageExists("p1"),
        errors.CheckpointExists("c1"),
        errors.RequestIdReused("r1"),
        errors.OutcomeUnknown("r1", "revisions 3 to 5 cannot be read"),
        errors.SessionClosed("s1"),
        errors.RevisionConflict(3, 5),
        errors.ReleaseTooOld("policy reuse/9", "the policies reuse/1, reuse/2"),
        *(
            kind("it is so — ünd ausführlich", page_id="p1")
            for kind in (
                errors.TokenMissing,
                errors.TokenInvalid,
                errors.TokenExpired,
                errors.TokenAudience,
                errors.LevelUnavailable,
                errors.LogFull,
                errors.FaultLimitReached,
                errors.FaultTokensExceeded,
                errors.PinBudgetExceeded,
                errors.TooManyRequests,
                errors.LogUnavailable,
                errors.StoreUnavailable,
                errors.ServiceUnavailable,
                errors.ContentCorrupt,
                errors.DeadlineExceeded,
                errors.InternalError,
            )
        ),
    )
}


def sent(error: errors.PagekeeperError) -> AioRpcError:
    """What a caller's grpc makes of the server's answer."""
    status = to_status(error)
    trailers = Metadata((STATUS_DETAILS, status.SerializeToString()))
    return AioRpcError(RULES[type(error)].code, Metadata(), trailers, details=status.message)


def details(status: Status) -> Iterator[ErrorInfo | BadRequest | RetryInfo]:
    for detail in status.details:
        for kind in (ErrorInfo, BadRequest, RetryInfo):
            if detail.Is(kind.DESCRIPTOR):
                unpacked = kind()
                detail.Unpack(unpacked)
                yield unpacked


def test_there_is_an_example_of_every_class() -> None:
    assert set(EXAMPLES) == set(RULES)


@pytest.mark.parametrize("error", EXAMPLES.values(), ids=[kind.reason for kind in EXAMPLES])
def test_an_error_survives_the_journey(error: errors.PagekeeperError) -> None:
    arrived = from_rpc_error(sent(error))
    assert type(arrived) is type(error)
    assert vars(arrived) == vars(error)
    assert str(arrived) == str(error)


@pytest.mark.parametrize("error", EXAMPLES.values(), ids=[kind.reason for kind in EXAMPLES])
def test_details_say_what_programs_need(error: errors.PagekeeperError) -> None:
    rule = RULES[type(error)]
    status = to_status(error)
    assert status.code == rule.code.value[0]
    info, *rest = details(status)
    assert (info.reason, info.domain, dict(info.metadata)) == (error.reason, "pagekeeper", error.metadata)
    match rest:
        case [BadRequest() as bad]:
            assert rule.code is grpc.StatusCode.INVALID_ARGUMENT
            assert [violation.field for violation in bad.field_violations] == [error.metadata["field"]]
        case [RetryInfo() as retry]:
            assert rule.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert retry.retry_delay.ToMilliseconds() == rule.retry_delay_ms > 0
        case _:
            assert not rest


@given(message=st.text(), field=st.text())
def test_any_text_can_be_sent(message: str, field: str) -> None:
    arrived = from_rpc_error(sent(errors.InvalidField(field, message)))
    assert isinstance(arrived, errors.InvalidField)


def test_the_longest_error_fits_the_trailers() -> None:
    error = errors.InvalidField("宇" * 5_000, "宙" * 5_000)
    failure = sent(error)
    arrived = from_rpc_error(failure)
    assert len(arrived.message.encode()) <= MESSAGE_BYTES_MAX
    assert len(arrived.metadata["field"].encode()) <= METADATA_VALUE_BYTES_MAX
    message_as_percent_encoded = 3 * len((failure.details() or "").encode())
    details_as_base64 = 4 * len(to_status(error).SerializeToString()) / 3
    assert message_as_percent_encoded + details_as_base64 < TRAILERS_BYTES_MAX


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses", errors.ServiceUnavailable),
        (grpc.StatusCode.CANCELLED, "CANCELLED", errors.ServiceUnavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", errors.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "too many", errors.TooManyRequests),
        (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            "CLIENT: Received message larger than max (9 vs. 8)",
            errors.InternalError,
        ),
        (grpc.StatusCode.UNAUTHENTICATED, "no", errors.TokenInvalid),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", errors.MethodNotFound),
        (grpc.StatusCode.UNKNOWN, "", errors.InternalError),
    ],
)
def test_a_failure_of_grpc_itself_has_a_class(
    code: grpc.StatusCode, message: str, kind: type[errors.PagekeeperError]
) -> None:
    arrived = from_rpc_error(AioRpcError(code, Metadata(), Metadata(), details=message))
    assert type(arrived) is kind
    assert arrived.message == (message or code.name)


@pytest.mark.parametrize("end", ["CLIENT: Sent", "SERVER: Received"])
def test_a_request_that_grpc_finds_too_large_is_the_callers(end: str) -> None:
    details = f"{end} message larger than max (2007 vs. 1000)"
    arrived = from_rpc_error(AioRpcError(grpc.StatusCode.RESOURCE_EXHAUSTED, Metadata(), Metadata(), details=details))
    assert type(arrived) is errors.ContentTooLarge
    assert (arrived.metadata["size_bytes"], arrived.metadata["limit_bytes"]) == ("2007", "1000")


@pytest.mark.parametrize(("reason", "domain"), [("OF_A_NEWER_RELEASE", "pagekeeper"), ("PAGE_NOT_FOUND", "elsewhere")])
def test_an_unknown_reason_is_told_by_its_code(reason: str, domain: str) -> None:
    status = Status(code=14, message="it is new")
    status.details.add().Pack(ErrorInfo(reason=reason, domain=domain, metadata={"key": "value"}))
    trailers = Metadata((STATUS_DETAILS, status.SerializeToString()))
    arrived = from_rpc_error(AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), trailers, details="it is new"))
    assert (type(arrived), arrived.message) == (errors.ServiceUnavailable, "it is new")


class Unheard(errors.PagekeeperError):
    reason = "UNHEARD"


REFUSAL = errors.PageNotFound("p1")


@pytest.mark.parametrize(
    ("raised", "kind"),
    [
        (REFUSAL, errors.PageNotFound),
        (TimeoutError(), errors.DeadlineExceeded),
        (logs.AppendConflict(3, 5, maybe_applied=False), errors.RevisionConflict),
        (logs.NoRoom(), errors.LogFull),
        (logs.RecordTooLarge(9_000_000), errors.ContentTooLarge),
        (logs.NoAnswer("10.0.0.7 is gone", maybe_applied=True), errors.LogUnavailable),
        (logs.LogBroken(), errors.ContentCorrupt),
        (queues.QueueFull(), errors.LogFull),
        (queues.QueueUnavailable("10.0.0.7 is gone"), errors.LogUnavailable),
        (blobs.BlobUnavailable("10.0.0.7 is gone"), errors.StoreUnavailable),
        (blobs.BlobRefused("10.0.0.7 is gone"), errors.StoreUnavailable),
        (blobs.BlobMissing("10.0.0.7 is gone"), errors.ContentCorrupt),
        (blobs.BlobCorrupt("10.0.0.7 is gone"), errors.ContentCorrupt),
        (ExceptionGroup("side by side", [REFUSAL, TimeoutError()]), errors.PageNotFound),
    ],
)
def test_a_foreseen_failure_is_told_without_its_details(raised: Exception, kind: type[errors.PagekeeperError]) -> None:
    told = to_public_error(raised)
    assert type(told) is kind
    assert "10.0.0.7" not in told.message


@pytest.mark.parametrize(
    "raised",
    [
        KeyError("what somebody wrote"),
        Unheard("not in the table"),
        ExceptionGroup("side by side", [REFUSAL, KeyError("p1")]),
        ExceptionGroup("side by side", [ExceptionGroup("deeper", [KeyError("p1")])]),
    ],
)
def test_everything_else_is_a_defect(raised: Exception) -> None:
    assert to_public_error(raised) is None
