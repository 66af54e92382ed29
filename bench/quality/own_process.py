"""The memory in a program's own process: how much of what a question needs is in its prompts, and what a turn costs.

    python -m bench.quality.own_process evidence [--questions N] [FILE ...]
    python -m bench.quality.own_process turns [--turns N]

`evidence` asks `pagekeeper.memory` alone what `bench.quality.evidence` asks of a stack: the same conversations, page
ids, budgets and questions, and the same rule for when a turn is carried. The memory makes a stack's decisions, so its
shares are a stack's; a difference is a defect. A stack's shares are read from its committed figures. With `--questions`
it asks a few questions of each conversation, evenly chosen, and writes nothing.

`turns` speaks N turns to one SessionManager with a prompt of 128,000 tokens: the user's words, a request, the answer.
Then it compares the milliseconds of this process's CPU that a turn takes: the median of 40 turns at the end of that
conversation, around turn 100 of a second one and around turn 600 of a third one, whose prompts are full. The turns of
the three conversations alternate, so a busy machine slows all of them alike.

Both write bench/results/quality-own-process-*.json.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from statistics import fmean, median
from time import process_time
from typing import Final

import click
import uvloop

from bench.claims import CASE
from bench.quality.baselines import page_id
from bench.quality.carried import carries
from bench.quality.conversations import Conversation, Question, read, shipped
from bench.quality.evidence import BUDGETS, found_files
from bench.quality.evidence import OURS as STACK
from bench.quality.report import RESULTS, SEED, Figure, Wanted, show, write
from pagekeeper.core.decisions import NewPage
from pagekeeper.core.drafts import page_to_map
from pagekeeper.core.escape import escape
from pagekeeper.core.events import DemandPaging
from pagekeeper.core.packing import PackedLine
from pagekeeper.memory import MemoryManager, SessionManager
from pagekeeper.memory.process_prompts import Prompt, PromptRequest

WINDOW: Final = 40
"""Turns whose median is taken."""
EARLY: Final = 100
FULL: Final = 600
"""A turn at which the prompt is as full as it gets."""
TURNS: Final = 4_000
RATIO_MAX: Final = 1.2
SHARE_DIFFERENCE_MAX: Final = 0.01
WORDS_A_TURN: Final = 60
OURS: Final = "pagekeeper.memory"


@click.group()
def main() -> None:
    """Measure the memory in a program's own process."""


@main.command()
@click.option("--questions", type=click.IntRange(min=1), help="Ask so many of each conversation, and write nothing.")
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def evidence(questions: int | None, files: tuple[Path, ...]) -> None:
    """The share of a question's turns that its prompt carries, by data set and budget, beside a stack's share."""
    paths = files or tuple(found_files())
    shares: dict[tuple[str, int], list[float]] = {}
    for conversation in [one for path in paths for one in read(path)] or shipped():
        began = process_time()
        replayed = _Replayed(conversation)
        asked = _some(conversation.questions, questions)
        for question in asked:
            for budget_tokens, share in replayed.ask(question):
                shares.setdefault((conversation.dataset, budget_tokens), []).append(share)
        seconds = process_time() - began
        click.echo(f"{conversation.dataset} {conversation.name}: {len(asked)} questions, {seconds:.0f} s")
    means = {f"{dataset} {budget:,}": fmean(found) for (dataset, budget), found in sorted(shares.items())}
    figures = list(_beside_a_stack(means))
    show("Evidence in the prompt, in a program's own process", figures)
    if not files and questions is None:
        asked_total = {dataset: len(found) for (dataset, _), found in shares.items()}
        write("own-process-evidence", figures, {"questions": asked_total})


def _some(questions: Sequence[Question], limit: int | None) -> Sequence[Question]:
    """So many questions, evenly chosen."""
    return questions if limit is None else questions[:: max(1, len(questions) // limit)][:limit]


def _beside_a_stack(means: Mapping[str, float]) -> Iterator[Figure]:
    """The share by budget, and where a stack's is known, how far apart the two are."""
    committed = json.loads((RESULTS / "quality-evidence.json").read_text())["figures"]
    of_a_stack = {one["name"]: one["value"] for one in committed if one["system"] == STACK}
    for name, share in means.items():
        yield Figure(f"{name}{CASE}in process", OURS, round(share, 4), "", Wanted.REPORTED)
        if name in of_a_stack:
            yield Figure(f"{name}{CASE}in a stack", STACK, of_a_stack[name], "", Wanted.REPORTED)
            apart = round(abs(share - of_a_stack[name]), 4)
            yield Figure(f"{name}{CASE}difference", OURS, apart, "", Wanted.AT_MOST, SHARE_DIFFERENCE_MAX)


class _Replayed:
    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation
        self._memory = MemoryManager()
        process = self._memory._process  # noqa: SLF001 - pages go in as a stack's append takes them
        ids = []
        for number, turn in enumerate(conversation.turns):
            full = process.log.stored(turn.text.encode())
            process.append(NewPage(page_to_map(page_id(number), full, turn.text, role=turn.role), new_version=False))
            ids.append(page_id(number))
        process.compress([one for one in ids if len(process.session.pages[one].current.representations) == 1])
        self._process = process

    def ask(self, question: Question) -> Iterator[tuple[int, float]]:
        budgets = BUDGETS[self._conversation.dataset]
        # What stands beside the pages is the same whatever is recalled, and recalling takes most of the time.
        beside = PromptRequest(question.text, budget_tokens=budgets[-1] * 2, demand_paging=DemandPaging.MODEL)
        around = self._memory.assemble(beside).chat.tokens
        beside_tokens = around.total - around.context - around.manifest
        for budget_tokens in budgets:
            prompt = self._memory.assemble(PromptRequest(question.text, budget_tokens=budget_tokens + beside_tokens))
            assert prompt.chat.tokens.context + prompt.chat.tokens.manifest <= budget_tokens
            yield budget_tokens, self._share(prompt, question)

    def _share(self, prompt: Prompt, question: Question) -> float:
        shown = {line.page_id: line.level for line in _lines(prompt)}
        text = "".join(message.content for message in prompt.chat.messages)
        carried = [self._carried(shown.get(page_id(number)), text, number, question) for number in question.evidence]
        return sum(carried) / len(carried)

    def _carried(self, level: int | None, text: str, number: int, question: Question) -> bool:
        turn = self._conversation.turns[number].text
        if level is None or level == 0:
            return level == 0 and escape(turn) in text
        reduced = self._process.text(self._process.session.pages[page_id(number)], level)
        return escape(reduced) in text and carries(reduced, turn, question.gold)


def _lines(prompt: Prompt) -> Sequence[PackedLine]:
    return (*prompt.chat.included, *prompt.chat.faulted, *prompt.chat.recalled)


@main.command()
@click.option("--turns", default=TURNS, show_default=True, type=click.IntRange(min=FULL + WINDOW))
def turns(turns: int) -> None:
    """What a turn costs at the end of a long conversation, around turn 100 and around turn 600."""
    spent = uvloop.run(_spent(turns))
    early, full, late = (median(spent[at]) * 1_000 for at in (EARLY, FULL, turns))
    figures = [
        Figure(f"CPU of turn {turns:,} / of turn {EARLY}", OURS, round(late / early, 3), "", Wanted.AT_MOST, RATIO_MAX),
        Figure(f"CPU of turn {turns:,} / of turn {FULL}", OURS, round(late / full, 3), "", Wanted.AT_MOST, RATIO_MAX),
        *(Figure(f"CPU of turn {at:,}", OURS, round(median(spent[at]) * 1_000, 3), "ms") for at in spent),
    ]
    show("What a turn costs in a program's own process", figures)
    if turns >= TURNS:
        write("own-process-turns", figures, {"turns": turns, "window": WINDOW})


async def _spent(turns: int) -> dict[int, list[float]]:
    """Seconds of CPU that each turn of a window took, by the turn in the window's middle; the last window's by its end.

    One turn of each conversation after the other.
    """
    starts = {EARLY: EARLY - WINDOW // 2, FULL: FULL - WINDOW // 2, turns: turns - WINDOW}
    spoken = {at: _Spoken() for at in starts}
    for at, before in starts.items():
        for _ in range(before):
            await spoken[at].turn()
    spent: dict[int, list[float]] = {at: [] for at in starts}
    for _ in range(WINDOW):
        for at, conversation in spoken.items():
            spent[at].append(await conversation.turn())
    return spent


class _Spoken:
    """A conversation of drawn words. Each has the same words at the same turn."""

    def __init__(self) -> None:
        self._random = Random(SEED)
        choice = self._random.choice
        self._names = [f"{choice('bcdfgklmnprst')}{choice('aeiou')}{n}" for n in range(2_000)]
        self._sm = SessionManager(enable_vm=True)
        self._turns = 0

    async def turn(self) -> float:
        """Speak one more turn. The answer is the seconds of this process's CPU that it took."""
        words = " ".join(self._random.choices(self._names, k=WORDS_A_TURN))
        number, self._turns = self._turns, self._turns + 1
        began = process_time()
        await self._sm.user_says(f"Turn {number}: {words}.")
        await self._sm.build_request()
        await self._sm.ai_responds(f"Noted, turn {number}: {words[:200]}.")
        return process_time() - began


if __name__ == "__main__":
    main()
