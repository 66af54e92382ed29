"""What memory costs in process: making a prompt, looking for what the user's words call for, keeping a page's metadata.

    python -m bench.quality.cost [--rounds N]

Prompts: 200 resident pages of 2 KiB, by the code that the gateway runs, with its caches warm and the working set as
working-set describes it; the user's words differ each time, so no prompt is remembered. Beside it, in turns within one
run, the guide's system builds its context of the same texts. Both in one thread, without a wire.

Memory: a session of 10,000 pages folded from its log, as a replica folds it. What tracemalloc says the fold holds, over
the pages. Bytes of content are not among it, because all pages are placed in the object store; ids, hints, digests and
places are.
"""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from random import Random
from typing import Final

import click
import uvloop

from bench.quality.guide import guide_memory
from bench.quality.in_process import platform
from bench.quality.report import SEED, Figure, Wanted, show, write
from bench.quality.texts import Kind, Texts
from pagekeeper.client import Pagekeeper, Session, assistant, user
from pagekeeper.core import events as ev
from pagekeeper.core.embedding import Embedder, WordsAlone
from pagekeeper.core.hints import make_hint
from pagekeeper.core.pages import (
    Extent,
    MessageRole,
    Modality,
    PageType,
    StoredRepresentation,
    TrustClass,
)
from pagekeeper.core.recall import recall
from pagekeeper.core.search import SessionIndex
from pagekeeper.core.session import Session as FoldedSession
from pagekeeper.runtime import codec
from pagekeeper.runtime.embedder import StaticEmbedder
from pagekeeper.v1 import event_pb2

ROUNDS: Final = 300
RESIDENT_PAGES: Final = 200
PAGE_BYTES: Final = 2_048
BUDGET_TOKENS: Final = 400_000
RECALL_PAGES: Final = 10_000
RECALL_CHARS: Final = 400
FOLDED_PAGES: Final = 10_000
PAGES_A_SEGMENT: Final = 256
LOWER_LEVELS: Final = ((1, 60), (2, 25), (3, 9))
"""Levels and their tokens."""


@dataclass(frozen=True, slots=True)
class Timed:
    """Percentiles in milliseconds."""

    p50_ms: float
    p99_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Timed":
        ordered = sorted(seconds)
        return cls(ordered[len(ordered) // 2] * 1e3, ordered[int(len(ordered) * 0.99)] * 1e3)


@click.command()
@click.option("--rounds", type=click.IntRange(20), default=ROUNDS, show_default=True)
def main(rounds: int) -> None:
    """Measure what memory costs."""
    run(rounds)


def run(rounds: int = ROUNDS) -> list[Figure]:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        prompts = runner.run(_prompts(rounds))
    recalled, by_words = _recall(StaticEmbedder(), rounds), _recall(WordsAlone(), rounds)
    bare, levels = _page_bytes(with_levels=False), _page_bytes(with_levels=True)
    guide, new, same = prompts["guide"], prompts["new words"], prompts["the same again"]
    figures = [
        Figure("make a prompt of 200 pages, p50", "the guide's system", guide.p50_ms, "ms"),
        Figure("make a prompt of 200 pages, p50", "ours, new words", new.p50_ms, "ms"),
        Figure("make a prompt of 200 pages, p50", "ours, the same again", same.p50_ms, "ms"),
        Figure("make a prompt of 200 pages, p99", "the guide's system", guide.p99_ms, "ms"),
        Figure("make a prompt of 200 pages, p99", "ours, new words", new.p99_ms, "ms"),
        Figure("p50 / the guide's system", "ours, new words", new.p50_ms / guide.p50_ms, "", Wanted.AT_MOST, 0.7),
        Figure("p50 / the guide's system", "ours, the same again", same.p50_ms / guide.p50_ms),
        Figure(f"pre-pass over {RECALL_PAGES:,} pages, p50", "ours", recalled.p50_ms, "ms", Wanted.AT_MOST, 5),
        Figure(f"pre-pass over {RECALL_PAGES:,} pages, p99", "ours", recalled.p99_ms, "ms"),
        Figure(f"pre-pass over {RECALL_PAGES:,} pages, p50", "ours, by words alone", by_words.p50_ms, "ms"),
        Figure("memory a page", "ours, full level alone", bare, "bytes", Wanted.AT_MOST, 600),
        Figure("memory a page", "ours, all four levels", levels, "bytes", Wanted.AT_MOST, 600),
    ]
    show(f"Cost in process, {rounds} rounds", figures)
    write("cost", figures, {"rounds": rounds, "resident_pages": RESIDENT_PAGES, "page_bytes": PAGE_BYTES})
    return figures


async def _prompts(rounds: int) -> dict[str, Timed]:
    texts = Texts(Random(SEED))
    pages = [texts.draw(Kind.PROSE, PAGE_BYTES) for _ in range(RESIDENT_PAGES)]
    memory = guide_memory(BUDGET_TOKENS)
    for text in pages:
        await memory.add_to_working_set(memory.create_page(text, hint=make_hint(text, Modality.TEXT)))
    async with platform() as pagekeeper:
        session = await _session_of(pagekeeper, pages)

        async def guide(_: int) -> None:
            memory.build_context(system_prompt="Be brief.")

        async def new_words(number: int) -> None:
            await session.assemble(user_input=f"And what of the {number}th?", system_prompt="Be brief.")

        async def same_again(_: int) -> None:
            await session.assemble(user_input="And what else?", system_prompt="Be brief.")

        await same_again(0)
        ways = {"guide": guide, "new words": new_words}
        timed = await _in_turns(ways, rounds)
        return timed | await _in_turns({"the same again": same_again}, rounds)


async def _session_of(pagekeeper: Pagekeeper, pages: Sequence[str]) -> Session:
    session = await pagekeeper.open_session(max_l0_tokens=BUDGET_TOKENS)
    for number, text in enumerate(pages):
        await session.append(user(text) if number % 2 == 0 else assistant(text))
    return session


async def _in_turns(ways: Mapping[str, Callable[[int], Awaitable[None]]], rounds: int) -> dict[str, Timed]:
    """Each way once a round, so that whatever disturbs the machine disturbs them alike."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    gc.collect()
    for number in range(rounds):
        for name, way in ways.items():
            began = time.thread_time()
            await way(number)
            seconds[name].append(time.thread_time() - began)
    return {name: Timed.of(values) for name, values in seconds.items()}


def _recall(embedder: Embedder, rounds: int) -> Timed:
    texts, index = Texts(Random(SEED)), SessionIndex(embedder)
    for number in range(RECALL_PAGES):
        index.add(f"p{number:05}", texts.draw(Kind.PROSE, RECALL_CHARS))
    seconds = []
    for _ in range(rounds):
        words = texts.draw(Kind.PROSE, 80)
        began = time.thread_time()
        recall(index, words, limit=256)
        seconds.append(time.thread_time() - began)
    index.close()
    return Timed.of(seconds)


def _page_bytes(*, with_levels: bool) -> float:
    """What a folded page takes. Records are decoded one by one, as they come from the log, so they share nothing."""
    records = list(_log(with_levels=with_levels))
    gc.collect()
    tracemalloc.start()
    session = FoldedSession()
    for revision, data in enumerate(records, start=1):
        session.apply(revision, codec.decode_transaction(event_pb2.LogRecord.FromString(data).transaction))
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held / len(session.pages)


def _log(*, with_levels: bool) -> Iterator[bytes]:
    """A session's records: pages come one by one, get their lower levels, and move to the object store by segments."""
    texts = Texts(Random(SEED))

    def record(number: int, *events: ev.Event) -> bytes:
        name = f"{sha256(str(number).encode()).hexdigest()[:32]}"
        transaction = ev.Transaction(name, sha256(name.encode()).digest(), 1_760_000_000_000 + number, events)
        return codec.encode_transaction(transaction)

    yield record(0, ev.SessionOpened(ev.SessionConfig(max_l0_tokens=32_000)))
    for start in range(0, FOLDED_PAGES, PAGES_A_SEGMENT):
        placements: list[ev.PlacedRepresentation] = []
        for number in range(start, min(start + PAGES_A_SEGMENT, FOLDED_PAGES)):
            page = _mapped(number, texts)
            lower = [_stored(page.page_id, *level) for level in LOWER_LEVELS] if with_levels else []
            yield record(number + 1, ev.PagesMapped((page,)))
            if lower:
                added = tuple(ev.AddedRepresentation(page.page_id, 1, one) for one in lower)
                yield record(FOLDED_PAGES + number + 1, ev.RepresentationsAdded(added))
            for one in (page.full, *lower):
                extent = Extent(f"acme/s/pages/{start:032x}", len(placements) * 700, one.size_bytes)
                placements.append(ev.PlacedRepresentation(page.page_id, 1, one.level, extent))
        yield record(2 * FOLDED_PAGES + start + 1, ev.PagesPlaced(tuple(placements)))


def _mapped(number: int, texts: Texts) -> ev.MappedPage:
    page_id = sha256(f"page {number}".encode()).hexdigest()[:16]
    text = texts.draw(Kind.PROSE, RECALL_CHARS)
    return ev.MappedPage(
        page_id=page_id,
        version=1,
        modality=Modality.TEXT,
        page_type=PageType.TRANSCRIPT,
        role=MessageRole.USER if number % 2 == 0 else MessageRole.ASSISTANT,
        trust=TrustClass.USER,
        hint=make_hint(text, Modality.TEXT),
        importance=0.5,
        pinned=False,
        full=_stored(page_id, 0, 120),
    )


def _stored(page_id: str, level: int, size_tokens: int) -> StoredRepresentation:
    data = (f"{page_id} {level} " * size_tokens)[: size_tokens * 4].encode()
    compressor = f"text-extract/{level}" if level else ""
    return StoredRepresentation(level, size_tokens, len(data), sha256(data).digest(), compressor, inline=data)


if __name__ == "__main__":
    main()
