"""The memory in a program's own process: how much of what a question needs is in its prompts, and what a turn costs.

    python -m bench.quality.own_process evidence [FILE ...]
    python -m bench.quality.own_process turns [--turns N]

`evidence` asks `pagekeeper.memory` alone what `bench.quality.evidence` asks of a stack: the same conversations, page
ids, budgets and questions, and the same rule for when a turn is carried. The memory makes a stack's decisions, so its
shares are a stack's; a difference is a defect.

`turns` speaks N turns to one SessionManager with a prompt of 128,000 tokens: the user's words, a request, the answer.
It prints the median milliseconds of a turn of this process's CPU around turn 100 and at the end, and their ratio.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from statistics import median
from time import process_time
from typing import Final

import click
import uvloop

from bench.quality.baselines import page_id
from bench.quality.carried import carries
from bench.quality.conversations import Conversation, Question, read, shipped
from bench.quality.evidence import BUDGETS, found_files
from bench.quality.report import SEED
from pagekeeper.core.decisions import NewPage
from pagekeeper.core.drafts import page_to_map
from pagekeeper.core.escape import escape
from pagekeeper.core.packing import PackedLine
from pagekeeper.memory import MemoryManager, SessionManager
from pagekeeper.memory.process_prompts import Prompt, PromptRequest

WINDOW: Final = 40
"""Turns whose median is taken."""
EARLY: Final = 100
WORDS_A_TURN: Final = 60


@click.group()
def main() -> None:
    """Measure the memory in a program's own process."""


@main.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
def evidence(files: tuple[Path, ...]) -> None:
    """The share of a question's turns that its prompt carries, by data set and budget."""
    paths = files or tuple(found_files())
    shares: dict[tuple[str, int], list[float]] = {}
    for conversation in [one for path in paths for one in read(path)] or shipped():
        replayed = _Replayed(conversation)
        for question in conversation.questions:
            for budget_tokens, share in replayed.ask(question):
                shares.setdefault((conversation.dataset, budget_tokens), []).append(share)
    for (dataset, budget_tokens), found in sorted(shares.items()):
        click.echo(
            f"{dataset} {budget_tokens:>6,}  in process  {sum(found) / len(found):.4f}  ({len(found)} questions)"
        )


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
        around = self._memory.assemble(PromptRequest(question.text, budget_tokens=budgets[-1] * 2)).chat.tokens
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
@click.option("--turns", default=4_000, show_default=True)
def turns(turns: int) -> None:
    """What a turn costs around turn 100 and at the end of a long conversation."""
    spent = uvloop.run(_speak(turns))
    early, late = (median(spent[end - WINDOW : end]) * 1_000 for end in (EARLY + WINDOW // 2, turns))
    click.echo(f"turn {EARLY}: {early:.2f} ms, turn {turns:,}: {late:.2f} ms, ratio {late / early:.2f}")


async def _speak(turns: int) -> list[float]:
    random = Random(SEED)
    spent: list[float] = []
    names = [f"{random.choice('bcdfgklmnprst')}{random.choice('aeiou')}{n}" for n in range(2_000)]
    sm = SessionManager(enable_vm=True)
    for number in range(turns):
        words = " ".join(random.choices(names, k=WORDS_A_TURN))
        began = process_time()
        await sm.user_says(f"Turn {number}: {words}.")
        await sm.build_request()
        await sm.ai_responds(f"Noted, turn {number}: {words[:200]}.")
        spent.append(process_time() - began)
    return spent


if __name__ == "__main__":
    main()
