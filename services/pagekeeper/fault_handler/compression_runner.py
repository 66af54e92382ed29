"""The making of lower levels, away from the event loop: a page of 300 KB takes half a second of a processor.

`ConfinedCompressor` has processes apart make lower levels: `compression_child` says what confines them. Media and texts
have processes of their own, so that no text waits for a decoder. Tenants take turns at each. `InlineCompressor` makes
lower levels where it is called.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final, Protocol

from pagekeeper.core.compress.compressor import Compressed
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.fault_handler import compression_child
from pagekeeper.fault_handler.compression_frames import (
    ANSWER_BYTES_MAX,
    LENGTH_BYTES,
    Died,
    Page,
    frame,
    packed_pages,
    unpacked_answer,
)
from pagekeeper.fault_handler.turns import Line, Turns
from pagekeeper.fault_handler.viewing import Lowered, lowered, lowered_undecoded

START_SECONDS_MAX: Final = 120.0
CLOSE_SECONDS: Final = 2.0
ANSWER_SECONDS_MAX: Final = 120.0
"""More than the process gives whatever works on a request: only a process that is itself stuck is later."""
MEDIA_WORKERS: Final = 2
TEXT_WORKERS: Final = 1
ATTEMPTS_MAX: Final = 2
"""A process may have died before it was asked anything."""
ENVIRONMENT_KEPT: Final = ("PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH")
"""Where modules and libraries are found: all that a process that decodes is told of this one's environment."""
ENVIRONMENT_SET: Final = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
"""Threads would reserve most of the memory that a process may map."""

_log: Final = logging.getLogger(__name__)


class CompressionRunner(Protocol):
    async def lower(self, pages: Sequence[Page], line: Line) -> list[list[Compressed]]:
        """All lower levels of each that are worth having, in the order of `pages`, which are one tenant's.

        Raises TooManyRequests when too much of the tenant's waits already.
        """
        ...

    async def close(self) -> None: ...


class InlineCompressor:
    def __init__(self, registry: CompressorRegistry, count: Callable[[str], int]) -> None:
        self._registry = registry
        self._count = count

    async def lower(self, pages: Sequence[Page], line: Line) -> list[list[Compressed]]:  # noqa: ARG002 - the port's
        return self.lower_now(pages)

    def lower_now(self, pages: Sequence[Page]) -> list[list[Compressed]]:
        return [self._lowered(page).levels for page in pages]

    async def close(self) -> None:
        pass

    def _lowered(self, page: Page) -> Lowered:
        if page.undecodable:
            return lowered_undecoded(self._registry, page.source, page.heard, self._count)
        return lowered(self._registry, page.source, page.data, page.heard, self._count)


class ConfinedCompressor:
    """Starts each process when it is first needed, and replaces one that died.

    Each medium is a request of its own, so a medium that ends its process costs no other page anything. The page then
    is what was written about it; when its own bytes are to blame, its levels say that it cannot be decoded. Without a
    process, texts are compressed in a thread: media never are, because a crash of a decoder would end this process.
    """

    def __init__(
        self,
        inline: InlineCompressor,
        *,
        media_workers: int = MEDIA_WORKERS,
        answer_seconds_max: float = ANSWER_SECONDS_MAX,
    ) -> None:
        self._inline = inline
        self._media = _Workers(compression_child.MEDIA, media_workers, answer_seconds_max)
        self._texts = _Workers(compression_child.TEXTS, TEXT_WORKERS, answer_seconds_max)

    async def lower(self, pages: Sequence[Page], line: Line) -> list[list[Compressed]]:
        texts = [page for page in pages if not page.data]
        written = iter(await self._written(texts, line)) if texts else iter(())
        return [await self._decoded(page, line) if page.data else next(written) for page in pages]

    async def close(self) -> None:
        await self._media.close()
        await self._texts.close()

    async def _decoded(self, page: Page, line: Line) -> list[Compressed]:
        about = {"page": page.source.page_id, "tenant": line.tenant}
        answer = await self._media.ask([page], line)
        if isinstance(answer, Died):
            _log.warning("a medium ended the process that decoded it: %s", answer.how, extra=about)
            [levels] = await self._written([replace(page, data=b"", undecodable=answer.by_itself)], line)
            return levels
        [made] = answer
        if made.problem:
            _log.info("%s", made.problem, extra=about)
        return made.levels

    async def _written(self, pages: Sequence[Page], line: Line) -> list[list[Compressed]]:
        answer = await self._texts.ask(pages, line)
        if isinstance(answer, Died):
            about = {"pages": [page.source.page_id for page in pages], "tenant": line.tenant}
            _log.warning("the process that compresses died: %s", answer.how, extra=about)
            return await asyncio.to_thread(self._inline.lower_now, pages)
        return [made.levels for made in answer]


class _Workers:
    """Processes of `compression_child`, and turns at them."""

    def __init__(self, purpose: str, workers: int, answer_seconds_max: float) -> None:
        self._purpose = purpose
        self._turns = Turns(workers)
        self._answer_seconds_max = answer_seconds_max
        self._idle: list[_Process] = []

    async def ask(self, pages: Sequence[Page], line: Line) -> list[Lowered] | Died:
        """The levels of each, or how the process died that had them. Raises TooManyRequests."""
        async with self._turns.turn(line):
            return await self._answer(packed_pages(pages), len(pages))

    async def close(self) -> None:
        idle, self._idle = self._idle, []
        for process in idle:
            await _end(process.subprocess)

    async def _answer(self, request: bytes, pages: int) -> list[Lowered] | Died:
        problem = ""
        for _ in range(ATTEMPTS_MAX):
            process = self._idle.pop() if self._idle else await _spawned(self._purpose)
            async with AsyncExitStack() as unless_answered:
                # A call that is cancelled leaves half of an answer behind.
                unless_answered.push_async_callback(_end, process.subprocess)
                try:
                    await process.started()
                    async with asyncio.timeout(self._answer_seconds_max):
                        answer = unpacked_answer(await process.asked(request), pages)
                except TimeoutError:
                    return Died(f"no answer in {self._answer_seconds_max:g} s", by_itself=False)
                except (BrokenPipeError, ConnectionResetError, asyncio.IncompleteReadError, ValueError) as failure:
                    problem = f"{type(failure).__name__}: {failure}"
                else:
                    unless_answered.pop_all()
                    self._idle.append(process)
                    return answer
        return Died(problem, by_itself=False)


class _Process:
    """A process of `compression_child`, with its pipes."""

    def __init__(self, subprocess: asyncio.subprocess.Process) -> None:
        assert subprocess.stdin is not None
        assert subprocess.stdout is not None
        self.subprocess = subprocess
        self._requests = subprocess.stdin
        self._answers = subprocess.stdout
        self._is_ready = False

    async def started(self) -> None:
        """Wait until the process takes requests. Raises TimeoutError, IncompleteReadError."""
        if not self._is_ready:
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._next_frame()
            self._is_ready = True

    async def asked(self, request: bytes) -> bytes:
        """The answer to a request. Raises BrokenPipeError, ConnectionResetError, IncompleteReadError, ValueError."""
        self._requests.write(frame(request))
        await self._requests.drain()
        return await self._next_frame()

    async def _next_frame(self) -> bytes:
        length = int.from_bytes(await self._answers.readexactly(LENGTH_BYTES), "big")
        if length > ANSWER_BYTES_MAX:
            raise ValueError(f"an answer of {length:,} bytes")
        return await self._answers.readexactly(length)


async def _spawned(purpose: str) -> _Process:
    # In a session of its own, so that Ctrl-C ends it by the end of its input and not in the middle of a page.
    environment = {name: os.environ[name] for name in ENVIRONMENT_KEPT if name in os.environ}
    subprocess = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", compression_child.__name__, str(os.getpid()), purpose),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**environment, **ENVIRONMENT_SET},
        start_new_session=True,
    )
    return _Process(subprocess)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
    await asyncio.wait_for(process.wait(), CLOSE_SECONDS)
