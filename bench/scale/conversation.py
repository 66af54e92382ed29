"""A conversation in one session, and the operations on it that are measured."""

from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Final

from bench.texts import Texts
from pagekeeper.client import Pagekeeper, Session
from pagekeeper.v1 import page_pb2

BUDGET_TOKENS: Final = 32_000
PAGES_A_CALL: Final = 16
FAULTS_A_TURN: Final = 20
"""A turn's faults are protected from eviction for two turns more: 60 pages of 250 tokens fill half of the window."""
FAULT_CANDIDATES_MAX: Final = 4_000
SEARCH_LIMIT: Final = 10


class Conversation:
    """Grows by whole turns: a question of 300 bytes, an answer of 1 KiB, a tool result of 2 KiB every third turn."""

    def __init__(self, session: Session, texts: Texts) -> None:
        self.session = session
        self.turns = 0
        self.pages = 0
        self._texts = texts
        self._evicted: list[str] = []
        self._faults = 0

    @classmethod
    async def open(cls, pagekeeper: Pagekeeper, texts: Texts) -> "Conversation":
        """A new session with a window of BUDGET_TOKENS, and else as sessions are, but for the faults of a turn."""
        session = await pagekeeper.open_session(
            max_l0_tokens=BUDGET_TOKENS, max_faults_per_turn=FAULTS_A_TURN, max_fault_tokens_per_turn=BUDGET_TOKENS
        )
        return cls(session, texts)

    async def grow(self, *, pages: int = 0, turns: int = 0) -> None:
        """Append whole turns, some in one call, until there are so many pages and so many turns."""
        while self.pages < pages or self.turns < turns:
            batch: list[page_pb2.PageInput] = []
            while len(batch) < PAGES_A_CALL and (self.pages + len(batch) < pages or self.turns < turns):
                batch += self._texts.turn(self.turns)
                self.turns += 1
            await self.session.append(*batch)
            self.pages += len(batch)

    async def turn(self, _: int = 0) -> None:
        """What an application does with one message of its user."""
        await self.session.append(self._texts.question())
        await self.session.assemble(budget_tokens=BUDGET_TOKENS)
        await self.session.append(self._texts.answer())
        self.turns += 1
        self.pages += 2

    async def append(self, number: int) -> None:
        """One page: a question and an answer in turn."""
        await self.session.append(self._texts.answer() if number % 2 else self._texts.question())
        self.turns += 1 - number % 2
        self.pages += 1

    async def assemble(self, number: int = 0) -> None:
        """A prompt for words that ask for nothing of the past."""
        await self.session.assemble(user_input=f"Go on with step {number}, please.", budget_tokens=BUDGET_TOKENS)

    async def assemble_recall(self, _: int = 0) -> None:
        """A prompt for words that ask for the past."""
        question = f"Do you remember what we said about {self._texts.query()} before?"
        await self.session.assemble(user_input=question, budget_tokens=BUDGET_TOKENS)

    async def search(self, _: int = 0) -> None:
        await self.session.search(self._texts.query(), limit=SEARCH_LIMIT)

    async def fault(self, _: int = 0) -> None:
        """Bring in a page that was evicted. A turn begins every FAULTS_A_TURN faults."""
        if not self._evicted:
            resident = {page.page_id for page in (await self.session.assemble(budget_tokens=BUDGET_TOKENS)).pages}
            evicted = [f"p{number}" for number in range(1, self.pages + 1) if f"p{number}" not in resident]
            self._texts.random.shuffle(evicted)
            self._evicted = evicted[:FAULT_CANDIDATES_MAX]
        if self._faults % FAULTS_A_TURN == 0:
            await self.session.begin_turn()
        await self.session.fault(self._evicted[self._faults % len(self._evicted)])
        self._faults += 1


OPERATIONS: Final[Mapping[str, Callable[[Conversation, int], Awaitable[None]]]] = MappingProxyType(
    {
        "turn": Conversation.turn,
        "append": Conversation.append,
        "assemble": Conversation.assemble,
        "assemble_recall": Conversation.assemble_recall,
        "search": Conversation.search,
        "fault": Conversation.fault,
    }
)
"""By the name of their rows. The number is how often the operation was carried out before in that conversation."""
