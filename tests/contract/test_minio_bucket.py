"""What becomes of answers that no S3 server should give, and of connections that break: a script plays the server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from random import Random
from typing import Final

import pytest

from pagekeeper.runtime.blobs.minio_bucket import THREADS, MinioBucket
from pagekeeper.runtime.blobs.port import BlobCorrupt, BlobError, BlobRefused, BlobUnavailable, digest_of
from pagekeeper.runtime.blobs.store import ATTEMPTS_MAX, BlobStore
from pagekeeper.runtime.clock import SystemClock

CLOCK: Final = SystemClock()
DATA: Final = b"0123456789" * 1_000
DIGEST: Final = digest_of(DATA)


def answer(status: str, body: bytes, *, length: int | None = None, kind: str = "application/xml") -> bytes:
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n".encode() + body


def refusal(status: str, code: str) -> bytes:
    return answer(status, f"<Error><Code>{code}</Code><Message>as the script says</Message></Error>".encode())


GOOD: Final = answer("200 OK", DATA, kind="application/octet-stream")
BROKEN_OFF: Final = answer("200 OK", DATA[:5_000], length=len(DATA))
SHORT: Final = answer("200 OK", DATA[:5_000])
NOT_S3: Final = answer("502 Bad Gateway", b"<html>nothing behind this proxy</html>", kind="text/html")
SLOW_DOWN: Final = refusal("503 Service Unavailable", "SlowDown")
NOT_READY: Final = refusal("503 Service Unavailable", "XMinioServerNotInitialized")
DENIED: Final = refusal("403 Forbidden", "AccessDenied")
NO_HTTP: Final = b"SSH-2.0-OpenSSH_9.2\r\n"
HANG_UP: Final = b""


class Script:
    """A server that gives its answers in turn, the last one again and again, one per connection."""

    def __init__(self, *answers: bytes, pause_seconds: float = 0.0) -> None:
        self._answers = list(answers)
        self._pause_seconds = pause_seconds
        self.asked = 0
        self._open = 0
        self.deserted = asyncio.Event()

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[BlobStore]:
        server = await asyncio.start_server(self._play, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        bucket = MinioBucket(
            "scripted",
            endpoint=f"127.0.0.1:{port}",
            access_key="access",
            secret_key="secret-key",
            secure=False,
            clock=CLOCK,
        )
        async with server:
            with closing(bucket):
                yield BlobStore(bucket, Random(1))

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        self.deserted.clear()
        try:
            await reader.readuntil(b"\r\n\r\n")
            now = self._answers[min(self.asked, len(self._answers) - 1)]
            self.asked += 1
            step = 100 if self._pause_seconds else len(now) or 1
            for start in range(0, len(now), step):
                writer.write(now[start : start + step])
                await writer.drain()
                await asyncio.sleep(self._pause_seconds)
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has gone
        finally:
            self._open -= 1
            if not self._open:
                self.deserted.set()
            writer.close()


async def get(store: BlobStore, timeout_seconds: float = 5.0) -> bytes:
    return await store.get("t/a", digest=DIGEST, timeout_seconds=timeout_seconds)


@pytest.mark.parametrize("trouble", [BROKEN_OFF, NOT_S3, SLOW_DOWN, NOT_READY, NO_HTTP, HANG_UP])
async def test_what_may_pass_is_tried_again(trouble: bytes) -> None:
    script = Script(trouble, trouble, GOOD)
    async with script.playing() as store:
        assert await get(store) == DATA
    assert script.asked == 3


@pytest.mark.parametrize("trouble", [BROKEN_OFF, NOT_S3, SLOW_DOWN, NOT_READY, NO_HTTP, HANG_UP])
async def test_what_does_not_pass_is_unavailable_after_a_few_attempts(trouble: bytes) -> None:
    script = Script(trouble)
    async with script.playing() as store:
        with pytest.raises(BlobUnavailable):
            await get(store)
    assert script.asked == ATTEMPTS_MAX


@pytest.mark.parametrize(("trouble", "error"), [(SHORT, BlobCorrupt), (DENIED, BlobRefused)])
async def test_what_cannot_pass_is_said_at_once(trouble: bytes, error: type[BlobError]) -> None:
    script = Script(trouble, GOOD)
    async with script.playing() as store:
        with pytest.raises(error):
            await get(store)
    assert script.asked == 1


async def test_a_server_that_drips_holds_nobody_beyond_the_timeout() -> None:
    script = Script(GOOD, pause_seconds=0.05)  # would take five seconds
    async with script.playing() as store:
        started = CLOCK.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(THREADS):
                tasks.create_task(expect(BlobUnavailable, store, 0.3))
        assert CLOCK.monotonic() - started < 2.5
        async with asyncio.timeout(1.0):
            await script.deserted.wait()  # every thread has let go of its connection


async def expect(error: type[BlobError], store: BlobStore, timeout_seconds: float) -> None:
    with pytest.raises(error):
        await get(store, timeout_seconds)


async def test_a_caller_that_gives_up_leaves_the_store_usable() -> None:
    script = Script(GOOD, pause_seconds=0.001)
    async with script.playing() as store:
        for _ in range(3 * THREADS):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.005):
                    await get(store)
        assert await get(store) == DATA
