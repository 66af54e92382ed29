"""The making of lower levels, away from the event loop: a page of 300 KB takes half a second of a processor.

`SubprocessCompressor` has a process of its own make lower levels. The process has the lowest priority and ends with its
parent. Requests and answers are frames: four bytes of length, then JSON. `InlineCompressor` makes lower levels where it
is called.
"""

import asyncio
import json
import logging
import os
import signal
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, replace
from typing import BinaryIO, Final, Protocol

from pagekeeper.core.compress.compressor import Compressed, Source
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.pages import CompressionLevel, MediaDescription, Modality
from pagekeeper.core.previews import Preview
from pagekeeper.core.wellformed import whole_text
from pagekeeper.fault_handler.viewing import lowered
from pagekeeper.runtime.tokens import EncodingName, tokenizer

NICENESS: Final = 10
LENGTH_BYTES: Final = 4
CLOSE_SECONDS: Final = 2.0
ANSWER_SECONDS_MAX: Final = 120.0
"""A page of 4 MiB takes seven, of a processor that others want too."""

_log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Page:
    """The input of compression: the text that a model can read, and the bytes of a medium."""

    source: Source
    data: bytes = b""
    heard: str = ""
    """What a model says is said in it."""


class CompressionRunner(Protocol):
    async def lower(self, pages: Sequence[Page]) -> list[list[Compressed]]:
        """All lower levels of each that are worth having, in the order of `pages`."""
        ...

    async def close(self) -> None: ...


class InlineCompressor:
    def __init__(self, registry: CompressorRegistry, count: Callable[[str], int]) -> None:
        self._registry = registry
        self._count = count

    async def lower(self, pages: Sequence[Page]) -> list[list[Compressed]]:
        return self.lower_now(pages)

    def lower_now(self, pages: Sequence[Page]) -> list[list[Compressed]]:
        return [lowered(self._registry, page.source, page.data, page.heard, self._count) for page in pages]

    async def close(self) -> None:
        pass


class SubprocessCompressor:
    """Starts its process when it is first needed. One that died or never answered is replaced.

    The page is then compressed in a thread, without the bytes of media, because a crash of a decoder would end this
    process.
    """

    def __init__(self, inline: InlineCompressor, answer_seconds_max: float = ANSWER_SECONDS_MAX) -> None:
        self._inline = inline
        self._answer_seconds_max = answer_seconds_max
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def lower(self, pages: Sequence[Page]) -> list[list[Compressed]]:
        async with self._turn:
            process = self._process or await self._start()
            # Until the answer is read, the process is nobody's: a call that is cancelled leaves half of one behind.
            self._process = None
            async with AsyncExitStack() as unless_answered:
                unless_answered.push_async_callback(_end, process)
                try:
                    async with asyncio.timeout(self._answer_seconds_max):
                        answer = await _asked(process, pages)
                except (BrokenPipeError, ConnectionResetError, TimeoutError, asyncio.IncompleteReadError) as failure:
                    problem = f"{type(failure).__name__}: {failure}".rstrip(": ")
                    about = {"pid": process.pid, "pages": [page.source.page_id for page in pages]}
                    _log.warning("the process that compresses died or is stuck: %s", problem, extra=about)
                else:
                    unless_answered.pop_all()
                    self._process = process
                    return answer
            return await asyncio.to_thread(self._inline.lower_now, [replace(page, data=b"") for page in pages])

    async def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            await _end(process)

    async def _start(self) -> asyncio.subprocess.Process:
        # In a session of its own, so that Ctrl-C ends it by the end of its input and not in the middle of a page.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )


async def _asked(process: asyncio.subprocess.Process, pages: Sequence[Page]) -> list[list[Compressed]]:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(_frame([_packed(page) for page in pages]))
    await process.stdin.drain()
    length = int.from_bytes(await process.stdout.readexactly(LENGTH_BYTES), "big")
    answer = json.loads(await process.stdout.readexactly(length))
    return [[_compressed(*one) for one in made] for made in answer]


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await asyncio.wait_for(process.wait(), CLOSE_SECONDS)


def _frame(value: object) -> bytes:
    data = json.dumps(value, ensure_ascii=False).encode()
    return len(data).to_bytes(LENGTH_BYTES, "big") + data


def _packed(page: Page) -> dict[str, object]:
    source = {**asdict(page.source), "modality": page.source.modality.value}
    return {**source, "data": b64encode(page.data).decode(), "heard": page.heard}


def _unpacked(page_id: str, modality: str, text: str, media: dict[str, object] | None, data: str, heard: str) -> Page:
    described = None
    if media is not None:
        scenes = media["scenes"]
        assert isinstance(scenes, list)
        described = MediaDescription(**{**media, "scenes": tuple(scenes)})  # type: ignore[arg-type]  # fields by name
    return Page(Source(page_id, Modality(modality), text, described), b64decode(data), heard)


def _packed_level(made: Compressed) -> tuple[object, ...]:
    preview = made.preview and (made.preview.mime_type, b64encode(made.preview.data).decode())
    return int(made.level), whole_text(made.text), made.tokens, made.compressor, preview


def _compressed(level: int, text: str, tokens: int, compressor: str, preview: tuple[str, str] | None) -> Compressed:
    shown = Preview(preview[0], b64decode(preview[1])) if preview else None
    return Compressed(CompressionLevel(level), text, tokens, compressor, shown)


def serve(requests: BinaryIO, answers: BinaryIO, inline: InlineCompressor) -> None:
    """Answer each frame by one, until there is no more."""
    while len(length := requests.read(LENGTH_BYTES)) == LENGTH_BYTES:
        pages = [_unpacked(**one) for one in json.loads(requests.read(int.from_bytes(length, "big")))]
        answers.write(_frame([[_packed_level(one) for one in made] for made in inline.lower_now(pages)]))
        answers.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    serve(
        sys.stdin.buffer,
        sys.stdout.buffer,
        InlineCompressor(CompressorRegistry.default(), tokenizer(EncodingName.O200K_BASE).count),
    )
