"""Whatever a stranger sends, the answer is one of our refusals: with an ErrorInfo, and without a line in the logs."""

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo  # type: ignore[import-untyped]
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]

from pagekeeper.runtime.errors import STATUS_DETAILS, CannotStart
from pagekeeper.runtime.identity import Caller
from pagekeeper.runtime.rpc.calls import METADATA_BYTES_MAX, METADATA_ENTRY_BYTES
from pagekeeper.runtime.rpc.methods import MESSAGE_BYTES_MAX, methods
from pagekeeper.runtime.rpc.server import TRANSPORT_MESSAGE_BYTES_MAX, TRANSPORT_METADATA_BYTES_MAX
from pagekeeper.v1.artifact_storage_service_pb2 import BlobItem, BlobRef, GetBlobsRequest, GetBlobsResponse
from pagekeeper.v1.page_pb2 import Extent
from tests.integration.rpc_services import FAULTS, STORAGE, Faults, Storage, Surroundings

GET_BLOBS = f"/{STORAGE.full_name}/GetBlobs"
STREAM = f"/{FAULTS.full_name}/StreamFault"
WITHOUT_TOKENS = (
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)
WITH_TOKENS = [method.path for service in (STORAGE, FAULTS) for method in methods(service)]
CUT_OFF = b"\x0a\x7fno such length"


class Stranger:
    """Sends bytes to a server and reads what is answered."""

    def __init__(self, channel: grpc.aio.Channel, port: int, authorization: str, storage: Storage) -> None:
        self.channel = channel
        self.port = port
        self.token = (("authorization", authorization),)
        self.storage = storage

    async def refusal(
        self,
        path: str,
        *messages: bytes,
        metadata: tuple[tuple[str, str], ...] = (),
        timeout: float | None = 20,  # noqa: ASYNC109
    ) -> tuple[grpc.StatusCode, ErrorInfo, list[str]]:
        """The code, the ErrorInfo, and the fields of BadRequest of the refusal of a call."""
        call: Any = self.channel.stream_stream(path)(metadata=metadata, timeout=timeout)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self._talk(call, messages)
        status, info, bad = Status(), ErrorInfo(), BadRequest()
        details = dict(caught.value.trailing_metadata())
        assert STATUS_DETAILS in details, (caught.value.code(), caught.value.details())
        status.ParseFromString(details[STATUS_DETAILS])
        assert status.details[0].Unpack(info)
        for detail in status.details[1:]:
            detail.Unpack(bad)
        return caught.value.code(), info, [violation.field for violation in bad.field_violations]

    async def answer(self, raw: bytes, *metadata: tuple[str, str]) -> bytes:
        """The bytes that GetBlobs answers."""
        ask: Any = self.channel.unary_unary(GET_BLOBS)
        answered: bytes = await ask(raw, metadata=(*self.token, *metadata))
        return answered

    async def _talk(self, call: Any, messages: tuple[bytes, ...]) -> None:  # noqa: ANN401 - grpc's stub has no name for it
        for message in messages:
            await call.write(message)
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass


@pytest.fixture
async def stranger(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Stranger]:
    surroundings = Surroundings(tmp_path)
    storage = Storage()
    caplog.set_level(logging.INFO)
    async with (
        surroundings.server({STORAGE: storage, FAULTS: Faults()}) as server,
        surroundings.bare(server.port) as channel,
    ):
        yield Stranger(channel, server.port, surroundings.tokens.authorization(surroundings.caller()), storage)
    assert not caplog.records, "a stranger's bytes wrote to the logs"


@pytest.mark.parametrize("path", WITH_TOKENS)
async def test_bad_bytes_are_refused_once_the_token_is_verified(path: str, stranger: Stranger) -> None:
    code, info, _ = await stranger.refusal(path, CUT_OFF)
    assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    code, info, fields = await stranger.refusal(path, CUT_OFF, metadata=stranger.token)
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
    assert (info.domain, dict(info.metadata), fields) == ("pagekeeper", {"field": "request"}, ["request"])


@pytest.mark.parametrize("path", WITHOUT_TOKENS)
async def test_bad_bytes_are_refused_where_no_token_is_asked_for(path: str, stranger: Stranger) -> None:
    code, info, fields = await stranger.refusal(path, CUT_OFF)
    assert (code, info.reason, fields) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD", ["request"])


async def test_random_bytes_are_parsed_or_refused(stranger: Stranger) -> None:
    random = Random(5)
    for _ in range(200):
        raw = random.randbytes(random.randrange(40))
        try:
            GetBlobsRequest.FromString(raw)
        except DecodeError:
            code, info, _ = await stranger.refusal(GET_BLOBS, raw, metadata=stranger.token)
            assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")
        else:
            await stranger.answer(raw)


@pytest.mark.parametrize("path", [GET_BLOBS, STREAM, WITHOUT_TOKENS[0], WITHOUT_TOKENS[1]])
async def test_a_call_without_a_message_is_refused(path: str, stranger: Stranger) -> None:
    code, info, _ = await stranger.refusal(path, metadata=stranger.token)
    assert (code, info.reason, info.metadata["field"]) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "INVALID_FIELD",
        "request",
    )


@pytest.mark.parametrize("path", [GET_BLOBS, STREAM, WITHOUT_TOKENS[0]])
@pytest.mark.parametrize("size_bytes", [MESSAGE_BYTES_MAX + 1, TRANSPORT_MESSAGE_BYTES_MAX])
async def test_a_message_beyond_the_limit_is_refused_by_us(path: str, size_bytes: int, stranger: Stranger) -> None:
    code, info, _ = await stranger.refusal(path, bytes(size_bytes), metadata=stranger.token)
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTENT_TOO_LARGE")
    assert dict(info.metadata) == {
        "field": "request",
        "size_bytes": str(size_bytes),
        "limit_bytes": str(MESSAGE_BYTES_MAX),
    }


async def test_a_message_is_not_received_without_a_token(stranger: Stranger) -> None:
    """The client's writes end when the refusal arrives, though the message has not been sent."""
    code, info, _ = await stranger.refusal(GET_BLOBS, bytes(TRANSPORT_MESSAGE_BYTES_MAX + 1))
    assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")


@pytest.mark.parametrize("size_bytes", [METADATA_BYTES_MAX, TRANSPORT_METADATA_BYTES_MAX // 2])
async def test_metadata_beyond_the_limit_are_refused_by_us(size_bytes: int, stranger: Stranger) -> None:
    padding = (("x-padding", "x" * (size_bytes - METADATA_ENTRY_BYTES)),)
    code, info, _ = await stranger.refusal(GET_BLOBS, b"", metadata=(*stranger.token, *padding))
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTENT_TOO_LARGE")
    assert (info.metadata["field"], info.metadata["limit_bytes"]) == ("metadata", str(METADATA_BYTES_MAX))
    assert int(info.metadata["size_bytes"]) > size_bytes


async def test_metadata_below_the_limit_are_taken(stranger: Stranger) -> None:
    taken = METADATA_BYTES_MAX - 1_024
    await stranger.answer(b"", ("x-padding", "x" * taken))
    assert len(stranger.storage.callers) == 1


@pytest.mark.parametrize(
    "path",
    [f"/{STORAGE.full_name}/NoSuchMethod", "/no.such.Service/Do", "/grpc.health.v1.Health/List", "/", '/"x"/\t%ff'],
)
async def test_an_unknown_method_is_refused_by_us(path: str, stranger: Stranger) -> None:
    code, info, _ = await stranger.refusal(path, b"")
    assert (code, info.reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    code, info, _ = await stranger.refusal(path, b"", metadata=stranger.token)
    assert (code, info.reason) == (grpc.StatusCode.UNIMPLEMENTED, "METHOD_NOT_FOUND")


async def test_an_unknown_service_has_no_health(stranger: Stranger) -> None:
    code, info, _ = await stranger.refusal(WITHOUT_TOKENS[0], b"\x0a\x03abc")
    assert (code, info.reason, info.metadata["service"]) == (grpc.StatusCode.NOT_FOUND, "SERVICE_NOT_FOUND", "abc")


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.5])
async def test_a_deadline_is_answered_before_it_passes(seconds: float, stranger: Stranger) -> None:
    async def never(_: Caller) -> None:
        await asyncio.sleep(60)

    stranger.storage.behave = never
    code, info, _ = await stranger.refusal(GET_BLOBS, b"", metadata=stranger.token, timeout=seconds)
    assert (code, info.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_a_message_may_be_compressed(stranger: Stranger) -> None:
    request = GetBlobsRequest(refs=[BlobRef(extent=Extent(object_key="x" * 1_000, length=7))] * 50)
    ask: Any = stranger.channel.unary_unary(GET_BLOBS)
    raw = await ask(request.SerializeToString(), metadata=stranger.token, compression=grpc.Compression.Gzip)
    assert GetBlobsResponse.FromString(raw) == GetBlobsResponse(items=[BlobItem(data=bytes(7))] * 50)


async def test_what_unpacks_to_more_than_a_message_is_refused(stranger: Stranger) -> None:
    bomb = gzip.compress(bytes(50 * MESSAGE_BYTES_MAX))
    code, info, _ = await stranger.refusal(GET_BLOBS, bomb, metadata=stranger.token)
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "CONTENT_TOO_LARGE")
    code, info, _ = await stranger.refusal(GET_BLOBS, bomb[:2] + b"no gzip", metadata=stranger.token)
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_FIELD")


# What no client of gRPC sends


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """A frame of HTTP/2."""
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def raw_call(headers: dict[bytes, bytes]) -> bytes:
    """A connection's first bytes: its preface, its settings, and a call with an empty message."""
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": GET_BLOBS.encode(),
        b":authority": b"test",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
        **headers,
    }
    block = b"".join(b"\x00" + bytes([len(n)]) + n + bytes([len(v)]) + v for n, v in fields.items())
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    return preface + frame(1, 4, 1, block) + frame(0, 1, 1, bytes(5))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({b":path": b"/\xff\xfe/Do"}, grpc.StatusCode.UNAUTHENTICATED),
        ({b":path": b""}, grpc.StatusCode.UNAUTHENTICATED),
        ({b"authorization": b"Bearer \xff\xfe"}, grpc.StatusCode.UNAUTHENTICATED),
        ({b"x-request-id": b"\xff"}, grpc.StatusCode.UNAUTHENTICATED),
        ({b"x-other": b"\xed\xa0\x80"}, grpc.StatusCode.UNAUTHENTICATED),
    ],
)
async def test_headers_that_are_no_text_are_refused_and_the_server_goes_on(
    headers: dict[bytes, bytes], status: grpc.StatusCode, stranger: Stranger
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", stranger.port)
    writer.write(raw_call(headers))
    answered = b""
    async with asyncio.timeout(10):
        while b"grpc-status" not in answered:
            answered += await reader.read(65_536)
    code = str(status.value[0]).encode()
    assert b"grpc-status" + bytes([len(code)]) + code in answered
    writer.close()
    await stranger.answer(b"")


async def test_a_grpc_that_does_not_fit_is_refused_at_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("grpc._cython.cygrpc._schedule_rpc_coro")
    with pytest.raises(CannotStart, match="_schedule_rpc_coro"):
        Surroundings(tmp_path).server({STORAGE: Storage()})
