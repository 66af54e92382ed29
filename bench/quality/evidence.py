"""How much of what a question needs is in the prompt, at a budget of tokens, without any model.

    python -m bench.quality.evidence [--out FILE] [FILE ...]

A conversation is replayed through the public API of a running stack as pages, one a turn. Then, for each question, a
prompt is asked for at each budget with the question as the user's input, and read for the turns that hold the answer.
Nothing but the words of the question reaches the system; one setting serves all data sets: a session as it comes when
nobody configures anything. Its residents do not fit into these budgets. `pagekeeper, residents fit` is a session that
was opened with the budget for its working set and nothing else said.

A budget counts o200k tokens of everything in the prompt that stands for the conversation: page lines with their
headers, their sections' tags, the manifest with its hints. Rules, tools, message framing, the status and the question
come on top, for every system alike. A turn is carried verbatim, or reduced: see `carried`. `recall` is the mean share
of a question's turns that are carried either way, `recall_full` verbatim; `all_evidence` is the share of questions with
all of them, `ci95` a bootstrap over questions. The baselines in the same run show pages verbatim with the same header.
With `k page_fault` a model that knows the question alone calls `search_pages` with it, then `page_fault` for the first
k pages found that the prompt does not have in full. The calls are made, the faults in a turn of a fork, so that they
change no later prompt; what counts is what the tool messages hold; their tokens come on top of the budget.

The numbers in recall and packing were searched for on samples 1 and 3 of 5 of LoCoMo dev and on chats 1, 3, 5, 7 and 9
of 10 of BEAM-100K; what a call for the past is and may bring in beside residents that fit, on samples 1 and 2 and chats
1 to 3, with chats 4 to 6 in sight. `quality-evidence.json` has the others apart. What they are numbers of (names,
questions, wishes, the model's own words) was decided with all of these conversations in sight.
"""

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from os import environ
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import click
import numpy as np
import uvloop

from bench.quality.baselines import Baselines, Shown
from bench.quality.carried import carries
from bench.quality.conversations import BEAM, GENERATED, LOCOMO, Conversation, Question, read, shipped
from bench.quality.report import SEED, Figure, Wanted, show, write
from pagekeeper.client import Session, connect
from pagekeeper.core.escape import escape
from pagekeeper.local.stack import LocalStack, Topology
from pagekeeper.runtime.tokens import EncodingName, tokenizer
from pagekeeper.v1 import memory_service_pb2 as pb
from pagekeeper.v1 import page_pb2

OURS: Final = "pagekeeper"
OURS_FITTING: Final = "pagekeeper, residents fit"
BUDGETS: Final = {
    LOCOMO: (1_000, 2_000, 4_000, 8_000),
    BEAM: (4_000, 8_000, 16_000, 32_000),
    GENERATED: (2_000, 4_000, 8_000, 16_000),
}
FITTING: Final = {LOCOMO: 8_000, BEAM: 16_000, GENERATED: 8_000}
TARGETS: Final = {LOCOMO: (0.82, 0.88, 0.92, 0.95), BEAM: (0.82, 0.88, 0.92, 0.96)}
STRETCH: Final = {LOCOMO: (0.87, 0.91, 0.95, 0.97), BEAM: (0.88, 0.92, 0.95, 0.97)}
CALLS_MAX: Final = 3
APPENDED_BYTES: Final = 512 * 1024
APPENDED_PAGES: Final = 64
COMPRESSED_PAGES: Final = 32
RESAMPLES: Final = 1_000
DATA_VARIABLE: Final = "PAGEKEEPER_DATA"
_DEFAULT_DATA: Final = Path(__file__).parents[2].parent / "shared" / "data"
_ROLE: Final = {
    "user": page_pb2.MESSAGE_ROLE_USER,
    "assistant": page_pb2.MESSAGE_ROLE_ASSISTANT,
    "tool": page_pb2.MESSAGE_ROLE_TOOL,
    "system": page_pb2.MESSAGE_ROLE_SYSTEM,
}


@dataclass(frozen=True, slots=True)
class Answered:
    """One question to one system at one budget: shares of its evidence, from 0 to 1."""

    dataset: str
    conversation: str
    kind: str
    system: str
    budget_tokens: int
    recall: float
    recall_full: float
    tokens: int

    @property
    def complete(self) -> bool:
        return self.recall == 1.0


@dataclass(frozen=True, slots=True)
class Row:
    """All questions of a data set to one system at one budget."""

    dataset: str
    system: str
    budget_tokens: int
    recall: float
    recall_full: float
    all_evidence: float
    tokens_mean: float
    questions: int
    ci95: tuple[float, float]


@click.command()
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the rows here, a JSON array.")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def main(out: Path | None, files: tuple[Path, ...]) -> None:
    """Measure on FILES, or on what PAGEKEEPER_DATA has, or on the conversation that ships."""
    paths = files or tuple(found_files())
    conversations = [conversation for path in paths for conversation in read(path)] or shipped()
    answered = measure(conversations)
    rows = rows_of(answered)
    show("Evidence in the prompt, at a budget", _figures(rows))
    if out is not None:
        out.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if not files:
        write("evidence", _figures(rows), {"rows": [asdict(row) for row in rows], **_apart(answered)})


def measure(conversations: Sequence[Conversation]) -> list[Answered]:
    """Every question to every system at every budget."""
    count = tokenizer(EncodingName.O200K_BASE).count
    answered: list[Answered] = []
    for conversation in conversations:
        answered += _baselines(conversation, count)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        answered += runner.run(_ours(conversations, count))
    return answered


def rows_of(answered: Sequence[Answered]) -> list[Row]:
    groups: dict[tuple[str, str, int], list[Answered]] = {}
    for one in answered:
        groups.setdefault((one.dataset, one.system, one.budget_tokens), []).append(one)
    return [
        Row(
            *key,
            recall=_mean(one.recall for one in group),
            recall_full=_mean(one.recall_full for one in group),
            all_evidence=_mean(one.complete for one in group),
            tokens_mean=_mean(one.tokens for one in group),
            questions=len(group),
            ci95=interval([one.recall for one in group]),
        )
        for key, group in groups.items()
    ]


def found_files() -> Iterator[Path]:
    folder = Path(environ.get(DATA_VARIABLE, _DEFAULT_DATA))
    yield from sorted(folder.glob("locomo/*.json"))
    yield from sorted(folder.glob("beam/*.json"))


def _baselines(conversation: Conversation, count: Callable[[str], int]) -> Iterator[Answered]:
    baselines = Baselines(conversation, count)
    systems: dict[str, Callable[[str, int], Shown]] = {
        "tail": baselines.tail,
        "sliding window + summary": baselines.window_and_summary,
        "BM25 fill": baselines.bm25,
        "BM25 + neighbours": baselines.bm25_and_neighbours,
        "the guide's system": baselines.guide,
    }
    for system, ask in systems.items():
        for budget_tokens in BUDGETS[conversation.dataset]:
            for question in conversation.questions:
                shown = ask(question.text, budget_tokens)
                full = [number in shown.turns for number in question.evidence]
                summarised = [
                    bool(shown.summary) and carries(shown.summary, conversation.turns[number].text, question.gold)
                    for number in question.evidence
                ]
                yield _answered(conversation, question, system, budget_tokens, full, summarised, shown.tokens)


def _answered(
    conversation: Conversation,
    question: Question,
    system: str,
    budget_tokens: int,
    full: Sequence[bool],
    reduced: Sequence[bool],
    tokens: int,
) -> Answered:
    either = [a or b for a, b in zip(full, reduced, strict=True)]
    return Answered(
        conversation.dataset,
        conversation.name,
        question.kind,
        system,
        budget_tokens,
        sum(either) / len(either),
        sum(full) / len(full),
        tokens,
    )


async def _ours(conversations: Iterable[Conversation], count: Callable[[str], int]) -> list[Answered]:
    answered: list[Answered] = []
    with TemporaryDirectory() as directory:
        async with (
            LocalStack(Path(directory), Topology.ONE) as stack,
            connect(stack.endpoint, stack.token("bench"), call_seconds=600) as pagekeeper,
        ):
            for conversation in conversations:
                replayed = await _Replayed.replay(await pagekeeper.open_session(), conversation, count)
                budget_tokens = FITTING[conversation.dataset]
                session = await pagekeeper.open_session(max_l0_tokens=budget_tokens)
                fitting = await _Replayed.replay(session, conversation, count)
                for question in conversation.questions:
                    answered += await replayed.ask(question)
                    answered.append(await fitting.ask_at(question, budget_tokens))
                click.echo(f"  {conversation.dataset} {conversation.name}", err=True)
    return answered


class _Replayed:
    """A conversation in a session of a running stack, and in a fork of it, where pages are faulted in."""

    def __init__(
        self,
        session: Session,
        fork: Session,
        conversation: Conversation,
        page_ids: Sequence[str],
        count: Callable[[str], int],
    ) -> None:
        """`page_ids` has the id of each turn's page, as the product made it."""
        self._session = session
        self._fork = fork
        self._count = count
        self._conversation = conversation
        self._page_ids = page_ids
        self._read: dict[tuple[str, int], str] = {}

    @classmethod
    async def replay(cls, session: Session, conversation: Conversation, count: Callable[[str], int]) -> "_Replayed":
        page_ids: list[str] = []
        batch: list[page_pb2.PageInput] = []
        size_bytes = 0
        for number, turn in enumerate(conversation.turns, 1):
            batch.append(page_pb2.PageInput(text=turn.text, role=_ROLE[turn.role]))
            size_bytes += len(turn.text.encode())
            if size_bytes > APPENDED_BYTES or len(batch) == APPENDED_PAGES or number == len(conversation.turns):
                page_ids += [page.page_id for page in (await session.append(*batch)).pages]
                batch, size_bytes = [], 0
        for start in range(0, len(page_ids), COMPRESSED_PAGES):
            await session.compress(*page_ids[start : start + COMPRESSED_PAGES])
        return cls(session, await session.fork(), conversation, page_ids, count)

    async def ask(self, question: Question) -> list[Answered]:
        """At every budget; at the least of them with further calls too."""
        budgets = BUDGETS[self._conversation.dataset]
        beside_tokens = await self._beside(question, budgets[-1])
        answered = []
        for budget_tokens in budgets:
            prompt, tokens = await self._prompt(question, budget_tokens, beside_tokens)
            full, reduced = await self._carried(prompt, question)
            answered.append(self._answered(question, OURS, budget_tokens, full, reduced, tokens))
            if budget_tokens == budgets[0]:
                answered += await self._with_calls(question, prompt, budget_tokens, full, reduced)
        return answered

    async def ask_at(self, question: Question, budget_tokens: int) -> Answered:
        """Of a session whose residents fit into this budget."""
        prompt, tokens = await self._prompt(question, budget_tokens, await self._beside(question, budget_tokens))
        full, reduced = await self._carried(prompt, question)
        return self._answered(question, OURS_FITTING, budget_tokens, full, reduced, tokens)

    async def _beside(self, question: Question, budget_tokens: int) -> int:
        """Tokens of a prompt that do not stand for the conversation."""
        prompt = await self._session.assemble(user_input=question.text, budget_tokens=budget_tokens * 2)
        return prompt.tokens.total - prompt.tokens.context - prompt.tokens.manifest

    async def _prompt(
        self, question: Question, budget_tokens: int, beside_tokens: int
    ) -> tuple[pb.AssemblePromptResponse, int]:
        """And its tokens that stand for the conversation."""
        prompt = await self._session.assemble(user_input=question.text, budget_tokens=budget_tokens + beside_tokens)
        tokens = prompt.tokens.context + prompt.tokens.manifest
        if tokens > budget_tokens:
            raise AssertionError(f"{tokens} tokens of {budget_tokens}")
        return prompt, tokens

    async def _carried(self, prompt: pb.AssemblePromptResponse, question: Question) -> tuple[list[bool], list[bool]]:
        """For each turn of the evidence: whether the prompt's text has it verbatim, and whether reduced."""
        text = "\n".join(message.content for message in prompt.messages)
        levels = {page.page_id: page.level for page in prompt.pages}
        full, reduced = [], []
        for number in question.evidence:
            turn = self._conversation.turns[number].text
            level = levels.get(self._page_ids[number])
            full.append(level == 0 and escape(turn) in text)
            shown = await self._representation(self._page_ids[number], level) if level else ""
            reduced.append(bool(shown) and escape(shown) in text and carries(shown, turn, question.gold))
        return full, reduced

    async def _representation(self, page: str, level: int) -> str:
        if (page, level) not in self._read:
            self._read[page, level] = (await self._session.read(page, level=level)).decode()
        return self._read[page, level]

    async def _with_calls(
        self,
        question: Question,
        prompt: pb.AssemblePromptResponse,
        budget_tokens: int,
        full: Sequence[bool],
        reduced: Sequence[bool],
    ) -> list[Answered]:
        """What `search_pages` with the question and `page_fault` of the first pages found add to this prompt."""
        verbatim = {page.page_id for page in prompt.pages if page.level == 0}
        (searched,) = await self._session.handle_tool_calls(_call("search_pages", query=question.text))
        found = [hit["page_id"] for hit in json.loads(searched.content)["results"]]
        wanted = [page for page in found if page not in verbatim][:CALLS_MAX]
        await self._fork.begin_turn()
        faults = [_call("page_fault", page_id=page, target_level=0) for page in wanted]
        messages = await self._fork.handle_tool_calls(*faults) if faults else ()
        tokens = prompt.tokens.context + prompt.tokens.manifest + self._count(searched.content)
        brought: set[str] = set()
        answered = []
        for calls in range(1, CALLS_MAX + 1):
            for message in messages[calls - 1 : calls]:
                tokens += self._count(message.content)
                if text := _text_of(message):
                    brought.add(text)
            faulted = [
                was or self._conversation.turns[number].text in brought
                for was, number in zip(full, question.evidence, strict=True)
            ]
            system = f"{OURS} + {calls} page_fault"
            answered.append(self._answered(question, system, budget_tokens, faulted, reduced, tokens))
        return answered

    def _answered(
        self,
        question: Question,
        system: str,
        budget_tokens: int,
        full: Sequence[bool],
        reduced: Sequence[bool],
        tokens: int,
    ) -> Answered:
        return _answered(self._conversation, question, system, budget_tokens, full, reduced, tokens)


def _call(name: str, **arguments: object) -> pb.ToolCall:
    return pb.ToolCall(id=name, name=name, arguments_json=json.dumps(arguments))


def _text_of(message: pb.ToolMessage) -> str:
    """What a page_fault brought, at full level: nothing when it was refused, as of a page too large for one turn."""
    return "" if message.failure else str(json.loads(message.content)["page"]["content"]["text"])


def _figures(rows: Sequence[Row]) -> list[Figure]:
    figures = []
    for row in rows:
        name = f"{row.dataset} {row.budget_tokens:,}"
        targets = dict(zip(BUDGETS[row.dataset], TARGETS.get(row.dataset, ()), strict=False))
        if row.system == OURS and row.budget_tokens in targets:
            figures.append(
                Figure(name, row.system, row.recall, wanted=Wanted.AT_LEAST, target=targets[row.budget_tokens])
            )
        else:
            figures.append(Figure(name, row.system, row.recall))
    return figures


def _apart(answered: Sequence[Answered]) -> dict[str, Any]:
    """By kind of question, and what nothing was tuned on."""
    kinds: dict[tuple[str, str, str, int], list[float]] = {}
    for one in answered:
        kinds.setdefault((one.dataset, one.system, one.kind, one.budget_tokens), []).append(one.recall)
    held_out = [one for one in answered if not _tuned_on(one)]
    return {
        "by_kind": [
            dict(zip(("dataset", "system", "kind", "budget_tokens"), key, strict=True))
            | {"recall": _mean(values), "questions": len(values)}
            for key, values in kinds.items()
        ],
        "not_tuned_on": [asdict(row) for row in rows_of(held_out)],
    }


def tuned_on(dataset: str, conversation: str) -> bool:
    """Whether the numbers of recall and packing were searched for on this conversation."""
    number = _number(conversation)
    return (dataset == LOCOMO and number in (0, 2)) or (dataset == BEAM and number % 2 == 1)


def _tuned_on(one: Answered) -> bool:
    number = _number(one.conversation)
    if one.system == OURS_FITTING:
        return number in (0, 1) if one.dataset == LOCOMO else one.dataset == BEAM and 1 <= number <= 6
    return tuned_on(one.dataset, one.conversation)


def _number(conversation: str) -> int:
    return int("".join(filter(str.isdigit, conversation.rsplit("-", 1)[-1])) or 0)


def _mean(values: Iterable[float]) -> float:
    return round(float(np.mean([*values])), 4)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """The middle 95 % of the means of resamples."""
    random = np.random.default_rng(SEED)
    drawn = np.asarray(values)[random.integers(0, len(values), (RESAMPLES, len(values)))].mean(axis=1)
    low, high = np.percentile(drawn, (2.5, 97.5))
    return round(float(low), 4), round(float(high), 4)


if __name__ == "__main__":
    main()
