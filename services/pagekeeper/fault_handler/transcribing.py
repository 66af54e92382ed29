"""Transcripts of recordings, by a model that an operator names; made in the background only, while nobody waits.

The endpoint is asked for recordings without a transcript. When it fails, what is said in them stays unknown and the log
says so.
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Final

import httpx

from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.wellformed import whole_text
from pagekeeper.fault_handler.summarising import AT_ONCE, Summariser, client_of, problem_of

HEARD_SECONDS_MAX: Final = 300.0
HEARD_BYTES_MAX: Final = 25_000_000
"""The largest file that OpenAI's endpoint takes."""
ENDING_OF: Final = {
    "audio/flac": ".flac",
    "audio/x-flac": ".flac",
    "audio/mp4": ".m4a",
    "audio/x-m4a": ".m4a",
    "audio/mpeg": ".mp3",
    "audio/ogg": ".ogg",
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "audio/webm": ".webm",
    "video/mp4": ".mp4",
    "video/mpeg": ".mpeg",
    "video/webm": ".webm",
}
"""Of a file's name, by content type: such endpoints tell formats by it."""

_log: Final = logging.getLogger(__name__)


class Transcribing:
    """Another summariser, and an endpoint that speaks OpenAI's audio transcriptions. The endpoint's key is never
    shown.
    """

    def __init__(self, summariser: Summariser, url: str, model: str, key: str) -> None:
        """`url` is the endpoint's base, such as `http://localhost:8080/v1`."""
        self._summariser = summariser
        self._address = f"{url.rstrip('/')}/audio/transcriptions"
        self._model = model
        self._turns = asyncio.Semaphore(AT_ONCE)
        self._client = client_of(key, HEARD_SECONDS_MAX)

    async def close(self) -> None:
        await self._summariser.close()
        await self._client.aclose()

    async def rewrite(self, source: Source, made: Sequence[Compressed]) -> list[Compressed]:
        return await self._summariser.rewrite(source, made)

    async def transcript(self, page_id: str, mime_type: str, data: bytes) -> str:
        if len(data) > HEARD_BYTES_MAX:
            return ""
        name = f"recording{ENDING_OF.get(mime_type.partition(';')[0].strip().lower(), '')}"
        try:
            async with self._turns:
                response = await self._client.post(
                    self._address,
                    data={"model": self._model, "response_format": "json"},
                    files={"file": (name, data, mime_type)},
                )
            response.raise_for_status()
            text: object = response.json()["text"]
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as failure:
            _log.warning("a recording is not transcribed: %s", problem_of(failure), extra={"page": page_id})
            return ""
        return whole_text(text.strip()) if isinstance(text, str) else ""
