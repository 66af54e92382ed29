"""Who may call: at the gateway with a public token, at a service with an internal one, nobody with anything else."""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import grpc
import jwt
import pytest
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo  # type: ignore[import-untyped]
from grpc_status import rpc_status

from pagekeeper.core.errors import (
    PagekeeperError,
    SessionNotFound,
    TokenAudience,
    TokenExpired,
    TokenInvalid,
    TokenMissing,
)
from pagekeeper.local.stack import LocalStack
from pagekeeper.runtime.bearer_tokens import INTERNAL_AUDIENCE, PUBLIC_AUDIENCE
from pagekeeper.runtime.errors import from_rpc_error
from pagekeeper.v1 import artifact_storage_service_pb2 as artifact_pb
from pagekeeper.v1 import (
    artifact_storage_service_pb2_grpc,
    fault_handler_service_pb2_grpc,
    memory_service_pb2_grpc,
    page_table_service_pb2_grpc,
    working_set_service_pb2_grpc,
)
from pagekeeper.v1 import memory_service_pb2 as pb

pytestmark = pytest.mark.xdist_group("stacks")

GET = pb.GetSessionRequest(session_id="none")
LONG_AGO = 1_000_000_000
FAR_OFF = 4_000_000_000
CLAIMS = {"tenant": "alice", "sub": "someone", "aud": PUBLIC_AUDIENCE, "iat": LONG_AGO, "exp": FAR_OFF}


Invoke = Callable[..., Awaitable[Any]]


@pytest.fixture
async def get_session(stack: LocalStack) -> AsyncIterator[Invoke]:
    """GetSession, without any of what our client adds."""
    async with grpc.aio.insecure_channel(stack.endpoint) as channel:
        stub: Any = memory_service_pb2_grpc.MemoryServiceStub(channel)
        yield stub.GetSession


def signed(stack: LocalStack, variable: str, **claims: object) -> str:
    """A token of this stack's own key, and what `claims` say instead of the usual; None leaves a claim out."""
    return jwt.encode({k: v for k, v in (CLAIMS | claims).items() if v is not None}, key(stack, variable), "HS256")


def key(stack: LocalStack, variable: str) -> bytes:
    return Path(stack.environment[variable]).read_bytes().strip()


def unsigned(header: dict[str, str], signature: str = "") -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, CLAIMS)]
    return ".".join([*parts, signature])


async def refusal(invoke: Invoke, request: Message, *headers: str) -> PagekeeperError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await invoke(request, metadata=tuple(("authorization", header) for header in headers), timeout=20)
    return from_rpc_error(caught.value)


async def test_a_good_token_is_let_in(stack: LocalStack, get_session: Invoke) -> None:
    for header in (f"Bearer {signed(stack, 'PK_TOKEN_KEY')}", f"bearer {stack.token('alice')}"):
        assert type(await refusal(get_session, GET, header)) is SessionNotFound


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"exp": LONG_AGO}, TokenExpired),
        ({"exp": None}, TokenInvalid),
        ({"exp": "soon"}, TokenInvalid),
        ({"nbf": FAR_OFF}, TokenInvalid),
        ({"aud": "another"}, TokenAudience),
        ({"aud": INTERNAL_AUDIENCE}, TokenAudience),
        ({"aud": None}, TokenInvalid),
        ({"tenant": None}, TokenInvalid),
        ({"tenant": "a.*"}, TokenInvalid),
        ({"tenant": "x" * 65}, TokenInvalid),
        ({"tenant": ["alice"]}, TokenInvalid),
        ({"sub": ""}, TokenInvalid),
    ],
    ids=str,
)
async def test_a_token_that_says_something_wrong(
    claims: dict[str, object], expected: type[PagekeeperError], stack: LocalStack, get_session: Invoke
) -> None:
    token = signed(stack, "PK_TOKEN_KEY", **claims)
    error = await refusal(get_session, GET, f"Bearer {token}")
    assert type(error) is expected
    assert token not in str(error)


async def test_a_token_that_nobody_signed_or_somebody_else(stack: LocalStack, get_session: Invoke) -> None:
    good = signed(stack, "PK_TOKEN_KEY")
    tokens = [
        unsigned({"alg": "none", "typ": "JWT"}),
        unsigned({"alg": "NONE"}),
        unsigned({"alg": "HS256"}),
        unsigned({"alg": "HS256"}, signature="AAAA"),
        unsigned({"alg": "none"}, signature=good.rpartition(".")[2]),
        jwt.encode(CLAIMS, b"another key that is long enough to sign", "HS256"),
        jwt.encode(CLAIMS, key(stack, "PK_TOKEN_KEY"), "HS512"),
        signed(stack, "PK_INTERNAL_KEY"),
        good[:-4] + "AAAA",
        "not.a.token",
        "x" * 5_000,
        "",
    ]
    for token in tokens:
        assert type(await refusal(get_session, GET, f"Bearer {token}")) is TokenInvalid, token[:80]


async def test_a_call_without_a_token(stack: LocalStack, get_session: Invoke) -> None:
    assert type(await refusal(get_session, GET)) is TokenMissing
    assert type(await refusal(get_session, GET, "Basic YTpi")) is TokenMissing
    assert type(await refusal(get_session, GET, stack.token("alice"))) is TokenMissing
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await get_session(GET)
    status = rpc_status.from_call(cast(grpc.Call, caught.value))
    assert status is not None
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    info = ErrorInfo.FromString(status.details[0].value)
    assert (info.reason, info.domain) == ("TOKEN_MISSING", "pagekeeper")


async def test_the_two_kinds_of_token_are_never_interchangeable(stack_of_five: LocalStack) -> None:
    """A public token is refused at every internal port; an internal one at the gateway; each is good in its place."""
    public = f"Bearer {stack_of_five.token('alice')}"
    internal = f"Bearer {signed(stack_of_five, 'PK_INTERNAL_KEY', aud=INTERNAL_AUDIENCE)}"
    read = artifact_pb.GetBlobsRequest()
    ports: dict[str, tuple[Any, str, Any]] = {
        "gateway": (memory_service_pb2_grpc.MemoryServiceStub, "GetSession", GET),
        "page-table": (page_table_service_pb2_grpc.PageTableServiceStub, "GetSession", GET),
        "working-set": (
            working_set_service_pb2_grpc.WorkingSetServiceStub,
            "GetStats",
            pb.GetStatsRequest(session_id="none"),
        ),
        "fault-handler": (
            fault_handler_service_pb2_grpc.FaultHandlerServiceStub,
            "Fault",
            pb.FaultPageRequest(request_id="r", session_id="none", page_id="p"),
        ),
        "artifact-storage": (artifact_storage_service_pb2_grpc.ArtifactStorageServiceStub, "GetBlobs", read),
    }
    assert set(ports) == set(stack_of_five.processes)
    for name, (stub, method, request) in ports.items():
        async with grpc.aio.insecure_channel(stack_of_five.processes[name].address) as channel:
            invoke = getattr(stub(channel), method)
            good, bad = (public, internal) if name == "gateway" else (internal, public)
            # Signed by the other key and for the other audience: the signature is checked first.
            assert type(await refusal(invoke, request, bad)) is TokenInvalid, name
            assert not isinstance(await refusal(invoke, request, good), TokenInvalid | TokenAudience), name
            assert type(await refusal(invoke, request)) is TokenMissing, name
            other = signed(stack_of_five, "PK_INTERNAL_KEY", aud=PUBLIC_AUDIENCE)
            expected = TokenInvalid if name == "gateway" else TokenAudience
            assert type(await refusal(invoke, request, f"Bearer {other}")) is expected, name
