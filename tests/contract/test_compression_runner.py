"""What a `CompressionRunner` promises, made in the event loop or by a process apart."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from pagekeeper.core.compress.compressor import Source
from pagekeeper.core.compress.registry import CompressorRegistry
from pagekeeper.core.ids import TenantId
from pagekeeper.core.pages import MediaDescription, Modality
from pagekeeper.fault_handler.compression_frames import Page
from pagekeeper.fault_handler.compression_runner import CompressionRunner, ConfinedCompressor, InlineCompressor
from pagekeeper.fault_handler.turns import Line
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from tests.unit.films import film

HERE = InlineCompressor(CompressorRegistry.default(), tokenizer(EncodingName.O200K_BASE).count)
LINE = Line(TenantId("tenant"))
SAID = "The cellist moved to Ålesund in 1998 — and \u2028 she never sold the “Guarneri” again. 明日。 " * 9
PAGES = [
    Page(Source("p1", Modality.TEXT, SAID)),
    Page(Source("p2", Modality.STRUCTURED, '{"rows": [' + ",".join(f'{{"id": {n}}}' for n in range(60)) + "]}")),
    Page(Source("p3", Modality.VIDEO, "", MediaDescription("A rehearsal", SAID, scenes=("I", "II"))), b"\xffno film"),
    Page(Source("p4", Modality.TEXT, "short")),
]
FILM = Page(Source("p5", Modality.VIDEO, "", MediaDescription()), film(10, 200, said=["Mind the step."]))


@pytest.fixture(params=["here", "apart"])
async def compression_runner(request: pytest.FixtureRequest) -> AsyncIterator[CompressionRunner]:
    one: CompressionRunner = HERE if request.param == "here" else ConfinedCompressor(HERE)
    yield one
    await one.close()


async def test_every_page_gets_its_levels_in_order(compression_runner: CompressionRunner) -> None:
    lowered = await compression_runner.lower([*PAGES, FILM], LINE)
    assert lowered == HERE.lower_now([*PAGES, FILM])
    assert [bool(made) for made in lowered] == [True, True, True, False, True]
    assert lowered[-1][0].preview
    assert await compression_runner.lower([], LINE) == []


async def test_calls_at_once_get_their_own_answers(compression_runner: CompressionRunner) -> None:
    answers = await asyncio.gather(*(compression_runner.lower([page], LINE) for page in PAGES))
    assert list(chain.from_iterable(answers)) == HERE.lower_now(PAGES)


async def test_a_cancelled_call_leaves_nothing_to_the_next(compression_runner: CompressionRunner) -> None:
    call = asyncio.ensure_future(compression_runner.lower(PAGES[:1] * 50, LINE))
    await asyncio.sleep(0.05)
    call.cancel()
    await asyncio.wait([call])
    assert await compression_runner.lower(PAGES[1:2], LINE) == HERE.lower_now(PAGES[1:2])


async def test_a_process_that_died_is_replaced() -> None:
    compression_runner = ConfinedCompressor(HERE)
    assert await compression_runner.lower([*PAGES, FILM], LINE) == HERE.lower_now([*PAGES, FILM])
    died = _children()
    assert len(died) == 2, "one for texts, one for media"
    for pid in died:
        os.kill(pid, signal.SIGKILL)
    assert await compression_runner.lower([*PAGES, FILM], LINE) == HERE.lower_now([*PAGES, FILM])
    assert await compression_runner.lower([*PAGES, FILM], LINE) == HERE.lower_now([*PAGES, FILM])
    assert len(_children()) == 2
    assert not set(died) & set(_children())
    await compression_runner.close()
    assert not _children()


async def test_a_process_that_is_stuck_is_replaced_and_its_medium_is_what_was_written() -> None:
    compression_runner = ConfinedCompressor(HERE, answer_seconds_max=2.0)
    stuck: list[int] = []
    while len(stuck) < 2:  # On a busy machine one may take longer to start than it has to answer.
        await compression_runner.lower([PAGES[0], FILM], LINE)
        stuck = _children()
    for pid in stuck:
        os.kill(pid, signal.SIGSTOP)
    written = replace(FILM, data=b"")
    assert await compression_runner.lower([PAGES[0], FILM], LINE) == HERE.lower_now([PAGES[0], written])
    assert not set(stuck) & set(_children())
    await compression_runner.close()


def _children() -> list[int]:
    """Processes that this one started to compress."""
    pids = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [int(pid) for pid in pids if "compression_child" in Path(f"/proc/{pid}/cmdline").read_text()]
