"""A transcriber behind a socket: what it hears is told, and nothing is lost when it fails."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from pagekeeper.fault_handler.main import open_summariser
from pagekeeper.fault_handler.summarising import NoSummariser
from pagekeeper.fault_handler.transcribing import HEARD_BYTES_MAX, Transcribing
from pagekeeper.runtime.errors import CannotStart
from pagekeeper.runtime.settings import SummariserSettings
from tests.integration.http_endpoint import answering

SOUND = b"fLaC\x00\x00 silence"


@asynccontextmanager
async def endpoint(status: int, body: bytes) -> AsyncIterator[tuple[list[bytes], Transcribing]]:
    """What it was asked, head and body, and a client of it."""
    asked: list[bytes] = []

    def answer(head: bytes, sent: bytes) -> tuple[int, bytes]:
        asked.append(head + sent)
        return status, body

    async with answering(answer) as address:
        transcriber = Transcribing(NoSummariser(), f"{address}/v1", "hears", "s3cret")
        try:
            yield asked, transcriber
        finally:
            await transcriber.close()


async def test_a_recording_is_sent_whole_and_what_is_heard_comes_back() -> None:
    async with endpoint(200, b'{"text": " Mind the gap.\\n"}') as (asked, transcriber):
        assert await transcriber.transcript("a1", "audio/flac; rate=8000", SOUND) == "Mind the gap."
    [request] = asked
    assert request.startswith(b"POST /v1/audio/transcriptions HTTP/1.1")
    assert b"authorization: bearer s3cret" in request.lower()
    assert SOUND in request
    assert b'filename="recording.flac"' in request
    assert b'name="model"\r\n\r\nhears' in request


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"no JSON"), (200, b"[]"), (200, b'{"text": null}'), (200, b"{}"), (500, b'{"text": "Never mind."}')],
)
async def test_what_is_said_stays_unknown_when_it_fails(status: int, body: bytes) -> None:
    async with endpoint(status, body) as (asked, transcriber):
        assert await transcriber.transcript("a1", "audio/flac", SOUND) == ""
    assert len(asked) == 1


async def test_a_failure_is_in_the_log_and_the_key_is_not(caplog: pytest.LogCaptureFixture) -> None:
    nobody = Transcribing(NoSummariser(), "http://127.0.0.1:9/v1", "hears", "s3cret")
    with caplog.at_level(logging.WARNING):
        assert await nobody.transcript("a1", "audio/flac", SOUND) == ""
    await nobody.close()
    assert "a recording is not transcribed: ConnectError" in caplog.text
    assert "s3cret" not in caplog.text


async def test_what_is_too_large_is_not_sent() -> None:
    async with endpoint(200, b'{"text": "x"}') as (asked, transcriber):
        assert await transcriber.transcript("a1", "audio/flac", bytes(HEARD_BYTES_MAX + 1)) == ""
    assert not asked


def test_an_endpoint_needs_its_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PK_TRANSCRIBER_URL", "http://127.0.0.1:8081/v1")
    with pytest.raises(CannotStart, match="PK_TRANSCRIBER_MODEL"):
        open_summariser(SummariserSettings())
    monkeypatch.setenv("PK_TRANSCRIBER_MODEL", "hears")
    assert isinstance(open_summariser(SummariserSettings()), Transcribing)
