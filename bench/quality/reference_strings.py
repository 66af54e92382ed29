"""Reference strings: which page is wanted when, so that replacement policies can be compared on the same demands.

An access to a page or version that was not seen before brings something new, which every policy has to let in; any
other access is a re-access, which costs a fault when the page has left. Agent traces are drawn from a seed: reads are
about three quarters of what tools answer. Conversations are appended turn by turn and asked about afterwards; the
evidence of a question is what it re-accesses.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

from demo.corpus.generate import generate
from demo.corpus.load import load_conversations
from demo.corpus.types import Conversation, Role
from pagekeeper.core.eviction import MESSAGE_ROLES
from pagekeeper.core.pages import RECALL_LIKELIHOOD_PERCENT, MessageRole, PageType
from pagekeeper.core.sentences import recall_likelihood_percent_of
from pagekeeper.runtime.tokens import Tokenizer

MEMORY_TOKENS: Final = 32_000
"""What an agent's pages may take together."""
CALLS_MIN: Final = 100
CALLS_MAX: Final = 1_400
CHATTER: Final = 0.4
"""How often something comes between reads that is not wanted again: reads are three quarters of what tools answer."""
RETURNING: Final = 0.9
"""How sure the oracle is, on a detour, that its files are wanted before any other."""
HEADER_TOKENS: Final = 14
"""About what a page's line takes beside its text."""


@dataclass(frozen=True, slots=True)
class Access:
    """In `turn`, a page is wanted as of `version`. `size_tokens` is that version's line."""

    page_id: str
    version: int
    size_tokens: int
    turn: int
    role: MessageRole = MessageRole.TOOL
    page_type: PageType = PageType.ARTIFACT
    tool_name: str = ""
    recall_likelihood_percent: int = RECALL_LIKELIHOOD_PERCENT
    """As the platform reads it from the page's words."""


@dataclass(frozen=True, slots=True)
class ReferenceString:
    name: str
    family: str
    memory_tokens: int
    accesses: Sequence[Access]
    odds: Sequence[tuple[int, Mapping[str, float]]] = ()
    """From that access on, what the draw wants next and how likely: what a policy could know at best, short of the
    future itself. Pages that are not in it are not drawn again before that changes. Empty where the order is fixed."""


@dataclass(slots=True)
class _Agent:
    """Draws what an agent wants. Every call is a turn; outputs that nobody wants again are new pages each time."""

    random: Random
    accesses: list[Access] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    odds: list[tuple[int, Mapping[str, float]]] = field(default_factory=list)
    turn: int = 0
    outputs: int = 0

    def expect(self, *draws: tuple[float, Sequence[str], float]) -> None:
        """From here on, files are drawn from sets: the set's share, its files and the skew of the draw."""
        odds: dict[str, float] = {}
        for share, files, skew in draws:
            weights = _weights(files, skew)
            for page_id, weight in zip(files, weights, strict=True):
                odds[page_id] = odds.get(page_id, 0.0) + share * weight / sum(weights)
        self.odds.append((len(self.accesses), odds))

    def size_tokens(self, median: float, spread: float = 0.8) -> int:
        return int(min(6_000, max(40, self.random.lognormvariate(log(median), spread))))

    def files(self, name: str, total_tokens: float) -> list[str]:
        """New files of that many tokens together."""
        files: list[str] = []
        while total_tokens > 0:
            page_id = f"{name}-{len(files)}"
            self.sizes[page_id] = self.size_tokens(800)
            self.versions[page_id] = 1
            total_tokens -= self.sizes[page_id]
            files.append(page_id)
        return files

    def read(self, page_id: str) -> None:
        self.turn += 1
        self.accesses.append(
            Access(page_id, self.versions[page_id], self.sizes[page_id], self.turn, tool_name="read_file")
        )

    def edit(self, page_id: str) -> None:
        """The file says something else from here on, and its next reader sees that."""
        self.versions[page_id] += 1
        self.sizes[page_id] = max(40, int(self.sizes[page_id] * self.random.uniform(0.9, 1.15)))
        self.read(page_id)

    def chatter(self) -> None:
        """What comes between reads and is not wanted again: a listing, a test's output, a message."""
        kind = self.random.random()
        if kind < 0.45:
            self._once(MessageRole.TOOL, PageType.ARTIFACT, "list_files", 500)
        elif kind < 0.7:
            self._once(MessageRole.ASSISTANT, PageType.TRANSCRIPT, "", 90)
        else:
            self._once(MessageRole.TOOL, PageType.ARTIFACT, "run_tests", 1_500)

    def _once(self, role: MessageRole, page_type: PageType, tool_name: str, median: float) -> None:
        self.turn += 1
        self.outputs += 1
        size = self.size_tokens(median)
        self.accesses.append(Access(f"output-{self.outputs}", 1, size, self.turn, role, page_type, tool_name))

    def popular(self, files: Sequence[str], skew: float = 0.9) -> str:
        """One of the files, the first ones more often than the last."""
        return self.random.choices(files, _weights(files, skew))[0]


def _weights(files: Sequence[str], skew: float) -> list[float]:
    return [1 / (rank + 1) ** skew for rank in range(len(files))]


def _loop(agent: _Agent, calls: int, prefix: str = "loop") -> None:
    """The same files over and over, more of them than memory holds: review rounds, failing builds, checklists."""
    files = agent.files(prefix, MEMORY_TOKENS * agent.random.uniform(1.15, 2.2))
    plan = agent.files(f"{prefix}-plan", 1_000)
    last = agent.turn + calls
    while agent.turn < last:
        for page_id in files:
            agent.read(page_id)
            if agent.random.random() < CHATTER:
                agent.chatter()
            if agent.random.random() < 0.08:
                agent.read(agent.random.choice(plan))
            if agent.turn >= last:
                return


def _scan(agent: _Agent, calls: int, prefix: str = "scan") -> None:
    """A hot set that fits, and now and then a sweep over files that are read once."""
    hot = agent.files(f"{prefix}-hot", MEMORY_TOKENS * agent.random.uniform(0.5, 0.8))
    last, sweeps = agent.turn + calls, 0
    agent.expect((1.0, hot, 0.6))
    while agent.turn < last:
        for _ in range(agent.random.randint(30, 70)):
            agent.read(agent.popular(hot, 0.6))
            if agent.random.random() < CHATTER:
                agent.chatter()
        sweeps += 1
        for page_id in agent.files(f"{prefix}-sweep{sweeps}", MEMORY_TOKENS * agent.random.uniform(0.5, 1.5)):
            agent.read(page_id)


def _phases(agent: _Agent, calls: int, prefix: str = "phase") -> None:
    """One task after another, each with files of its own and some that all share; some tasks are taken up again."""
    shared = agent.files(f"{prefix}-shared", MEMORY_TOKENS * 0.15)
    tasks: list[list[str]] = []
    last = agent.turn + calls
    while agent.turn < last:
        if tasks and agent.random.random() < 0.25:
            files = agent.random.choice(tasks)
        else:
            files = agent.files(f"{prefix}-{len(tasks)}", MEMORY_TOKENS * agent.random.uniform(0.8, 1.4))
            tasks.append(files)
        agent.expect((0.15, shared, 0.9), (0.85, files, 0.9))
        for _ in range(agent.random.randint(60, 150)):
            agent.read(agent.popular(shared if agent.random.random() < 0.15 else files))
            if agent.random.random() < CHATTER:
                agent.chatter()


def _edits(agent: _Agent, calls: int, prefix: str = "edit") -> None:
    """Read, change, test: what was read before a change is worth nothing after it."""
    files = agent.files(prefix, MEMORY_TOKENS * agent.random.uniform(1.5, 3))
    last = agent.turn + calls
    while agent.turn < last:
        around = agent.random.randrange(len(files))
        nearby = [files[(around + offset) % len(files)] for offset in range(agent.random.randint(4, 9))]
        agent.expect((0.25, nearby, 0.0), (0.5, nearby, 0.5), (0.25, files, 0.9))
        for _ in range(agent.random.randint(10, 35)):
            chance = agent.random.random()
            if agent.random.random() < CHATTER:
                agent.chatter()
            if chance < 0.25:
                agent.edit(agent.random.choice(nearby))
            else:
                agent.read(agent.popular(nearby, 0.5) if chance < 0.75 else agent.popular(files))


def _detours(agent: _Agent, calls: int) -> None:
    """From one file into those that it leads to, and back through them: what was read last is wanted first."""
    files = agent.files("file", MEMORY_TOKENS * agent.random.uniform(2, 4))
    last = agent.turn + calls
    while agent.turn < last:
        path = [agent.random.randrange(len(files)) for _ in range(agent.random.randint(3, 14))]
        if agent.random.random() < 0.6:
            path = [(path[0] + 3 * step) % len(files) for step in range(len(path))]
        for step, position in enumerate(path):
            agent.expect((1 - RETURNING, files, 0.0), (RETURNING, [files[seen] for seen in path[:step]], 0.0))
            agent.read(files[position])
            if agent.random.random() < CHATTER:
                agent.chatter()
        for step, position in reversed(list(enumerate(path[:-1]))):
            agent.expect((1 - RETURNING, files, 0.0), (RETURNING, [files[seen] for seen in path[: step + 1]], 0.0))
            if agent.random.random() < 0.25:
                agent.edit(files[position])
            else:
                agent.read(files[position])


def _mixed(agent: _Agent, calls: int) -> None:
    """Pieces of all of the above, one after the other."""
    last, piece = agent.turn + calls, 0
    while agent.turn < last:
        piece += 1
        draw = agent.random.choice((_loop, _scan, _phases, _edits))
        draw(agent, min(agent.random.randint(80, 260), last - agent.turn), f"piece{piece}")


FAMILIES: Final[Mapping[str, Callable[[_Agent, int], None]]] = {
    "loops": _loop,
    "scans": _scan,
    "phases": _phases,
    "edits": _edits,
    "mixed": _mixed,
    "detours": _detours,
}


_SEED_WORDS: Final = {"detours": "excursions"}
"""What a family was called when its traces were first drawn: another word would draw others."""


def agent_trace(family: str, seed: int) -> ReferenceString:
    """A session of 100 to 1,400 calls."""
    agent = _Agent(Random(f"{_SEED_WORDS.get(family, family)}/{seed}"))
    calls = int(CALLS_MIN * (CALLS_MAX / CALLS_MIN) ** agent.random.random())
    FAMILIES[family](agent, calls)
    odds = () if family == "mixed" else agent.odds  # Its loops have none.
    return ReferenceString(f"{family}-{seed}", family, MEMORY_TOKENS, agent.accesses[:CALLS_MAX], odds)


_ROLES: Final = {
    Role.SYSTEM: MessageRole.ASSISTANT,
    Role.USER: MessageRole.USER,
    Role.ASSISTANT: MessageRole.ASSISTANT,
    Role.TOOL: MessageRole.TOOL,
}


def conversation_trace(
    conversation: Conversation, family: str, memory_share: float, tokenizer: Tokenizer
) -> ReferenceString:
    """The conversation's pages in order; a question is a turn that wants its evidence. Memory is a share of it all."""
    known: dict[str, Access] = {}
    accesses: list[Access] = []
    for turn, exchange in enumerate(conversation.turns, 1):
        for message in (*exchange.question, *exchange.reply):
            size = tokenizer.count(message.text) + HEADER_TOKENS
            role = _ROLES[message.role]
            telling = recall_likelihood_percent_of(message.text) if role in MESSAGE_ROLES else RECALL_LIKELIHOOD_PERCENT
            known[message.page_id] = Access(
                message.page_id, 1, size, turn, role, PageType.TRANSCRIPT, recall_likelihood_percent=telling
            )
            accesses.append(known[message.page_id])
        if exchange.recall is not None:
            accesses += (replace(known[page_id], turn=turn) for page_id in exchange.recall.evidence)
    total = sum(access.size_tokens for access in known.values())
    return ReferenceString(conversation.name, family, int(total * memory_share), accesses)


def conversations(folder: Path | None, generated: int) -> Iterator[tuple[str, Conversation]]:
    """Family and conversation: those of the folder, and so many that are generated."""
    for family in ("locomo", "beam"):
        for path in sorted((folder / family).glob("*.json")) if folder else ():
            for conversation in load_conversations(path):
                yield family, conversation
    with TemporaryDirectory() as directory:
        for seed in range(1, generated + 1):
            path = Path(directory, f"generated-{seed}.jsonl")
            path.write_text(generate(seed), encoding="utf-8")
            yield "generated", load_conversations(path)[0]
