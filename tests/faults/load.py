"""A load that remembers what it was told, so that afterwards each byte of it can be asked for.

Every writer has a session of its own and does one thing after the other, each with a request id, and sends it again
until it is answered. What was answered stands in the writer's ledger. `verify` then finds every page once, with its
bytes, and every turn counted once: a request that was lost or done twice shows in one or the other.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from random import Random
from typing import Self, TypeVar

from pagekeeper.client import Pagekeeper, Session, tool_result
from pagekeeper.core.errors import (
    DeadlineExceeded,
    FaultLimitReached,
    FaultTokensExceeded,
    LogUnavailable,
    ServiceUnavailable,
    StoreUnavailable,
)
from pagekeeper.v1 import memory_service_pb2 as pb

AWAY = (ServiceUnavailable, LogUnavailable, StoreUnavailable, DeadlineExceeded)
PATIENCE_SECONDS = 60.0
WORDS = ("harbour", "tide", "mole", "lantern", "ferry", "anchor", "rope", "gull", "fog", "bell", "pilot", "cargo")
LARGE_BYTES = 100_000
"""More than travels in the log."""

R = TypeVar("R")


@dataclass(slots=True)
class Counts:
    """What a load did so far."""

    acknowledged: int = 0
    repeated: int = 0
    checked_reads: int = 0


@dataclass(slots=True)
class Writer:
    """One session and its ledger: the digest of every acknowledged page, in order, and the turns that were begun."""

    pagekeeper: Pagekeeper
    session: Session
    random: Random
    counts: Counts
    large_share: float
    pages: dict[str, bytes] = field(default_factory=dict)
    turns: int = 0
    asked: int = 0

    async def write_until(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self._one()

    async def _one(self) -> None:
        chance = self.random.random()
        if chance < 0.7 or not self.pages:
            await self._append()
        elif chance < 0.78:
            await self._begin_turn()
        elif chance < 0.88:
            await self._read()
        elif chance < 0.94:
            await self._fault()
        elif chance < 0.98:
            await self._assemble()
        else:
            await self._flush()

    def _next_id(self) -> str:
        self.asked += 1
        return f"r{self.asked}"

    async def _append(self) -> None:
        request_id = self._next_id()
        texts = {f"p{self.asked}-{number}": self._text() for number in range(self.random.choice((1, 1, 1, 3)))}
        pages = [tool_result(text, page_id=page_id) for page_id, text in texts.items()]
        await self._until_answered(lambda: self.session.append(*pages, request_id=request_id))
        self.pages |= {page_id: sha256(text.encode()).digest() for page_id, text in texts.items()}

    async def _begin_turn(self) -> None:
        request = pb.BeginTurnRequest(request_id=self._next_id(), session_id=self.session.session_id)
        response = await self._until_answered(lambda: self.pagekeeper.api.begin_turn(self.pagekeeper.caller(), request))
        self.turns += 1
        assert response.turn == self.turns

    async def _until_answered(self, ask: Callable[[], Awaitable[R]]) -> R:
        while True:
            try:
                response = await ask()
            except AWAY:
                await self._note_repetition()
            else:
                self.counts.acknowledged += 1
                return response

    async def _read(self) -> None:
        page_id = self.random.choice(list(self.pages))
        try:
            data = await self.session.read(page_id)
        except AWAY:
            await self._note_repetition()
        else:
            assert sha256(data).digest() == self.pages[page_id]
            self.counts.checked_reads += 1

    async def _fault(self) -> None:
        page_id = self.random.choice(list(self.pages))
        try:
            faulted = await self.session.fault(page_id)
        except (FaultLimitReached, FaultTokensExceeded):
            await self._begin_turn()
        except AWAY:
            await self._note_repetition()
        else:
            if faulted.content.level == 0:
                assert sha256(faulted.content.text.encode()).digest() == self.pages[page_id]
            self.counts.checked_reads += 1

    async def _assemble(self) -> None:
        try:
            prompt = await self.session.assemble()
        except AWAY:
            await self._note_repetition()
        else:
            assert prompt.tokens.total <= prompt.tokens.budget
            assert {page.page_id for page in prompt.pages} <= set(self.pages)

    async def _flush(self) -> None:
        try:
            await self.session.flush()
        except AWAY:
            await self._note_repetition()

    async def _note_repetition(self) -> None:
        self.counts.repeated += 1
        await asyncio.sleep(0.05)

    def _text(self) -> str:
        words = self.random.choices(WORDS, k=self.random.randrange(5, 60))
        text = f"{self.random.getrandbits(64):x} " + " ".join(words)
        return text + "." * LARGE_BYTES if self.random.random() < self.large_share else text

    async def verify(self) -> None:
        """Everything that was acknowledged is there once, nothing else is, and the log says the same again."""
        found = [page async for page in self.session.pages()]
        assert [page.page_id for page in found] == list(self.pages)
        assert {page.version for page in found} <= {1}
        for page in found:
            assert sha256(await self.session.read(page.page_id)).digest() == self.pages[page.page_id], page.page_id
        assert (await self.session.get()).turn == self.turns
        assert (await self.session.replay()).matches_served_state


class Load:
    """Writers side by side. Inside `async with` they write; left, they have stopped and all requests are answered."""

    def __init__(self, writers: list[Writer], counts: Counts) -> None:
        self._writers = writers
        self._stop = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self.counts = counts

    @classmethod
    async def on(cls, pagekeeper: Pagekeeper, random: Random, *, writers: int = 4, large_share: float = 0.03) -> "Load":
        counts = Counts()
        sessions = [await pagekeeper.open_session(max_l0_tokens=4_000) for _ in range(writers)]
        return cls([Writer(pagekeeper, one, Random(random.random()), counts, large_share) for one in sessions], counts)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        for writer in self._writers:
            self._group.create_task(writer.write_until(self._stop))
        return self

    async def __aexit__(self, *error: object) -> None:
        self._stop.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self._group.__aexit__(*error)  # type: ignore[arg-type]

    async def progress(self, acknowledgements: int) -> None:
        """Wait until so many more requests have been acknowledged."""
        goal = self.counts.acknowledged + acknowledgements
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.counts.acknowledged < goal:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)

    async def verify(self) -> None:
        for writer in self._writers:
            await writer.verify()
